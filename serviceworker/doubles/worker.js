// A Worker boots sw.js as a browser does, in a global scope of its own, and
// lets a test fire events at it. Windows are what matchAll and openWindow know.
import { readFileSync } from 'node:fs';
import { createContext, runInContext } from 'node:vm';
import { Database } from './database.js';
import { PushManager } from './push.js';

const source = readFileSync(new URL('../sw.js', import.meta.url), 'utf8');

/** @typedef {{ title: string, options: any }} Shown */

export class Worker {
  /** @type {Shown[]} every call of showNotification, in order */
  shown = [];
  /** @type {string[]} */
  opened = [];
  /** @type {Window[]} most recently used first */
  windows = [];
  /** @type {Record<string, ((event: any) => void)[]>} */
  listeners = {};
  /** @type {string[]} */
  imported = [];
  /** @type {string[]} */
  syncs = [];
  skipped = false;
  claimed = false;
  manager = new PushManager();
  /** @type {(title: string, options: any) => Promise<void>} what the browser does with a notification */
  display = async () => {};

  /**
   * @param {{ origin?: string, database?: Database, fetch?: (url: any, init?: any) => Promise<Response>, maxActions?: number, sync?: boolean, file?: string }} [options]
   *   file is the text of the site's own worker file, which may import ours
   */
  constructor({ origin = 'https://app.example', database = new Database(), fetch = neverFetch, maxActions = 2, sync = false, file = source } = {}) {
    this.origin = origin;
    this.database = database;
    /** @type {any} */
    const scope = {
      location: new URL('/sw.js', origin),
      navigator: {},
      indexedDB: database,
      fetch,
      Notification: maxActions === undefined ? undefined : { maxActions },
      registration: {
        pushManager: this.manager,
        showNotification: (/** @type {string} */ title, /** @type {any} */ options) => this.#show(title, options),
        ...(sync && { sync: { register: async (/** @type {string} */ tag) => this.syncs.push(tag) } }),
      },
      clients: {
        matchAll: async (/** @type {any} */ { includeUncontrolled = false } = {}) => this.windows.filter((w) => w.controlled || includeUncontrolled),
        openWindow: async (/** @type {string} */ url) => this.opened.push(url),
        claim: async () => { this.claimed = true; },
      },
      skipWaiting: async () => { this.skipped = true; },
      addEventListener: (/** @type {string} */ type, /** @type {(event: any) => void} */ listener) =>
        (this.listeners[type] ??= []).push(listener),
      // Looked up at each call, so that a test's clock is the worker's clock.
      setTimeout: (/** @type {[any, any]} */ ...args) => setTimeout(...args),
      clearTimeout: (/** @type {any} */ timer) => clearTimeout(timer),
      Date, URL, AbortController, TextEncoder, crypto, atob, btoa, structuredClone,
    };
    scope.importScripts = (/** @type {string} */ url) => {
      this.imported.push(url);
      runInContext(source, scope, { filename: 'sw.js' });
    };
    scope.self = scope;
    this.scope = scope;
    this.globals = Object.keys(scope);
    runInContext(file, createContext(scope), { filename: 'worker.js' });
  }

  /**
   * @param {string} title
   * @param {any} options
   */
  async #show(title, options) {
    // The two on which browsers throw a TypeError (BR-28).
    if (options.renotify && !options.tag) throw new TypeError('renotify without tag');
    if (options.silent && options.vibrate) throw new TypeError('silent and vibrate');
    this.shown.push({ title, options: structuredClone(options) });
    await this.display(title, options);
  }

  /**
   * Fires an event, and settles when all that it was asked to wait for is done.
   *
   * @param {string} type
   * @param {Record<string, unknown>} [members]
   */
  async fire(type, members = {}) {
    /** @type {Promise<unknown>[]} */
    const waits = [];
    for (const listener of this.listeners[type] ?? []) {
      listener({ ...members, type, waitUntil: (/** @type {Promise<unknown>} */ work) => waits.push(work) });
    }
    if (waits.length === 0) throw new Error(`nothing waits for ${type}`);
    await Promise.all(waits);
  }

  /** @param {unknown} payload as JSON; a string or Buffer is sent as it is; undefined sends no data */
  async push(payload) {
    const raw = typeof payload === 'string' || Buffer.isBuffer(payload) ? payload : JSON.stringify(payload);
    const data = payload === undefined ? null : { text: () => String(raw), json: () => JSON.parse(String(raw)) };
    await this.fire('push', { data });
  }

  /**
   * Clicks the notification that was shown last, or one with this data.
   *
   * @param {{ action?: string, data?: unknown }} [options]
   */
  async click({ action = '', data = this.shown.at(-1)?.options.data } = {}) {
    let closed = false;
    await this.fire('notificationclick', { action, notification: { data, close: () => { closed = true; } } });
    return closed;
  }
}

export class Window {
  focused = 0;

  /**
   * @param {string} url
   * @param {{ controlled?: boolean }} [options]
   */
  constructor(url, { controlled = true } = {}) {
    this.url = url;
    this.controlled = controlled;
  }

  async focus() {
    this.focused++;
    return this;
  }

  /** @param {string} url */
  async navigate(url) {
    if (!this.controlled) throw new TypeError('not controlled by this worker');
    this.url = url;
    return this;
  }
}

/** @returns {Promise<Response>} */
async function neverFetch() {
  throw new Error('the worker asked the network');
}
