// @ts-check
//! Belfry's page kit, https://github.com/belfry-push/belfry/blob/main/serviceworker/belfry.js
//
// It registers this browser for notifications, from a click,
// and keeps that registration whole. What arrives is shown by the worker, sw.js.
//
//     import { connect } from '/belfry.js';
//     const belfry = connect();
//     belfry.addEventListener('state', () => render(belfry.state, belfry.reason));
//     button.onclick = () => belfry.subscribe(['news']);
//     belfry.listen(['news'], ({ message }) => show(message.title));
//
// It has no dependency, and stores what it needs in IndexedDB:
// the device's id and secret, a hash of the endpoint, the key's id, the channels,
// the ids of messages that were seen, and receipts until the server has them.
// What listens is in live.js.

const MINUTE = 60_000;
const QUESTION_LIMIT = MINUTE; // for a person to answer the browser's question
const SUBSCRIBE_LIMIT = MINUTE / 2; // for all that follows the answer
const WORKER_LIMIT = 10_000; // for a worker to become active (BR-04)
const SERVER_LIMIT = 10_000; // for one answer of the server
const BROWSER_LIMIT = 3_000; // for what a browser does without a network

// What is asked of a push service in the first two seconds of Firefox's life
// never settles, and without a push service Chromium's never does. So it is
// asked again; an answer to an earlier try still counts.
const TRIES = [3_000, 5_000, 7_000];
const OTHERS = 1_000; // for tries that were still open when one was answered
const PAUSE = 1_000; // after a try that failed at once

const GIVEN_UP = 410; // stands for a row that the server has no more, as if it said so

const CHECK_EVERY = 6 * 60 * MINUTE; // between two questions to the server, in one tab (BR-10)
const RENEW_BEFORE = 60 * MINUTE; // before a subscription expires (BR-09)
const KEEP_DISMISSED = 30 * 24 * 60 * MINUTE; // that a question waved away is remembered (BR-05)

/**
 * Where a browser stands; what each means is told at {@link Belfry.state}.
 *
 * @typedef {'unsupported' | 'insecure' | 'needs-install' | 'private-mode' | 'denied' | 'dismissed' | 'off' | 'on' | 'stale'} State
 */

/**
 * Why something could not be done; what each means is told at {@link BelfryError.code}.
 *
 * @typedef {'unsupported' | 'insecure' | 'needs-install' | 'private-mode' | 'denied' | 'dismissed' | 'worker' | 'push-service'
 *   | 'timeout' | 'unreachable' | 'busy' | 'refused' | 'storage' | 'not-subscribed' | 'user-token'} Code
 */

/**
 * A message as an open page hears it. What the operator wrote is data: put it on a page by textContent.
 *
 * @typedef {{ id: string, channels: string[], time: string, cursor: string,
 *   message: { title: string, body?: string, url?: string, lang?: string, variants?: Record<string, object>, [member: string]: unknown } }} LiveEvent
 */

/**
 * Why messages were missed for good: `gap`, `overflow` (older ones than the server keeps), `epoch`, `unknown` (all since the page was last connected).
 *
 * @typedef {{ reason: string, requested: string, earliest: string, latest: string }} LiveReset
 */

/** What went wrong and the way out, for people. */
const WORDS = /** @satisfies {Record<Code, [what: string, wayOut: string]>} */ ({
  unsupported: ['This browser cannot receive notifications from websites.', 'Try a current version of Firefox, Chrome, Edge or Safari.'],
  insecure: ['Notifications need a secure connection.', 'Open this page over https.'],
  'needs-install': ['On this device, only apps on the Home Screen may notify you.', 'Tap Share, then "Add to Home Screen", and open it from there (iOS 16.4 or later).'],
  'private-mode': ['A private window cannot receive notifications.', 'Open this page in a normal window.'],
  denied: ['Notifications from this site are blocked.', 'Allow them in the browser\'s settings for this site, then come back.'],
  dismissed: ['The browser\'s question was closed without an answer.', 'Ask again, and choose "Allow".'],
  worker: ['The site\'s service worker could not be started.', 'Reload the page and try again.'],
  'push-service': ['The browser could not register with its push service.', 'Check the connection and try again; some networks and some settings block it.'],
  timeout: ['The browser\'s push service did not answer.', 'Try again in a moment.'],
  unreachable: ['The server could not be reached.', 'Check the connection and try again.'],
  busy: ['The server is busy.', 'Try again in a moment.'],
  refused: ['The server refused.', 'Reload the page and try again.'],
  storage: ['This browser keeps no data for this site.', 'Allow site data, or leave private browsing, and try again.'],
  'user-token': ['The site could not say who you are.', 'Reload the page, sign in again, and try again.'],
  'not-subscribed': ['This browser is not registered.', 'Turn notifications on first.'],
});

/** An error with a code that a program can act on, and words that a person can. */
export class BelfryError extends Error {
  /**
   * @param {Code} code
   * @param {{ message?: string, hint?: string, status?: number, problem?: string, retryAfter?: number | null, cause?: unknown }} [more]
   */
  constructor(code, more = {}) {
    const [what, wayOut] = WORDS[code];
    super(more.message || what, { cause: more.cause });
    this.name = 'BelfryError';
    /**
     * One of a closed list. The first six are states; then
     * `worker`: the service worker's file could not be started.
     * `push-service`: the browser could not reach its push service, or was refused by it. `timeout`: that one never answered.
     * `unreachable`: the Belfry server gave no answer. `busy`: it asks to come back later. `refused`: it said no.
     * `storage`: this browser keeps nothing for this site. `not-subscribed`: subscribe first. `user-token`: the site gave none.
     */
    this.code = code;
    /** The way out. */
    this.hint = more.hint || wayOut;
    /** The server's HTTP status; 0 where there was no answer. */
    this.status = more.status ?? 0;
    /** The server's own code for what is wrong; may be empty. */
    this.problem = more.problem ?? '';
    /** Seconds to wait before trying again, if the server said so. */
    this.retryAfter = more.retryAfter ?? null;
  }
}

/**
 * Gives a token of who is signed in, as the site's backend signs them, or null or '' where nobody is. It is asked
 * whenever a fresh one is needed.
 *
 * @typedef {() => string | null | Promise<string | null>} UserToken
 */

/**
 * Finds out where this browser stands, repairs what can be repaired without
 * asking, and returns the handle. It never asks for permission.
 *
 * @param {object} [options]
 * @param {string} [options.server] the Belfry server; by default the one that this file came from
 * @param {string} [options.worker] the worker's file, on this very origin
 * @param {string} [options.scope] the worker's scope; by default the folder of its file
 * @param {UserToken} [options.userToken] says who is signed in; without it everybody is a stranger
 * @returns {Belfry}
 */
export function connect({ server = home(), worker = '/sw.js', scope, userToken } = {}) {
  return new Belfry(server, worker, scope, userToken);
}

/**
 * A live message as it reads in a language, which is the browser's unless the page has another: with the variant that a
 * push would have, found by lookup (RFC 4647 §3.4), or as it is.
 *
 * @param {LiveEvent['message']} message
 * @param {string} [language] its tag
 * @returns {LiveEvent['message']}
 */
export function worded(message, language = navigator.language) {
  const { variants = {}, lang = '' } = message;
  for (let wanted = language.toLowerCase(); wanted && wanted !== lang.toLowerCase(); wanted = broader(wanted)) {
    const tag = Object.keys(variants).find((tag) => tag.toLowerCase() === wanted);
    if (tag) return { ...message, ...variants[tag], lang: tag };
  }
  return message;
}

/**
 * @param {string} tag
 * @returns {string} it without its last subtag, nor the single letter before that
 */
function broader(tag) {
  return tag.replace(/(-[^-])?-[^-]*$|^[^-]+$/, '');
}

/** @returns {string} */
function home() {
  if (!/^https?:/.test(import.meta.url)) throw new TypeError("belfry: say where the server is: connect({ server: 'https://…' })");
  return new URL('.', import.meta.url).href;
}

/**
 * This browser's registration, and its ear. Made by {@link connect}; fires `state` when it
 * has looked, and whenever state, reason, channels or device may have changed.
 *
 * While the page listens, it fires `message` with a {@link LiveEvent} as its detail, `reset` with a {@link LiveReset}, and
 * `transport` with `{ transport, reason? }`: how messages come now, one of `sse`, `fetch`, `websocket`, `long-poll`,
 * `short-poll`, or empty while they do not.
 */
export class Belfry extends EventTarget {
  #server;
  #worker;
  #scope;
  #userToken;
  /** @type {State} */ #state = 'off';
  #reason = '';
  /** @type {Device | null} */ #device = null;
  /** @type {Promise<unknown>} */ #turn = Promise.resolve();
  /** @type {Promise<Tabs> | null} */ #tabs = null;
  /** All pages of this origin that have the kit. @type {BroadcastChannel | null} */ #pages = null;
  #last = ''; // what was told by state
  #broken = ''; // the device that could not be repaired

  /**
   * @param {string} server
   * @param {string} worker
   * @param {string} [scope]
   * @param {UserToken} [userToken]
   */
  constructor(server, worker, scope, userToken) {
    super();
    this.#server = new URL(server, document.baseURI).href.replace(/\/+$/, '');
    this.#worker = new URL(worker, document.baseURI).href;
    this.#scope = scope === undefined ? new URL('.', this.#worker).href : new URL(scope, document.baseURI).href;
    this.#userToken = userToken;
    this.#inTurn(() => this.#check('seldom')).catch(() => {}).then(sayGoodbye).then(() => tellAll(globalThis)).catch(() => {});
    this.#watch();
    this.#comesByLink().catch(() => {});
  }

  /**
   * Where this browser stands, also when another tab or the browser's settings have changed that.
   * `unsupported`, `insecure`, `needs-install`, `private-mode`: it cannot be rung here, and {@link reason} says why.
   * `denied`: the person said no, and only the browser's settings can change that.
   * `dismissed`: the browser's question was closed without an answer in the last 30 days.
   * `off`: not registered, or not yet looked. `on`: registered.
   * `stale`: registered, but something broke that could not be repaired yet; the next page load tries again.
   *
   * @returns {State}
   */
  get state() { return this.#state; }

  /** Why, and the way out, in a sentence that can be shown; empty for `off` and `on`. */
  get reason() { return this.#reason; }

  /** The channels that this browser is registered for. @returns {string[]} */
  get channels() { return [...(this.#device?.channels ?? [])]; }

  /** The id under which the server knows this browser, or null. @returns {string | null} */
  get device() { return this.#device?.id ?? null; }

  /**
   * Registers this browser for channels. Call it from a click, and before
   * anything that waits: browsers ask for permission only then.
   *
   * @param {string[]} [channels]
   * @returns {Promise<void>} rejects with a {@link BelfryError}; never hangs
   */
  async subscribe(channels = []) {
    const chosen = names(channels);
    await this.#permission();
    const left = clock(SUBSCRIBE_LIMIT);
    await this.#inTurn(async () => {
      await this.#enrol(chosen, left);
      checked();
      this.#become('on');
    });
  }

  /**
   * Chooses other channels.
   *
   * @param {string[]} channels
   * @returns {Promise<void>}
   */
  async setChannels(channels) {
    const chosen = names(channels);
    await this.#inTurn(async () => {
      const device = await this.#load();
      if (!device || this.#state === 'off') throw new BelfryError('not-subscribed');
      const user = await this.#user();
      const answer = await call(device.server, 'PUT', `/v1/subscriptions/${device.id}`, { secret: device.secret, user, body: { channels: chosen, ...signedOut(user) } });
      if (lost(answer)) await this.#enrol(chosen, clock(SUBSCRIBE_LIMIT));
      else if (answer.status === 200) await this.#keep({ ...device, channels: listed(answer, chosen) }, device);
      else throw failure(answer);
      this.#become('on');
    });
  }

  /**
   * Ends the registration: at the server first, so that nobody rings a browser
   * that no longer listens. If the server is down, the next page load tells it (BR-14).
   *
   * @returns {Promise<void>}
   */
  async unsubscribe() {
    await this.#inTurn(async () => {
      const device = await this.#load();
      if (device) await leave(device);
      const forgotten = await edit('device', () => undefined);
      await edit('receipts', () => undefined);
      this.#pages?.postMessage(null);
      const subscription = await this.#subscription();
      if (subscription) await end(subscription);
      // A device that is still kept would be healed by the next page load, against the person's will.
      if (!forgotten) throw new BelfryError('storage');
      this.#device = null;
      this.#become('off');
    });
  }

  /**
   * Checks the registration against browser and server, and repairs it without
   * asking. Call it when somebody signs in or out, too: the registration is theirs then, or nobody's, and so is what all
   * tabs hear. It runs by itself on every page load, and asks the server then at most every 6 h in one tab, unless
   * something is plainly wrong; called by hand it always does.
   *
   * @returns {Promise<State>}
   */
  async reconcile() {
    this.#askAnew();
    return this.#inTurn(() => this.#check('always'));
  }

  /**
   * Hears live what is broadcast to channels, and what is for all, while this page is open. It needs neither registration
   * nor permission, never gives up, and goes on where it was when the connection is back. Each message is given once.
   * Where a user token is given, what is for that user is heard, too, and private channels that it opens.
   *
   * @param {string[]} channels
   * @param {(event: LiveEvent) => void} onMessage
   * @param {{ onReset?: (reset: LiveReset) => void }} [options] onReset is told when messages were missed for good
   * @returns {() => void} stops listening
   */
  listen(channels, onMessage, { onReset } = {}) {
    const chosen = names(channels);
    // One that the server refuses would keep all tabs of this browser from listening.
    const wrong = chosen.find((name) => !/^[a-z0-9][a-z0-9._-]{0,63}$/.test(name) || (name.startsWith('private-') && !this.#userToken));
    if (wrong !== undefined) throw new TypeError(`belfry: nobody can listen to a channel named ${JSON.stringify(wrong)}`);
    this.#tabs ??= live().then(({ Tabs }) => new Tabs(globalThis, this.#server, this, () => this.#proof(), (/** @type {string} */ id) => this.#seen(id),
      this.#userToken && (async () => (await this.#user()) ?? '')));
    let stopped = false;
    let stop = () => { stopped = true; };
    this.#tabs.then((tabs) => { if (!stopped) stop = tabs.join(chosen, onMessage, onReset); });
    return () => stop();
  }

  /** Has whoever listens, in whichever tab, ask again who is signed in: only one tab has the connection. */
  #askAnew() {
    if (!this.#userToken) return;
    this.#last = ''; // what a page shows may be another's now, also where nothing of the registration changes: it is told
    this.#tabs?.then((tabs) => tabs.askAnew());
    if (!globalThis.BroadcastChannel) return;
    const bus = new BroadcastChannel(`belfry.live ${this.#server}`);
    bus.postMessage({ user: true });
    bus.close();
  }

  /** @returns {Promise<{ id: string, secret: string } | null>} who this browser is to the server */
  async #proof() {
    const device = /** @type {Device | null} */ (await stored('device'));
    return device?.hash && device.server === this.#server ? { id: device.id, secret: device.secret } : null;
  }

  /**
   * Asks the site who is signed in.
   *
   * @returns {Promise<string | null>} a token, nothing for nobody, and null where the site does not say
   */
  async #user() {
    const ask = this.#userToken;
    if (!ask) return null;
    try {
      const token = await within(SERVER_LIMIT, (async () => ask())(), undefined);
      if (token === null) return '';
      if (typeof token === 'string' && /^[\w.-]*$/.test(token)) return token;
    } catch (cause) {
      throw new BelfryError('user-token', { cause });
    }
    throw new BelfryError('user-token');
  }

  /** A person has the message before them: the worker need not ring for it (BR-65). @param {string} id */
  #seen(id) {
    if (this.#device) edit('seen', (list) => noted(list, id));
  }

  /**
   * @param {'always' | 'seldom' | 'never'} ask the server, where nothing is plainly wrong; with never, nothing is repaired
   * @returns {Promise<State>}
   */
  async #check(ask) {
    const wall = obstacle();
    if (wall && wall !== 'denied') return this.#become(wall);
    const device = await this.#load();
    const now = JSON.stringify(device);
    if (Notification.permission !== 'granted') {
      this.#device = null;
      const state = this.#become(wall ?? ((await dismissedLately()) ? 'dismissed' : 'off'));
      if (device && ask !== 'never') await withdraw(device);
      return state;
    }
    if (!device) return this.#become('off');

    // A look mends nothing: what could not be repaired stays so until somebody else has done it.
    if (ask === 'never' && this.#state === 'stale' && now === this.#broken) return 'stale';
    try {
      if (await this.#isWhole(device)) {
        this.#become('on'); // for now: the server may take its time
        if (ask === 'seldom' && checkedLately()) return 'on';
      }
      if (ask === 'never') return this.#state;
      await this.#enrol(null, clock(SUBSCRIBE_LIMIT));
      checked();
      return this.#become('on');
    } catch (err) {
      const away = err instanceof BelfryError && ['unreachable', 'busy', 'user-token'].includes(err.code);
      // A server or a site that is away for a while is no reason to alarm a person whose registration looks whole.
      if (away && (await this.#isWhole(device))) return this.#become('on');
      this.#broken = now;
      return this.#become('stale', err instanceof BelfryError ? `${err.message} ${err.hint}` : String(err));
    }
  }

  /**
   * What can be seen without the server: is the subscription there, and is it
   * the one that the server knows?
   *
   * @param {Device} device
   * @returns {Promise<boolean>}
   */
  async #isWhole(device) {
    if (device.stale || device.server !== this.#server) return false;
    const subscription = await this.#subscription();
    return subscription !== null && (await digest(subscription.endpoint)) === device.hash;
  }

  /**
   * Makes this browser's registration as it should be, whatever was there
   * before: worker, subscription with the server's key, row at the server, device here.
   *
   * @param {string[] | null} channels null leaves them as they are
   * @param {(limit: number) => number} left
   * @returns {Promise<void>}
   */
  async #enrol(channels, left) {
    const [registration, config, user] = await Promise.all([
      activeWorker(this.#worker, this.#scope, left(WORKER_LIMIT)),
      getConfig(this.#server, left(SERVER_LIMIT)),
      this.#user(),
    ]);
    const before = await this.#load();
    let known = before?.server === this.#server ? before : null;
    for (let again = false; ; again = true) {
      const { subscription, made } = await subscribed(registration.pushManager, config.key, left);
      try {
        const device = await announce(this.#server, known, user, subscription, config, channels ?? before?.channels ?? [], channels !== null, left);
        await this.#keep(device, before);
        if (before && before.server !== device.server) await leave(before);
        return;
      } catch (err) {
        // Somebody else's endpoint, says the server, or one that it has given up: only a new one can be ours.
        const status = err instanceof BelfryError ? err.status : 0;
        if ((status === 409 || status === GIVEN_UP) && !again) {
          if (status === GIVEN_UP) known = null;
          await end(subscription);
          continue;
        }
        // Undo what was begun; a browser that was registered before keeps it and heals later.
        if (made && !before) await end(subscription);
        throw err;
      }
    }
  }

  /**
   * Asks the person, who has just clicked.
   *
   * @returns {Promise<void>}
   */
  async #permission() {
    const wall = obstacle();
    if (wall) {
      this.#become(wall);
      throw new BelfryError(wall);
    }
    if (Notification.permission === 'granted') return;
    await within(QUESTION_LIMIT, Notification.requestPermission(), 'default').catch(() => 'default');
    const answer = /** @type {NotificationPermission} */ (Notification.permission);
    await edit('dismissed', () => (answer === 'default' ? Date.now() : undefined));
    this.#pages?.postMessage(null);
    if (answer === 'granted') return;
    const no = answer === 'denied' ? 'denied' : 'dismissed';
    this.#become(no);
    throw new BelfryError(no);
  }

  /** Notices what another tab changes, or the person in the browser's settings. */
  async #watch() {
    const look = () => this.#inTurn(() => this.#check('never')).catch(() => {});
    // What they say is no more than that one had better look.
    if (globalThis.BroadcastChannel) (this.#pages = new BroadcastChannel('belfry')).onmessage = look;
    // Not every browser tells of its settings, and a page that was put aside heard nobody.
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && look());
    try {
      const status = await navigator.permissions.query({ name: 'notifications' });
      status.addEventListener('change', () => this.#inTurn(() => this.#check('seldom')).catch(() => {}));
    } catch {
      // Then it is noticed when the page is looked at again.
    }
  }

  /**
   * Counts a click that the browser followed without asking the worker: the link says then whose it is (BR-56). It is
   * taken off at once, or it would count again for whomever the address is sent to.
   */
  async #comesByLink() {
    const url = new URL(location.href);
    const link = url.searchParams.get('belfry');
    if (!link) return;
    url.search = url.search.slice(1).split('&').filter((part) => !/^belfry(=|$)/.test(part)).join('&');
    history.replaceState(history.state, '', url.href);
    const { id: device, secret } = (await this.#proof()) ?? {};
    // The row may be gone; somebody came all the same.
    if ((await tell(this.#server, { device, secret, link })) === 401) await tell(this.#server, { link });
  }

  /** @returns {Promise<PushSubscription | null>} */
  async #subscription() {
    const look = async () => {
      const registration = await navigator.serviceWorker.getRegistration(this.#scope);
      // The browser gives the nearest one, which may be somebody else's.
      return registration?.scope === this.#scope ? registration.pushManager.getSubscription() : null;
    };
    return within(BROWSER_LIMIT, look().catch(() => null), null);
  }

  /** @returns {Promise<Device | null>} */
  async #load() {
    this.#device = /** @type {Device | null} */ (await stored('device'));
    return this.#device;
  }

  /**
   * Keeps the device. Without its secret nobody could change or end the
   * registration, so if a new one cannot be kept it is undone.
   *
   * @param {Device} device
   * @param {Device | null} before
   * @returns {Promise<void>}
   */
  async #keep(device, before) {
    if (!(await edit('device', () => device))) {
      if (device.secret !== before?.secret) await leave(device);
      throw new BelfryError('storage');
    }
    this.#device = device;
    // What waits is of the device from before, and this one never got it.
    if (before && before.id !== device.id) await edit('receipts', () => undefined);
    this.#pages?.postMessage(null);
  }

  /**
   * @param {State} state
   * @param {string} [reason]
   * @returns {State}
   */
  #become(state, reason = state in WORDS ? WORDS[/** @type {Code} */ (state)].join(' ') : '') {
    this.#state = state;
    this.#reason = reason;
    const now = JSON.stringify([state, reason, this.#device]);
    if (now !== this.#last) this.dispatchEvent(new Event('state'));
    this.#last = now;
    return state;
  }

  /**
   * One thing at a time: in this page by waiting, in other tabs and the worker by a lock.
   *
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  #inTurn(work) {
    const turn = this.#turn.then(() => alone(navigator, work)).catch((cause) => {
      throw cause instanceof BelfryError ? cause : new BelfryError('push-service', { cause });
    });
    this.#turn = turn.catch(() => {});
    return turn;
  }
}

/**
 * What stands in the way before anything is asked, or null.
 *
 * @returns {'unsupported' | 'insecure' | 'needs-install' | 'private-mode' | 'denied' | null}
 */
function obstacle() {
  if (!globalThis.isSecureContext) return 'insecure';
  const worker = 'serviceWorker' in navigator;
  const push = 'PushManager' in globalThis;
  const notification = 'Notification' in globalThis;
  if (!worker || !push || !notification) {
    // In a Safari tab on iOS one or both are missing, depending on the version (BR-01).
    if (isTabOnIOS()) return 'needs-install';
    // Private windows of older Firefox have everything but workers.
    return !worker && push ? 'private-mode' : 'unsupported';
  }
  return Notification.permission === 'denied' ? 'denied' : null;
}

/** @returns {boolean} */
function isTabOnIOS() {
  // An iPad calls itself a Macintosh; only its fingers give it away.
  const ios = /iPhone|iPad|iPod/.test(navigator.userAgent) || (/Macintosh/.test(navigator.userAgent) && navigator.maxTouchPoints > 1);
  const installed = /** @type {any} */ (navigator).standalone === true || matchMedia('(display-mode: standalone)').matches;
  return ios && !installed;
}

/**
 * What live.js has for us.
 *
 * @typedef {{ join: (channels: string[], onMessage: (event: LiveEvent) => void, onReset?: (reset: LiveReset) => void) => () => void, askAnew: () => void }} Tabs
 */

/**
 * Loads live.js, which only pages that listen need, however long it takes.
 *
 * @returns {Promise<{ Tabs: new (...args: any[]) => Tabs }>}
 */
async function live() {
  for (let n = 0; ; n++) {
    try {
      // By its plain name, which bundlers know, and then by others: a browser remembers that a file could not be loaded.
      return await (n === 0 ? import('./live.js') : import(`./live.js?${n}`));
    } catch {
      await pause(Math.random() * Math.min(MINUTE / 2, 1000 * 2 ** n));
    }
  }
}

/**
 * @param {unknown} channels
 * @returns {string[]}
 */
function names(channels) {
  if (!Array.isArray(channels) || channels.some((name) => typeof name !== 'string')) {
    throw new TypeError("belfry: channels are a list of names, such as ['news']");
  }
  return [...new Set(channels)].sort();
}

/**
 * A limit on several steps together: left(ms) is what one of them may take.
 *
 * @param {number} ms
 * @returns {(limit: number) => number}
 */
function clock(ms) {
  const end = Date.now() + ms;
  return (limit) => Math.max(0, Math.min(limit, end - Date.now()));
}

/**
 * Registers the worker and waits until it is active: subscribing needs that (BR-04).
 *
 * @param {string} url
 * @param {string} scope
 * @param {number} limit
 * @returns {Promise<ServiceWorkerRegistration>}
 */
async function activeWorker(url, scope, limit) {
  const start = async () => {
    const registration = await navigator.serviceWorker.register(url, { scope, updateViaCache: 'none' });
    if (!registration.active) await activation(registration);
    return registration;
  };
  try {
    const registration = await within(limit, start(), null);
    if (registration) return registration;
  } catch (cause) {
    throw new BelfryError('worker', { message: `The site's service worker ${url} could not be started: ${told(cause)}`, cause });
  }
  throw new BelfryError('worker', { message: `The site's service worker ${url} did not start in time.` });
}

/**
 * @param {ServiceWorkerRegistration} registration
 * @returns {Promise<void>}
 */
function activation(registration) {
  return new Promise((resolve, reject) => {
    const starting = registration.installing ?? registration.waiting;
    const look = () => {
      if (registration.active) resolve();
      else if (!starting || starting.state === 'redundant') reject(new Error('it was not installed'));
    };
    starting?.addEventListener('statechange', look);
    look();
  });
}

/**
 * Asks the server for its key. It is asked each time: a key remembered here
 * would outlive its rotation (BR-11).
 *
 * @param {string} server
 * @param {number} limit
 * @returns {Promise<{ key: Uint8Array<ArrayBuffer>, keyId: string, receipts: unknown }>}
 */
async function getConfig(server, limit) {
  const answer = await call(server, 'GET', '/v1/config', { limit });
  if (answer.status !== 200) throw failure(answer);
  const { vapidPublicKey, keyId, receipts } = answer.body;
  // 65 octets: an uncompressed point of P-256 (RFC 8292 §3.2).
  if (typeof keyId === 'string' && /^[\w-]{87}$/.test(vapidPublicKey)) return { key: octets(vapidPublicKey), keyId, receipts };
  throw new BelfryError('refused', { message: 'The server did not say its key.', status: answer.status });
}

/**
 * The subscription that this browser has for key, or a new one. One for another
 * key cannot be kept: the browser refuses a second beside it, and the server
 * could not ring it (BR-12). No question appears while the permission stands.
 *
 * @param {PushManager} manager
 * @param {Uint8Array<ArrayBuffer>} key
 * @param {(limit: number) => number} left
 * @returns {Promise<{ subscription: PushSubscription, made: boolean }>}
 */
async function subscribed(manager, key, left) {
  const old = await within(left(BROWSER_LIMIT), manager.getSubscription(), null);
  const ending = old?.expirationTime && old.expirationTime < Date.now() + RENEW_BEFORE;
  if (old && sameKey(old, key) && !ending) return { subscription: old, made: false };
  if (old) await end(old);
  return { subscription: await subscribe(manager, key, left), made: true };
}

/**
 * @param {PushManager} manager
 * @param {Uint8Array<ArrayBuffer>} key
 * @param {(limit: number) => number} left
 * @returns {Promise<PushSubscription>}
 */
async function subscribe(manager, key, left) {
  /** @type {Promise<PushSubscription>[]} */
  const tries = [];
  /** @type {Set<Promise<PushSubscription>>} */
  const failed = new Set();
  /** @type {unknown} */
  let cause;
  for (const limit of TRIES) {
    const until = clock(left(limit));
    try {
      const asked = manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
      tries.push(asked);
      asked.catch(() => failed.add(asked));
      const subscription = await within(until(limit), Promise.race(tries.filter((one) => !failed.has(one))), null);
      if (subscription) return tries.length === 1 ? subscription : await lasting(manager, tries, subscription);
    } catch (err) {
      cause = err;
      if (named(err, 'NotAllowedError')) throw new BelfryError(Notification.permission === 'denied' ? 'denied' : 'push-service', { cause });
      // Made for another key in the meantime, by another tab or another script.
      const other = named(err, 'InvalidStateError') && (await within(until(BROWSER_LIMIT), manager.getSubscription(), null));
      if (other) await end(other);
      else await pause(until(PAUSE));
    }
  }
  if (cause) throw new BelfryError('push-service', { cause });
  throw new BelfryError('timeout');
}

/**
 * What is left of several tries. Chromium takes each for a subscription of its
 * own and keeps the one that it made last; whoever is told another endpoint
 * rings nobody.
 *
 * @param {PushManager} manager
 * @param {Promise<PushSubscription>[]} tries
 * @param {PushSubscription} answered
 * @returns {Promise<PushSubscription>}
 */
async function lasting(manager, tries, answered) {
  await within(OTHERS, Promise.allSettled(tries), null);
  return (await within(BROWSER_LIMIT, manager.getSubscription(), null)) ?? answered;
}

/**
 * Ends a subscription in the browser, as far as it lets us.
 *
 * @param {PushSubscription} subscription
 * @returns {Promise<void>}
 */
async function end(subscription) {
  await within(BROWSER_LIMIT, subscription.unsubscribe().catch(() => false), false);
}

/**
 * Tells the server about a subscription, and returns the device as it is then.
 *
 * @param {string} server
 * @param {Device | null} known what this browser was there before
 * @param {string | null} user a token, nothing for nobody, and null to leave that as it is
 * @param {PushSubscription} subscription
 * @param {{ keyId: string, receipts: unknown }} config
 * @param {string[]} channels
 * @param {boolean} chosen whether the person has just chosen them; else the server's own stand
 * @param {(limit: number) => number} left
 * @returns {Promise<Device>}
 */
async function announce(server, known, user, subscription, { keyId, receipts }, channels, chosen, left) {
  const kept = { server, hash: await digest(subscription.endpoint), keyId, receipts: wanted(receipts, subscription.endpoint), stale: false };
  const about = { subscription: subscription.toJSON(), keyId, ...whereabouts() };
  const secret = known?.secret;
  if (known) {
    const body = { ...about, ...(chosen && { channels }), ...signedOut(user) };
    const answer = await call(server, 'PUT', `/v1/subscriptions/${known.id}`, { secret, user, body, limit: left(SERVER_LIMIT) });
    if (answer.status === 200) return { ...known, ...kept, channels: listed(answer, channels) };
    if (!lost(answer)) throw failure(answer);
    // Rows go when a push service calls their endpoint gone (WP-60). With the same one again the next message would find
    // it gone again, and so on for ever, while the page says that all is well.
    if (kept.hash === known.hash) throw new BelfryError('refused', { status: GIVEN_UP });
  }
  // One private channel from earlier that the token does not open would keep the browser from ever coming back.
  const opened = chosen ? channels : channels.filter((name) => !name.startsWith('private-') || opens(user).includes(name));
  const answer = await call(server, 'POST', '/v1/subscriptions', { secret, user, body: { ...about, channels: opened }, limit: left(SERVER_LIMIT) });
  const { id, secret: given = secret } = answer.body;
  if (answer.status !== 201 && answer.status !== 200) throw failure(answer);
  if (typeof id !== 'string' || typeof given !== 'string') throw new BelfryError('refused', { message: 'The server did not say who we are.', status: answer.status });
  return { id, secret: given, ...kept, channels: listed(answer, opened) };
}

/**
 * @param {Awaited<ReturnType<typeof call>>} answer
 * @returns {boolean} whether the server has no such row any more, so that one is to be made anew
 */
function lost(answer) {
  return answer.status === 401 && answer.body.code !== 'user-token';
}

/**
 * @param {string | null} token
 * @returns {unknown[]} the private channels that it opens, as it says itself
 */
export function opens(token) {
  try {
    const { channels } = JSON.parse(new TextDecoder().decode(octets((token ?? '').split('.')[1])));
    return Array.isArray(channels) ? channels : [];
  } catch {
    return [];
  }
}

/**
 * @param {string | null} user
 * @returns {{ user?: null }} what says that nobody is signed in any more
 */
function signedOut(user) {
  return user === '' ? { user: null } : {};
}

/**
 * Language and time zone, where the browser says them in a form that the server takes.
 *
 * @returns {{ locale?: string, timeZone?: string }}
 */
function whereabouts() {
  const locale = navigator.language;
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  return {
    ...(/^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,8}$/.test(locale) && { locale }),
    ...(/^[A-Za-z0-9_+-]{1,32}(\/[A-Za-z0-9_+-]{1,32}){0,3}$/.test(timeZone) && { timeZone }),
  };
}

/**
 * Ends a device at its server, now or at the next page load.
 *
 * @param {Device} device
 * @returns {Promise<void>}
 */
async function leave({ server, id, secret }) {
  if (await removed({ server, id, secret })) return;
  await edit('leaving', (list = []) => [...list, { server, id, secret }]);
}

/**
 * Takes the row of a device from its server, since the person has taken back the permission. The device stays, so that
 * it is registered for the same again, without a question, when they give it back; its hash is of no endpoint then.
 *
 * @param {Device} device
 * @returns {Promise<void>}
 */
async function withdraw(device) {
  if (device.hash && (await removed(device))) await edit('device', (now) => now && { ...now, hash: '', stale: true });
}

/**
 * Makes up for the deletions that a server did not hear.
 *
 * @returns {Promise<void>}
 */
async function sayGoodbye() {
  for (const device of /** @type {Device[] | null} */ (await stored('leaving')) ?? []) {
    if (!(await removed(device))) return;
    await edit('leaving', (list = []) => {
      const rest = list.filter((/** @type {Device} */ other) => other.id !== device.id);
      return rest.length > 0 ? rest : undefined;
    });
  }
}

/**
 * @param {Pick<Device, 'server' | 'id' | 'secret'>} device
 * @returns {Promise<boolean>} whether the server has no such row any more
 */
async function removed({ server, id, secret }) {
  try {
    const { status } = await call(server, 'DELETE', `/v1/subscriptions/${id}`, { secret });
    // 401: it is gone already. Any other refusal will not change by asking again;
    // the row goes when the push service says that the subscription ended.
    return status < 500 && status !== 429;
  } catch {
    return false;
  }
}

/**
 * One call to the server, within limit.
 *
 * @param {string} server
 * @param {string} method
 * @param {string} path
 * @param {{ secret?: string, user?: string | null, body?: unknown, limit?: number }} [options]
 * @returns {Promise<{ status: number, retryAfter: number | null, body: any }>}
 */
async function call(server, method, path, { secret, user, body, limit = SERVER_LIMIT } = {}) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (secret) headers.Authorization = `Device ${secret}`;
  if (user) headers['Belfry-User'] = user;
  const hangUp = new AbortController();
  const talk = async () => {
    const answer = await fetch(server + path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body),
      cache: 'no-store', credentials: 'omit', redirect: 'error', signal: hangUp.signal,
    });
    const said = await answer.json().catch(() => null);
    return { status: answer.status, retryAfter: seconds(answer.headers.get('Retry-After')), body: said ?? {} };
  };
  try {
    const answer = await within(limit, talk(), null);
    if (answer) return answer;
  } catch (cause) {
    throw new BelfryError('unreachable', { cause });
  } finally {
    hangUp.abort();
  }
  throw new BelfryError('unreachable', { message: 'The server did not answer in time.' });
}

/**
 * @param {Awaited<ReturnType<typeof call>>} answer
 * @returns {BelfryError}
 */
function failure({ status, retryAfter, body }) {
  const problem = typeof body.code === 'string' ? body.code : '';
  if (status === 429 || status === 503) {
    const hint = retryAfter ? `Try again in ${retryAfter} seconds.` : undefined;
    return new BelfryError('busy', { status, problem, retryAfter, hint });
  }
  const said = typeof body.detail === 'string' && body.detail ? body.detail : `it answered ${status}`;
  const hint = typeof body.hint === 'string' ? body.hint : undefined;
  return new BelfryError('refused', { message: `The server refused: ${said}`, status, problem, retryAfter, hint });
}

/**
 * @param {string | null} retryAfter seconds, or a date (RFC 9110 §10.2.3)
 * @returns {number | null}
 */
function seconds(retryAfter) {
  if (!retryAfter) return null;
  const n = /^\d+$/.test(retryAfter) ? Number(retryAfter) : Math.ceil((Date.parse(retryAfter) - Date.now()) / 1000);
  return Number.isFinite(n) ? Math.max(0, n) : null;
}

/**
 * @param {Awaited<ReturnType<typeof call>>} answer
 * @param {string[]} sent
 * @returns {string[]} the channels as the server has them now
 */
function listed({ body }, sent) {
  return Array.isArray(body.channels) ? body.channels.map(String) : sent;
}

/**
 * @param {string} name
 * @returns {Promise<unknown>} what is kept under name; null if nothing is, or if it cannot be read in time
 */
async function stored(name) {
  return (await within(BROWSER_LIMIT, load(indexedDB, name).catch(() => null), null)) ?? null;
}

/**
 * @param {string} name
 * @param {(value: any) => unknown} work
 * @returns {Promise<boolean>} whether it was written in time
 */
async function edit(name, work) {
  return within(BROWSER_LIMIT, change(indexedDB, name, work).then(() => true, () => false), false);
}

/** @returns {Promise<boolean>} */
async function dismissedLately() {
  const at = await stored('dismissed');
  return typeof at === 'number' && Date.now() - at < KEEP_DISMISSED;
}

const CHECKED = 'belfry.checked';

/** @returns {boolean} whether this tab asked the server in the last hours */
function checkedLately() {
  try {
    const age = Date.now() - Number(sessionStorage.getItem(CHECKED));
    return age >= 0 && age < CHECK_EVERY;
  } catch {
    return false;
  }
}

/** Notes that this tab has asked the server. */
function checked() {
  try {
    sessionStorage.setItem(CHECKED, String(Date.now()));
  } catch {
    // Then it asks again on the next load.
  }
}

/**
 * @param {unknown} err
 * @param {string} name
 * @returns {boolean}
 */
function named(err, name) {
  return err instanceof Error && err.name === name;
}

/**
 * @param {unknown} err
 * @returns {string}
 */
function told(err) {
  return err instanceof Error ? err.message : String(err);
}

/**
 * @param {number} ms
 * @returns {Promise<void>}
 */
function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}

// From here to the end: word for word the same in sw.js, since page
// and worker share one store. A test holds the two together.

/**
 * What this browser knows of its own registration.
 *
 * @typedef {{ id: string, secret: string, server: string, hash: string, keyId: string, channels: string[], receipts?: string[], stale: boolean }} Device
 */

/**
 * Runs work on the one object store of the one database, in one transaction.
 * It is opened for each use: no page keeps another from upgrading it.
 *
 * @param {IDBFactory} factory
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore, give: (value: unknown) => void) => void} work
 * @returns {Promise<unknown>}
 */
function storage(factory, mode, work) {
  return new Promise((resolve, reject) => {
    const opening = factory.open('belfry', 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore('kit');
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const db = opening.result;
      try {
        /** @type {unknown} */
        let result;
        const tx = db.transaction('kit', mode);
        tx.oncomplete = () => resolve(result);
        tx.onabort = () => reject(tx.error);
        work(tx.objectStore('kit'), (value) => { result = value; });
      } catch (err) {
        reject(err);
      } finally {
        db.close(); // takes effect when the transaction has ended
      }
    };
  });
}

/**
 * @param {IDBFactory} factory
 * @param {string} name
 * @returns {Promise<unknown>}
 */
async function load(factory, name) {
  return storage(factory, 'readonly', (store, give) => {
    const got = store.get(name);
    got.onsuccess = () => give(got.result);
  });
}

/**
 * Replaces a value by what edit makes of it; undefined removes it.
 *
 * @param {IDBFactory} factory
 * @param {string} name
 * @param {(value: any) => unknown} edit
 * @returns {Promise<void>}
 */
async function change(factory, name, edit) {
  await storage(factory, 'readwrite', (store) => {
    const got = store.get(name);
    got.onsuccess = () => {
      const value = edit(got.result);
      if (value === undefined) store.delete(name);
      else store.put(value, name);
    };
  });
}

/**
 * The list of messages that a person has seen lately, with one more: id.
 *
 * @param {unknown} list
 * @param {string} id
 * @returns {[id: string, at: number][]}
 */
function noted(list, id) {
  const most = 2000; // so that one lookup stays under 100 KB
  return [...fresh(list).filter(([known]) => known !== id), /** @type {[string, number]} */ ([id, Date.now()])].slice(-most);
}

/**
 * @param {unknown} list
 * @returns {[id: string, at: number][]} what is not older than 7 days (BR-31)
 */
function fresh(list) {
  const since = Date.now() - 7 * 24 * 3600_000;
  return Array.isArray(list) ? list.filter((entry) => Array.isArray(entry) && entry[1] > since) : [];
}

/**
 * @param {unknown} said the kinds of receipts that the server wants
 * @param {string} endpoint
 * @returns {string[]} those that it wants of this browser; `shown` costs time in a push, of which Apple gives little
 */
function wanted(said, endpoint) {
  const kinds = Array.isArray(said) ? said : [];
  const shown = new URL(endpoint).hostname.endsWith('.push.apple.com') ? 'shown-on-apple' : 'shown';
  return ['shown', 'clicked', 'closed'].filter((kind) => kinds.includes(kind === 'shown' ? shown : kind));
}

/**
 * Tells the server all receipts that wait, at most 50 at a time. One that is told twice counts once.
 *
 * @param {{ indexedDB: IDBFactory }} scope
 * @returns {Promise<boolean>} whether nothing is left to tell
 */
async function tellAll({ indexedDB }) {
  const device = /** @type {Device | undefined} */ (await load(indexedDB, 'device'));
  for (;;) {
    const list = await load(indexedDB, 'receipts');
    if (!device || !Array.isArray(list) || list.length === 0) return true;
    const receipts = list.slice(0, 50);
    const status = await tell(device.server, { device: device.id, secret: device.secret, receipts });
    if (status === 0 || status === 429 || status >= 500) return false;
    // 401: it knows this device no more. What else it refuses will not be better the next time.
    const told = new Set(receipts.map((receipt) => JSON.stringify(receipt)));
    await change(indexedDB, 'receipts', (now = []) => {
      const rest = now.filter((/** @type {unknown} */ receipt) => !told.has(JSON.stringify(receipt)));
      return status === 401 || rest.length === 0 ? undefined : rest;
    });
  }
}

/**
 * @param {string} server
 * @param {unknown} body
 * @returns {Promise<number>} the HTTP status; 0 for no answer
 */
async function tell(server, body) {
  try {
    const answer = await fetch(`${server}/v1/receipts`, {
      method: 'POST', keepalive: true, credentials: 'omit', redirect: 'error',
      headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
    });
    return answer.status;
  } catch {
    return 0;
  }
}

/**
 * Waits for work, but no longer than ms; then it gives late.
 *
 * @template T, U
 * @param {number} ms
 * @param {Promise<T>} work
 * @param {U} late
 * @returns {Promise<T | U>}
 */
function within(ms, work, late) {
  /** @type {ReturnType<typeof setTimeout>} */
  let timer;
  /** @type {Promise<U>} */
  const limit = new Promise((resolve) => { timer = setTimeout(resolve, ms, late); });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}

/**
 * Does work while no other tab, and not the worker, changes the registration.
 * After 10 s, or where there are no locks, it goes ahead all the same.
 *
 * @template T
 * @param {{ locks?: LockManager }} navigator
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function alone(navigator, work) {
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), 10_000);
  let begun = false;
  const begin = () => {
    begun = true;
    clearTimeout(timer);
    return work();
  };
  try {
    if (navigator.locks) return await navigator.locks.request('belfry', { signal: patience.signal }, begin);
  } catch (err) {
    if (begun) throw err;
  }
  return begin();
}

/**
 * @param {string} endpoint
 * @returns {Promise<string>} its SHA-256; the endpoint itself is a secret and is not kept (SEC-36)
 */
async function digest(endpoint) {
  const sum = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(endpoint));
  return btoa(String.fromCharCode(...new Uint8Array(sum)));
}

/**
 * @param {string} base64url
 * @returns {Uint8Array<ArrayBuffer>}
 */
function octets(base64url) {
  const binary = atob(base64url.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/**
 * Reports whether a subscription was made for key. One that does not say is
 * taken for another's: messages to it would be refused (BR-12).
 *
 * @param {PushSubscription} subscription
 * @param {Uint8Array} key
 * @returns {boolean}
 */
function sameKey(subscription, key) {
  const made = subscription.options?.applicationServerKey;
  if (!made || made.byteLength !== key.byteLength) return false;
  return new Uint8Array(made).every((octet, i) => octet === key[i]);
}

