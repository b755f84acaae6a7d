// A PushManager as browsers have it: one subscription at a time, for one key.

/** What a try to subscribe comes to, when it is not a success. @typedef {'hangs' | DOMException} Trouble */

export class PushManager {
  /** @type {Subscription | null} */
  subscription = null;
  /** @type {any[]} */
  asked = [];
  /** @type {Trouble[]} for the next tries, one each */
  trouble = [];
  #n = 0;

  /** @param {any} options */
  async subscribe(options) {
    this.asked.push(options);
    const trouble = this.trouble.shift();
    if (trouble === 'hangs') return new Promise(() => {});
    if (trouble) throw trouble;
    if (options.userVisibleOnly !== true) throw new DOMException('must be visible', 'NotAllowedError');
    const key = new Uint8Array(options.applicationServerKey);
    if (key.length !== 65) throw new DOMException('not a key', 'InvalidAccessError');
    if (this.subscription && !same(this.subscription.options.applicationServerKey, key)) {
      throw new DOMException('another key', 'InvalidStateError');
    }
    this.subscription ??= new Subscription(this, `https://push.example/${++this.#n}`, key);
    return this.subscription;
  }

  async getSubscription() {
    return this.subscription;
  }

  /**
   * The browser replaces the subscription by itself.
   *
   * @returns {Subscription}
   */
  renew() {
    const old = /** @type {Subscription} */ (this.subscription);
    this.subscription = new Subscription(this, `https://push.example/${++this.#n}`, new Uint8Array(old.options.applicationServerKey));
    return this.subscription;
  }
}

export class Subscription {
  #manager;
  /** @type {number | null} */
  expirationTime = null;

  /**
   * @param {PushManager} manager
   * @param {string} endpoint
   * @param {Uint8Array} key
   */
  constructor(manager, endpoint, key) {
    this.#manager = manager;
    this.endpoint = endpoint;
    /** @type {{ applicationServerKey: any }} */
    this.options = { applicationServerKey: key.slice().buffer };
  }

  async unsubscribe() {
    if (this.#manager.subscription !== this) return false;
    this.#manager.subscription = null;
    return true;
  }

  toJSON() {
    return { endpoint: this.endpoint, expirationTime: this.expirationTime, keys: { p256dh: 'BA', auth: 'AA' } };
  }
}

/**
 * @param {ArrayBuffer} a
 * @param {Uint8Array} b
 */
function same(a, b) {
  return Buffer.from(a).equals(b);
}
