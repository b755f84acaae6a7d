//! Belfry's service worker, https://github.com/belfry-push/belfry/blob/main/serviceworker/sw.js
//
// It shows what is pushed, opens what is clicked, tells the server of both where
// that wants to know, and keeps the registration alive when the browser changes
// the subscription.
//
// It has no fetch handler, keeps no cache and imports nothing. Serve it at the
// root of the site, or call it from a worker that you already have:
//
//     self.BELFRY = 'https://ring.example.com';
//     importScripts(BELFRY + '/sw.js');
//
// All of it stands in one function, so that no name here meets one of yours.
(() => {
  'use strict';

  // A browser gives a push handler little time: iOS was measured to kill it
  // after about 10 s with nothing shown (BR-22). These four add up to 4.5 s.
  const LOOKUP_LIMIT = 1000; // ms to look whether the message was shown before
  const SHOW_LIMIT = 2000; // ms to show it with its pictures, which the browser loads first
  const PLAIN_LIMIT = 1000; // ms to show it without
  const REMEMBER_LIMIT = 500; // ms to note that it was shown

  const HEAL_LIMIT = 20_000; // ms for a repair; nobody waits for it

  // Receipts come after what a person sees. What is not told in time goes with the next occasion.
  const PUSH_LIMIT = 4900; // ms for a push with all that follows (BR-22)
  const ASK_LIMIT = 100; // ms to ask the browser to be woken
  const SPREAD = 3000; // ms at most before we tell that a message was shown: a broadcast shows it on all browsers at once
  const TELL_LIMIT = 5000; // ms to tell of a click
  const MOST_RECEIPTS = 200; // that wait, and
  const KEEP_RECEIPTS = 7 * 24 * 3600_000; // ms that they do

  // What we ask the browser to wake us for when there is a network.
  const HEAL = 'belfry';
  const RECEIPTS = 'belfry-receipts';

  /**
   * Shows a push and then, in no haste, tells that it was shown.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {PushEvent} event
   * @returns {Promise<void>}
   */
  async function ring(scope, event) {
    const end = Date.now() + PUSH_LIMIT;
    const shown = await showPush(scope, event);
    await orLater(scope, RECEIPTS, note(scope, 'shown', shown, { delay: Math.random() * SPREAD, limit: end - Date.now() }));
  }

  /**
   * Leads where a click asks to go, and then tells of it.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {Notification} notification
   * @param {string} action
   * @returns {Promise<void>}
   */
  async function follow(scope, notification, action) {
    try {
      await openTarget(scope, notification, action);
    } finally {
      await orLater(scope, RECEIPTS, note(scope, 'clicked', notification, { action }));
    }
  }

  /**
   * Shows a push. Every push shows something: a browser that sees a silent one
   * shows a text of its own instead, and in time withdraws the permission (PS-28).
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {PushEvent} event
   * @returns {Promise<{ data?: unknown }>} what was shown, or nothing
   */
  async function showPush(scope, event) {
    const { id, title, options, badge } = read(scope, event);
    if (id && (await seen(scope, id))) {
      // Rung twice for one message: put it back where it was, without a sound.
      options.silent = true;
      options.renotify = false;
    }
    const shown = await show(scope, title, options);
    setBadge(scope, badge);
    // Only now: had the browser stopped us earlier, the second try must ring.
    if (id) await remember(scope, id);
    return shown ? options : {};
  }

  /**
   * What a notification shows; TypeScript's NotificationOptions lack the newer members.
   *
   * @typedef {{ body?: string, lang?: string, dir?: NotificationDirection, tag: string, icon?: string, image?: string,
   *   silent?: boolean, requireInteraction?: boolean, renotify?: boolean,
   *   actions?: { action: string, title: string }[], data: Record<string, unknown>, navigate?: string }} Showing
   */

  /**
   * Reads a push into a notification. Whatever is missing or of a wrong type is
   * left out, and what browsers throw on is never passed (BR-28): renotify
   * without a tag, more actions than there is room for.
   *
   * A browser that reads declarative messages itself gives the notification that
   * it is about to show, and no data; what is shown instead must lead somewhere,
   * too, or it is refused (BR-54).
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {PushEvent} event
   * @returns {{ id: string, title: string, options: Showing, badge: unknown }}
   */
  function read(scope, event) {
    const payload = object(parse(event.data));
    const proposed = event.data ? null : /** @type {any} */ (event).notification;
    const n = object(payload.notification ?? proposed);
    const own = object(n.data);
    const mark = object(own.belfry);
    const id = text(mark.id).slice(0, 64);
    const title = text(n.title).trim();
    const { buttons, targets } = readActions(scope, n.actions);

    /** @type {Showing} */
    const options = {
      // A notification without a tag could not be replaced by its plain form.
      tag: text(n.tag) || id || `belfry-${Date.now()}-${Math.random()}`,
      data: { ...own, belfry: { id, channel: text(mark.channel), navigate: text(n.navigate), actions: targets } },
    };
    const body = text(n.body) || (title ? '' : 'You have a new message.');
    if (body) options.body = body;
    if (text(n.lang)) options.lang = text(n.lang);
    if (n.dir === 'auto' || n.dir === 'ltr' || n.dir === 'rtl') options.dir = n.dir;
    if (picture(scope, n.icon)) options.icon = picture(scope, n.icon);
    if (picture(scope, n.image)) options.image = picture(scope, n.image);
    if (n.silent === true) options.silent = true;
    if (n.requireInteraction === true) options.requireInteraction = true;
    if (n.renotify === true && text(n.tag)) options.renotify = true;
    if (buttons.length > 0) options.actions = buttons;
    if (proposed) options.navigate = site(scope, n.navigate);
    // It stands in either place, by draft (BR-52).
    return { id, title: title || scope.location.hostname, options, badge: payload.app_badge ?? n.app_badge };
  }

  /**
   * Sets the number on the app's icon, and waits for nothing: iOS was measured not to answer, and to show nothing while
   * it was waited for (BR-29).
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {unknown} badge
   */
  function setBadge(scope, badge) {
    if (!Number.isSafeInteger(badge) || Number(badge) < 0) return;
    try {
      scope.navigator.setAppBadge(Number(badge)).catch(() => {});
    } catch {
      // Then this browser has no badges.
    }
  }

  /**
   * Reads the actions, at most as many as this browser shows (BR-27). Their
   * targets go into the notification's data: older browsers drop unknown
   * members of an action.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {unknown} list
   * @returns {{ buttons: { action: string, title: string }[], targets: Record<string, string> }}
   */
  function readActions(scope, list) {
    const room = Number(/** @type {any} */ (scope).Notification?.maxActions) || 0;
    const buttons = [];
    /** @type {[string, string][]} */
    const targets = [];
    for (const item of Array.isArray(list) ? list : []) {
      const action = text(object(item).action);
      const title = text(object(item).title);
      if (!action || !title || buttons.length >= room) continue;
      buttons.push({ action, title });
      targets.push([action, text(object(item).navigate)]);
    }
    return { buttons, targets: Object.fromEntries(targets) };
  }

  /**
   * Shows a notification with all it has; if the browser throws on that or takes
   * too long over a picture, shows it plain. Both have one tag: there is one.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {string} title
   * @param {Showing} options
   * @returns {Promise<boolean>} whether the browser says that it is shown
   */
  async function show(scope, title, options) {
    const { body, tag, data, silent, navigate } = options;
    /** @type {[Partial<Showing>, number][]} */
    const tries = [[options, SHOW_LIMIT], [{ body, tag, data, silent, ...(navigate && { navigate }) }, PLAIN_LIMIT]];
    for (const [choice, limit] of tries) {
      try {
        const shown = scope.registration.showNotification(title, choice).then(() => true);
        if (await within(limit, shown, false)) return true;
      } catch {
        // The next try has less that can be wrong.
      }
    }
    return false;
  }

  /**
   * Reports whether a message was shown before, here or in an open page. When in doubt it was not: twice
   * is better than never.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {string} id
   * @returns {Promise<boolean>}
   */
  async function seen(scope, id) {
    try {
      const list = await within(LOOKUP_LIMIT, load(scope.indexedDB, 'seen'), null);
      return fresh(list).some(([known]) => known === id);
    } catch {
      return false;
    }
  }

  /**
   * @param {ServiceWorkerGlobalScope} scope
   * @param {string} id
   * @returns {Promise<void>}
   */
  async function remember(scope, id) {
    const work = change(scope.indexedDB, 'seen', (list) => noted(list, id));
    await within(REMEMBER_LIMIT, work.catch(() => {}), undefined);
  }

  /**
   * Opens what a click on a notification, or on one of its buttons, asks for:
   * the window that shows it already, else a window of ours taken there, else a new one (BR-25).
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {Notification} notification
   * @param {string} action
   * @returns {Promise<void>}
   */
  async function openTarget(scope, notification, action) {
    notification.close();
    const mark = object(object(notification.data).belfry);
    const targets = object(mark.actions);
    const url = site(scope, action && Object.hasOwn(targets, action) ? targets[action] : mark.navigate);
    if (!(await reuse(scope, url))) await scope.clients.openWindow(url);
  }

  /**
   * Brings a window that is open to url, or returns false.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {string} url
   * @returns {Promise<boolean>}
   */
  async function reuse(scope, url) {
    try {
      const all = await scope.clients.matchAll({ type: 'window', includeUncontrolled: true });
      const exact = all.find((open) => open.url === url);
      if (exact) return Boolean(await exact.focus());
      // A window that this worker does not control cannot be taken elsewhere.
      const [ours] = await scope.clients.matchAll({ type: 'window' });
      if (!ours) return false;
      await ours.focus(); // first, while the click still allows it
      return Boolean(await ours.navigate(url));
    } catch {
      return false;
    }
  }

  /**
   * Where a click may lead: a page of this very site. Payloads may be older than
   * the server's own check, so anything else becomes the site's root (SEC-31).
   * What says which message it is of is for browsers that tell no worker of a
   * click; here it would keep us from finding the page that is open already.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {unknown} raw
   * @returns {string}
   */
  function site(scope, raw) {
    const root = `${scope.location.origin}/`;
    try {
      const url = new URL(text(raw), root);
      // blob: URLs have our origin too, hence the protocol.
      const ours = url.origin === scope.location.origin && url.protocol === scope.location.protocol;
      url.search = url.search.slice(1).split('&').filter((part) => !/^belfry(=|$)/.test(part)).join('&');
      return ours && !url.username && !url.password ? url.href : root;
    } catch {
      return root;
    }
  }

  /**
   * @param {ServiceWorkerGlobalScope} scope
   * @param {unknown} raw
   * @returns {string} an https URL, or one of this site; empty if it is neither
   */
  function picture(scope, raw) {
    try {
      const url = new URL(text(raw));
      return url.protocol === 'https:' || (url.protocol === 'http:' && url.origin === scope.location.origin) ? url.href : '';
    } catch {
      return '';
    }
  }

  /**
   * Tells the server about a subscription that the browser changed by itself
   * (BR-13). The stored secret proves who we are, and the id stays. If it cannot
   * be done now, the device is marked, and the next page load repairs it.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {PushSubscription | null} [given] what the browser made in place of the old one
   * @returns {Promise<boolean>} whether nothing is left to do
   */
  async function heal(scope, given = null) {
    const mend = async () => {
      const device = /** @type {Device | undefined} */ (await load(scope.indexedDB, 'device'));
      if (!device || (await within(HEAL_LIMIT, renew(scope, device, given).then(() => true, () => false), false))) return true;
      await change(scope.indexedDB, 'device', (now) => now && { ...now, stale: true });
      return false;
    };
    return alone(scope.navigator, mend).catch(() => true); // without storage there is no device to mend
  }

  /**
   * @param {ServiceWorkerGlobalScope} scope
   * @param {Device} device
   * @param {PushSubscription | null} given
   * @returns {Promise<void>}
   */
  async function renew(scope, device, given) {
    const asked = await scope.fetch(`${device.server}/v1/config`, { cache: 'no-store', credentials: 'omit', redirect: 'error' });
    const config = await asked.json();
    const key = octets(config.vapidPublicKey);

    const manager = scope.registration.pushManager;
    let subscription = given ?? (await manager.getSubscription());
    if (subscription && !sameKey(subscription, key)) {
      await subscription.unsubscribe();
      subscription = null;
    }
    subscription ??= await manager.subscribe({ userVisibleOnly: true, applicationServerKey: key });

    const answer = await scope.fetch(`${device.server}/v1/subscriptions/${device.id}`, {
      method: 'PUT', credentials: 'omit', redirect: 'error',
      headers: { 'Content-Type': 'application/json', Authorization: `Device ${device.secret}` },
      body: JSON.stringify({ subscription, keyId: config.keyId }),
    });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const hash = await digest(subscription.endpoint);
    const receipts = wanted(config.receipts, subscription.endpoint);
    await change(scope.indexedDB, 'device', (now) => now && { ...now, hash, keyId: config.keyId, receipts, stale: false });
  }

  /**
   * Notes what became of a message, where the server wants to know that, and
   * tells it, with all that it could not be told before.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {'shown' | 'clicked' | 'closed'} kind
   * @param {{ data?: unknown }} notification
   * @param {{ action?: string, delay?: number, limit?: number }} [options] delay and limit are in ms
   * @returns {Promise<boolean>} whether nothing is left to tell
   */
  async function note(scope, kind, { data }, { action = '', delay = 0, limit = TELL_LIMIT } = {}) {
    const mark = object(object(data).belfry);
    const message = text(mark.id);
    // The server takes no other name, and with it would refuse all that is told beside.
    const button = Object.hasOwn(object(mark.actions), action) && /^[\w.-]{1,64}$/.test(action) && { action };
    const work = async () => {
      const device = /** @type {Device | undefined} */ (await load(scope.indexedDB, 'device'));
      // What waits is told with what is wanted, or by the next page.
      if (!message || !device?.receipts?.includes(kind)) return true;
      const receipt = { message, kind, ...button, at: new Date().toISOString() };
      const oldest = Date.now() - KEEP_RECEIPTS;
      await change(scope.indexedDB, 'receipts', (list) =>
        [...(Array.isArray(list) ? list : []), receipt].filter(({ at }) => Date.parse(at) > oldest).slice(-MOST_RECEIPTS));
      await new Promise((resolve) => { setTimeout(resolve, delay); });
      return tellAll(scope);
    };
    return within(limit, work().catch(() => false), false);
  }

  /**
   * Has the browser wake us when there is a network, where it does that, if work is not done now.
   *
   * @param {ServiceWorkerGlobalScope} scope
   * @param {string} tag
   * @param {Promise<boolean>} work
   * @returns {Promise<void>}
   */
  async function orLater(scope, tag, work) {
    if (!(await work)) await within(ASK_LIMIT, /** @type {any} */ (scope.registration).sync?.register(tag).catch(() => {}), undefined);
  }

  /**
   * Does what we asked to be woken for. What fails again the browser asks for
   * again, ever more seldom; if we asked for it ourselves, it would at once.
   *
   * @param {Promise<boolean>} work
   * @returns {Promise<void>}
   */
  async function orFail(work) {
    if (!(await work)) throw new Error('belfry: it could not be done yet');
  }

  /**
   * @param {PushMessageData | null} data
   * @returns {unknown}
   */
  function parse(data) {
    try {
      return data?.json();
    } catch {
      return null;
    }
  }

  /**
   * @param {unknown} value
   * @returns {Record<string, unknown>}
   */
  function object(value) {
    return typeof value === 'object' && value !== null ? /** @type {Record<string, unknown>} */ (value) : {};
  }

  /**
   * @param {unknown} value
   * @returns {string}
   */
  function text(value) {
    return typeof value === 'string' ? value : '';
  }

  // From here to the listeners: word for word the same in belfry.js, since page
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

  const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
  // No cache is kept, so a new version may take over at once (BR-35).
  worker.addEventListener('install', (event) => event.waitUntil(worker.skipWaiting()));
  worker.addEventListener('activate', (event) => event.waitUntil(worker.clients.claim()));
  worker.addEventListener('push', (event) => event.waitUntil(ring(worker, event)));
  worker.addEventListener('notificationclick', (event) => event.waitUntil(follow(worker, event.notification, event.action)));
  worker.addEventListener('notificationclose', (event) => event.waitUntil(orLater(worker, RECEIPTS, note(worker, 'closed', event.notification))));
  worker.addEventListener('pushsubscriptionchange', (event) =>
    /** @type {ExtendableEvent} */ (event).waitUntil(orLater(worker, HEAL, heal(worker, /** @type {any} */ (event).newSubscription))));
  worker.addEventListener('sync', (event) => {
    const { tag } = /** @type {any} */ (event);
    const work = tag === HEAL ? heal : tag === RECEIPTS ? tellAll : null;
    if (work) /** @type {ExtendableEvent} */ (event).waitUntil(orFail(work(worker)));
  });
})();
