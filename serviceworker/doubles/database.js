// A Database stands for one origin's IndexedDB: one file of it is shared by
// page and worker, as in a browser. Transactions run one after another, values
// are copied in and out, and work happens after the caller's turn.

export class Database {
  /** @type {Map<string, Map<string, Map<string, unknown>>>} */
  files = new Map();
  /** Never answers, as some browsers do when their disk is in trouble. */
  hangs = false;
  /** Answers every opening with an error, as private windows do. */
  broken = false;
  /** @type {Promise<void>} */
  #last = Promise.resolve();

  /** @param {string} name */
  open(name) {
    const request = new Request();
    if (this.hangs) return request;
    queueMicrotask(() => {
      if (this.broken) return request.fail(new DOMException('no database here', 'InvalidStateError'));
      const isNew = !this.files.has(name);
      const stores = this.files.get(name) ?? new Map();
      this.files.set(name, stores);
      request.result = {
        createObjectStore: (/** @type {string} */ store) => stores.set(store, new Map()),
        transaction: (/** @type {string} */ store) => this.#transaction(stores.get(store)),
        close: () => {},
      };
      if (isNew) request.onupgradeneeded?.();
      request.onsuccess?.();
    });
    return request;
  }

  /** @param {Map<string, unknown> | undefined} store */
  #transaction(store) {
    if (!store) throw new DOMException('no such store', 'NotFoundError');
    /** @type {(() => void)[]} */
    const work = [];
    const tx = {
      /** @type {(() => void) | null} */ oncomplete: null,
      /** @type {(() => void) | null} */ onabort: null,
      error: null,
      objectStore: () => ({
        get: (/** @type {string} */ key) => queued(() => store.get(key)),
        put: (/** @type {unknown} */ value, /** @type {string} */ key) => {
          const copy = structuredClone(value);
          return queued(() => store.set(key, copy));
        },
        delete: (/** @type {string} */ key) => queued(() => store.delete(key)),
      }),
    };
    const queued = (/** @type {() => unknown} */ step) => {
      const request = new Request();
      work.push(() => {
        request.result = structuredClone(step());
        request.onsuccess?.();
      });
      return request;
    };
    this.#last = this.#last.then(() => {
      for (let step = work.shift(); step; step = work.shift()) step();
      tx.oncomplete?.();
    });
    return tx;
  }

  /** All that is kept, as text: what somebody who looks into the profile would see. */
  dump() {
    const plain = (/** @type {unknown} */ value) => (value instanceof Map ? Object.fromEntries(value) : value);
    return JSON.stringify(this.files, (_, value) => plain(value));
  }

  /** @param {string} key */
  read(key) {
    return /** @type {any} */ (this.files.get('belfry')?.get('kit')?.get(key));
  }

  /**
   * @param {string} key
   * @param {unknown} value
   */
  write(key, value) {
    this.files.set('belfry', new Map([['kit', new Map([...(this.files.get('belfry')?.get('kit') ?? []), [key, value]])]]));
  }
}

class Request {
  /** @type {any} */ result;
  /** @type {unknown} */ error = null;
  /** @type {(() => void) | null} */ onsuccess = null;
  /** @type {(() => void) | null} */ onerror = null;
  /** @type {(() => void) | null} */ onupgradeneeded = null;

  /** @param {unknown} error */
  fail(error) {
    this.error = error;
    this.onerror?.();
  }
}
