// A Browser is what belfry.js finds around it in a page: it stands in for the
// globals until the test is over. A new page load is a new call of connect();
// database, permission, worker and subscription are there from before.
import { Database } from './database.js';
import { PushManager } from './push.js';
import { Server } from './server.js';

/** @typedef {import('node:test').TestContext} TestContext */

const GLOBALS = ['navigator', 'Notification', 'PushManager', 'isSecureContext', 'document', 'sessionStorage', 'indexedDB', 'fetch', 'matchMedia',
  'addEventListener', 'localStorage', 'EventSource', 'WebSocket', 'BroadcastChannel', 'location', 'history'];

export class Browser {
  server = new Server();
  database = new Database();
  manager = new PushManager();
  /** @type {NotificationPermission} */
  permission = 'default';
  /** What the person says when asked; 'hangs' is one who walks away. @type {NotificationPermission | 'hangs'} */
  answer = 'granted';
  /** How often the person was asked. */
  asked = 0;
  /** @type {any[]} how the worker was registered, each time */
  registrations = [];
  /** @type {any} */
  registration = null;
  /** How a worker starts: at once, later by hand, never, or not at all. @type {'at once' | 'by hand' | 'redundant' | Error} */
  start = 'at once';
  /** @type {Map<string, string>} what this tab remembers */
  session = new Map();
  locks = new Locks();
  /** What the address bar shows. */
  address = 'https://app.example/some/page';
  /** @type {Set<any>} */ buses = new Set();
  permissionStatus = new EventTarget();
  /** @type {any} */
  globals;

  /**
   * @param {TestContext} t
   * @param {{ without?: string[], secure?: boolean, permission?: NotificationPermission, userAgent?: string, touch?: number, standalone?: boolean, language?: string, tab?: import('./tower.js').Tab }} [options]
   *   tab is what a page that listens finds around it, too
   */
  constructor(t, { without = [], secure = true, permission = 'default', userAgent = 'Firefox', touch = 0, standalone = false, language = 'en-GB', tab } = {}) {
    this.permission = permission;
    const browser = this;
    /** @type {any} */
    const navigator = {
      userAgent, language, maxTouchPoints: touch, ...(standalone && { standalone: true }), locks: tab?.navigator.locks ? { request: (/** @type {string} */ name, /** @type {any} */ options, /** @type {any} */ work) =>
        (name === 'belfry' ? this.locks : /** @type {any} */ (tab.navigator.locks)).request(name, options, work) } : this.locks,
      permissions: { query: async () => this.permissionStatus },
      serviceWorker: {
        register: (/** @type {string} */ url, /** @type {any} */ options) => this.#register(url, options),
        getRegistration: async () => this.registration ?? undefined,
      },
    };
    for (const name of without) delete navigator[name];
    this.globals = {
      navigator, isSecureContext: secure,
      document: Object.assign(tab?.document ?? new EventTarget(), { baseURI: 'https://app.example/some/page', visibilityState: 'visible' }),
      location: { get href() { return browser.address; } },
      history: { state: { of: 'the site' }, replaceState: (/** @type {any} */ state, /** @type {string} */ _, /** @type {string} */ url) => {
        if (state?.of !== 'the site') throw new Error('the state of the site is lost');
        this.address = url;
      } },
      BroadcastChannel: class {
        /** @type {((event: { data: unknown }) => void) | null} */ onmessage = null;
        /** @param {string} name */
        constructor(name) {
          this.name = name;
          browser.buses.add(this);
        }
        /** @param {unknown} data */
        postMessage(data) {
          for (const bus of browser.buses) if (bus !== this && bus.name === this.name) queueMicrotask(() => bus.onmessage?.({ data }));
        }
        close() { browser.buses.delete(this); }
      },
      ...(tab && {
        addEventListener: tab.addEventListener.bind(tab), localStorage: tab.localStorage,
        EventSource: tab.EventSource, WebSocket: tab.WebSocket, BroadcastChannel: tab.BroadcastChannel,
      }),
      indexedDB: this.database,
      fetch: this.server.fetch,
      matchMedia: () => ({ matches: standalone }),
      sessionStorage: {
        getItem: (/** @type {string} */ key) => this.session.get(key) ?? null,
        setItem: (/** @type {string} */ key, /** @type {string} */ value) => this.session.set(key, value),
      },
      PushManager,
      Notification: class {
        static get permission() { return browser.permission; }
        static requestPermission() { return browser.#ask(); }
      },
    };
    for (const name of without) delete this.globals[name];
    for (const name of GLOBALS) {
      const before = Object.getOwnPropertyDescriptor(globalThis, name);
      delete /** @type {any} */ (globalThis)[name];
      if (name in this.globals) Object.defineProperty(globalThis, name, { value: this.globals[name], configurable: true, writable: true });
      t.after(() => {
        delete /** @type {any} */ (globalThis)[name];
        if (before) Object.defineProperty(globalThis, name, before);
      });
    }
  }

  /** A new tab: it remembers nothing that another one does. */
  openTab() {
    this.session.clear();
  }

  /** The worker, started by hand, becomes active. */
  activate() {
    const starting = this.registration.installing;
    this.registration.installing = null;
    this.registration.active = starting;
    starting.state = 'activating';
    starting.dispatchEvent(new Event('statechange'));
  }

  async #ask() {
    this.asked++;
    if (this.answer === 'hangs') return new Promise(() => {});
    this.permission = this.answer;
    this.permissionStatus.dispatchEvent(new Event('change'));
    return this.answer;
  }

  /**
   * @param {string} url
   * @param {any} options
   */
  async #register(url, options) {
    this.registrations.push({ url, ...options });
    if (this.start instanceof Error) throw this.start;
    const starting = Object.assign(new EventTarget(), { state: 'installing' });
    this.registration ??= { scope: options.scope, pushManager: this.manager, installing: starting, waiting: null, active: null };
    if (this.start === 'at once') this.registration.active ??= starting;
    if (this.start === 'redundant') {
      queueMicrotask(() => {
        starting.state = 'redundant';
        starting.dispatchEvent(new Event('statechange'));
      });
    }
    return this.registration;
  }
}

/** Web Locks, as far as the kit uses them. */
export class Locks {
  /** @type {Promise<unknown>} */
  #last = Promise.resolve();
  #seized = false;

  /**
   * @param {string} _
   * @param {{ signal: AbortSignal }} options
   * @param {() => Promise<unknown>} work
   */
  request(_, { signal }, work) {
    const before = this.#seized ? new Promise(() => {}) : this.#last;
    const turn = new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
      before.then(() => {
        if (signal.aborted) return;
        work().then(resolve, reject);
      });
    });
    this.#last = turn.catch(() => {});
    return turn;
  }

  /** Another tab takes the lock and never gives it back. */
  seize() {
    this.#seized = true;
  }
}
