// What the worker does with pushes and clicks, on a scope that a browser would give it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { elapsed, settled, stopClock } from './doubles/clock.js';
import { Database } from './doubles/database.js';
import { Random } from './doubles/random.js';
import { Server } from './doubles/server.js';
import { Window, Worker } from './doubles/worker.js';

const DAY = 24 * 3600_000;
const root = 'https://app.example/';

/** @param {Record<string, unknown>} notification */
const declarative = (notification) => ({ web_push: 8030, notification: { title: 'T', navigate: `${root}x`, ...notification } });

/** @param {string} id */
const withId = (id, more = {}) => declarative({ tag: 't', data: { belfry: { id } }, ...more });

// A worker that is not told in its first turn what it listens for never hears of it (BR-23).
test('listens from its first turn, and for nothing that would slow a page down', () => {
  const worker = new Worker();
  assert.deepEqual(Object.keys(worker.listeners).sort(),
    ['activate', 'install', 'notificationclick', 'notificationclose', 'push', 'pushsubscriptionchange', 'sync']);
});

test('a new version takes over at once (BR-35)', async () => {
  const worker = new Worker();
  await worker.fire('install');
  await worker.fire('activate');
  assert.ok(worker.skipped && worker.claimed);
});

// A name of ours that is one of theirs too would keep a site's own worker from
// starting. These are all that we have, and more that they may have.
test('can be imported by the worker of a site on another origin, whatever names that uses', async () => {
  const theirs = ['worker', 'scope', 'store', 'storage', 'load', 'change', 'show', 'read', 'seen', 'site', 'parse', 'text', 'object', 'within', 'heal'];
  const worker = new Worker({
    file: `${theirs.map((name) => `const ${name} = 1;`).join('')}
      self.BELFRY = 'https://ring.example.com'; importScripts(BELFRY + '/sw.js');`,
  });
  assert.deepEqual(worker.imported, ['https://ring.example.com/sw.js']);
  assert.deepEqual(Object.keys(worker.scope), [...worker.globals, 'BELFRY']);
  await worker.push(declarative({}));
  await worker.click();
  assert.deepEqual([worker.shown.length, worker.opened], [1, [`${root}x`]]);
});

const { rows } = JSON.parse(readFileSync(new URL('./testdata/payloads.json', import.meta.url), 'utf8'));
for (const row of rows) {
  test(`shows what Go writes: ${row.why}`, async () => {
    const worker = new Worker({ origin: row.origin, maxActions: 2 });
    await worker.push(row.payload);
    assert.deepEqual(worker.shown, [row.shown]);
    assert.equal(await worker.click(), true);
    assert.deepEqual(worker.opened, [row.click]);
  });
}

// Three pushes that show nothing, and iOS takes the permission away (PS-28). So
// whatever arrives, one notification is shown.
test('1,000 fuzzed payloads: each shows exactly one notification (BR-20)', async () => {
  const random = new Random(8030);
  const worker = new Worker();
  for (let i = 0; i < 1000; i++) {
    const payload = fuzzed(random);
    const before = worker.shown.length;
    await worker.push(payload);
    assert.equal(worker.shown.length, before + 1, `payload ${i}: ${JSON.stringify(payload)}`);
    const { title, options } = /** @type {import('./doubles/worker.js').Shown} */ (worker.shown.at(-1));
    assert.ok(typeof title === 'string' && title !== '', `payload ${i} shows no title`);
    assert.ok(typeof options.tag === 'string' && options.tag !== '', `payload ${i} has no tag`);
    assert.ok((options.actions ?? []).length <= 2);
  }
});

/**
 * A payload that is nearly right, in one of many ways; now and then not at all.
 *
 * @param {Random} random
 */
function fuzzed(random) {
  const odd = () => random.pick(/** @type {unknown[]} */ ([undefined, null, true, 0, -1, 1.5, 1e308, '', 'x', '\u0000', '🔔'.repeat(50), [], [null], {}, { toString: 1 },
    { __proto__: null }, 'javascript:alert(1)', [[[]]], 'ltr', Array(60).fill({ action: 'a', title: 't' })]));
  const raw = ['', '{', 'null', '"x"', '[]', '0', 'true', '{"notification":', '{"__proto__":{"notification":{"title":"x"}}}', '\ufeff{}'];
  const kind = random.below(10);
  if (kind === 0) return random.pick([undefined, ...raw]);
  if (kind === 1) return Buffer.from(Array.from({ length: random.below(200) }, () => random.below(256)));
  if (kind === 2) return odd();
  /** @type {Record<string, unknown>} */
  const n = {};
  for (const member of ['title', 'body', 'navigate', 'lang', 'dir', 'tag', 'icon', 'image', 'silent', 'requireInteraction', 'renotify', 'actions', 'data', 'vibrate']) {
    if (random.below(3) > 0) n[member] = odd();
  }
  if (random.below(2)) n.actions = [{ action: odd(), title: odd(), navigate: odd() }, odd()];
  if (random.below(2)) n.data = { belfry: random.pick([odd(), { id: odd(), channel: odd() }]), other: odd() };
  return { web_push: random.pick([8030, '8030', odd()]), notification: random.below(10) ? n : odd(), mutable: odd(), app_badge: odd() };
}

test('what cannot be read still says that there is something', async () => {
  for (const payload of [undefined, '', '{', 'null', 'plain text', '{"a":1}', '{"notification":"x"}', '{"notification":{"title":"","body":""}}']) {
    const worker = new Worker();
    await worker.push(payload);
    assert.deepEqual(worker.shown.map(({ title, options }) => [title, options.body]), [['app.example', 'You have a new message.']], payload);
  }
});

// A browser throws on some combinations, and nothing would be shown (BR-28).
for (const [why, notification, want] of /** @type {[string, Record<string, unknown>, Record<string, unknown>][]} */ ([
  ['renotify without tag', { renotify: true }, { renotify: undefined }],
  ['renotify with tag', { renotify: true, tag: 't' }, { renotify: true, tag: 't' }],
  ['silent and vibrate', { silent: true, vibrate: [200] }, { silent: true, vibrate: undefined }],
  ['unknown direction', { dir: 'up' }, { dir: undefined }],
  ['strings for booleans', { silent: 'false', requireInteraction: 'yes', renotify: 1, tag: 't' }, { silent: undefined, requireInteraction: undefined, renotify: undefined }],
  ['an icon that is a script', { icon: 'javascript:alert(1)', image: 'data:image/png,x' }, { icon: undefined, image: undefined }],
  ['an icon over plain http', { icon: 'http://app.example/i.png' }, { icon: undefined }],
  ['a relative icon', { icon: '/i.png' }, { icon: undefined }],
  ['an icon over https', { icon: 'https://cdn.example/i.png' }, { icon: 'https://cdn.example/i.png' }],
  ['actions that are no list', { actions: { action: 'a', title: 'A' } }, { actions: undefined }],
  ['actions without a title', { actions: [{ action: 'a' }, { title: 'B' }, null, 'x'] }, { actions: undefined }],
  ['members that nobody knows', { badge: '/b', timestamp: 'x', nonsense: 1 }, { badge: undefined, timestamp: undefined, nonsense: undefined }],
])) {
  test(`passes the browser nothing that it throws on: ${why}`, async () => {
    const worker = new Worker();
    await worker.push(declarative(notification));
    assert.equal(worker.shown.length, 1);
    for (const [member, value] of Object.entries(want)) assert.deepEqual(worker.shown[0].options[member], value, member);
  });
}

for (const [maxActions, want] of /** @type {[number | undefined, number][]} */ ([[0, 0], [1, 1], [2, 2], [8, 3]])) {
  test(`shows ${want} of three actions where there is room for ${maxActions} (BR-27)`, async () => {
    const worker = new Worker({ maxActions });
    await worker.push(declarative({ actions: ['a', 'b', 'c'].map((action) => ({ action, title: action, navigate: root })) }));
    assert.equal(worker.shown[0].options.actions?.length ?? 0, want);
  });
}

test('shows no actions where the browser does not say that it has any', async () => {
  const worker = new Worker();
  delete worker.scope.Notification;
  await worker.push(declarative({ actions: [{ action: 'a', title: 'A' }] }));
  assert.equal(worker.shown[0].options.actions, undefined);
});

test('shows it plain when the browser refuses it with all it has', async () => {
  const worker = new Worker();
  worker.display = async (_, options) => { if (options.icon) throw new TypeError('not this icon'); };
  await worker.push(declarative({ body: 'B', tag: 't', icon: 'https://app.example/i.png', silent: true }));
  assert.equal(worker.shown.length, 2);
  assert.deepEqual(worker.shown[1], { title: 'T', options: { body: 'B', tag: 't', silent: true, data: worker.shown[0].options.data } });
});

// Time (BR-22): iOS kills a handler after about 10 s, with nothing shown.

test('shows within 5 s when the database never answers', async (t) => {
  stopClock(t);
  const database = new Database();
  database.hangs = true;
  const worker = new Worker({ database });
  const took = await elapsed(t, worker.push(withId('m1')));
  assert.equal(worker.shown.length, 1);
  assert.ok(took < 5000, `${took} ms`);
});

test('shows at once when the badge and the server never answer', async (t) => {
  stopClock(t);
  const { worker, server } = await registered({ receipts: ['shown'] });
  server.hangs = true;
  /** @type {any[]} */
  const badges = [];
  worker.scope.navigator.setAppBadge = (/** @type {number} */ n) => {
    badges.push([n, worker.shown.length]);
    return new Promise(() => {});
  };
  let at = NaN;
  const began = Date.now();
  worker.display = async () => { at = Date.now() - began; };
  const took = await elapsed(t, worker.push({ ...withId('m1'), app_badge: 3 }));
  assert.deepEqual([worker.shown.length, badges], [1, [[3, 1]]]);
  assert.ok(at < 200 && took < 5000, `shown after ${at} ms, done after ${took} ms`);
});

// The number on the icon; a wrong one is left as it is (BR-29, BR-52, BR-53).
for (const [payload, want] of /** @type {[Record<string, unknown>, number[]][]} */ ([
  [{ app_badge: 0 }, [0]], [{ app_badge: 7, notification: { title: 'T', app_badge: 8 } }, [7]], [{ notification: { title: 'T', app_badge: 8 } }, [8]],
  [{ app_badge: -1 }, []], [{ app_badge: 1.5 }, []], [{ app_badge: '3' }, []], [{ app_badge: null }, []], [{ app_badge: 2 ** 60 }, []], [{}, []],
])) {
  test(`the badge of ${JSON.stringify(payload)}`, async () => {
    for (const answer of [async () => {}, async () => { throw new Error('no'); }, () => { throw new TypeError('not here'); }, null]) {
      const worker = new Worker();
      /** @type {number[]} */
      const badges = [];
      if (answer) {
        worker.scope.navigator.setAppBadge = (/** @type {number} */ n) => {
          badges.push(n);
          return answer();
        };
      }
      await worker.push({ ...declarative({}), ...payload });
      assert.equal(worker.shown.length, 1);
      if (answer) assert.deepEqual(badges, want);
    }
  });
}

// A browser that reads declarative messages itself gives what it is about to show, and no data; iOS was measured to
// refuse what leads nowhere (BR-54).
test('what the browser proposes is shown, and still leads where it led', async () => {
  const proposed = { title: 'T', body: 'B', navigate: `${root}x`, tag: 't', icon: 'https://app.example/i.png', silent: false, data: { belfry: { id: 'm1' } } };
  const worker = new Worker();
  worker.display = async (_, options) => {
    if (!options.navigate) throw new TypeError('it leads nowhere');
    if (options.icon) throw new TypeError('not this icon');
  };
  await worker.fire('push', { data: null, notification: proposed });
  assert.deepEqual(worker.shown.map(({ title, options }) => [title, options.body, options.tag, options.navigate]), [['T', 'B', 't', `${root}x`], ['T', 'B', 't', `${root}x`]]);
  assert.deepEqual(worker.database.read('seen').map((/** @type {[string, number]} */ [id]) => id), ['m1']);
  await worker.click();
  assert.deepEqual(worker.opened, [`${root}x`]);
  await worker.fire('push', { data: null, notification: { ...proposed, navigate: 'https://evil.example/' } });
  assert.equal(worker.shown.at(-1)?.options.navigate, root);
});

test('shows at once when there is no database', async (t) => {
  stopClock(t);
  const database = new Database();
  database.broken = true;
  for (const worker of [new Worker({ database }), new Worker()]) {
    if (worker.database !== database) delete worker.scope.indexedDB;
    assert.ok((await elapsed(t, worker.push(withId('m1')))) < 200);
    assert.equal(worker.shown.length, 1);
  }
});

test('shows it without its picture when the picture never loads, as one notification', async (t) => {
  stopClock(t);
  const worker = new Worker();
  worker.display = (_, options) => (options.icon ? new Promise(() => {}) : Promise.resolve());
  const took = await elapsed(t, worker.push(withId('m1', { icon: 'https://slow.example/i.png' })));
  assert.ok(took < 5000, `${took} ms`);
  assert.deepEqual(worker.shown.map(({ options }) => [options.tag, options.icon]), [['t', 'https://slow.example/i.png'], ['t', undefined]]);
});

test('ends within 5 s when everything hangs', async (t) => {
  stopClock(t);
  const database = new Database();
  database.hangs = true;
  const worker = new Worker({ database });
  worker.display = () => new Promise(() => {});
  const took = await elapsed(t, worker.push(withId('m1')));
  assert.ok(worker.shown.length > 0 && took < 5000, `${took} ms`);
});

// At least once, rung once (BR-31).

test('a message that comes twice is shown twice and rings once', async () => {
  const database = new Database();
  // The browser may have stopped the worker in between.
  for (const worker of [new Worker({ database }), new Worker({ database })]) await worker.push(withId('m1', { renotify: true }));
  const again = new Worker({ database });
  await again.push(withId('m1', { renotify: true }));
  assert.deepEqual(again.shown.map(({ options }) => [options.tag, options.silent, options.renotify]), [['t', true, false]]);
  await again.push(withId('m2', { renotify: true }));
  assert.deepEqual(again.shown.slice(1).map(({ options }) => [options.tag, options.silent, options.renotify]), [['t', undefined, true]]);
});

test('a message that was not shown to the end rings when it comes again', async (t) => {
  stopClock(t);
  const database = new Database();
  const killed = new Worker({ database });
  killed.display = () => new Promise(() => {});
  killed.push(withId('m1'));
  await settled(); // and here the browser ends it
  const next = new Worker({ database });
  await elapsed(t, next.push(withId('m1')));
  assert.equal(next.shown[0].options.silent, undefined);
});

test('an id is kept for 7 days, and no longer', async (t) => {
  stopClock(t);
  const worker = new Worker();
  await elapsed(t, worker.push(withId('m1')));
  t.mock.timers.tick(7 * DAY - 60_000);
  await elapsed(t, worker.push(withId('other')));
  await elapsed(t, worker.push(withId('m1')));
  assert.equal(worker.shown.at(-1)?.options.silent, true);
  t.mock.timers.tick(7 * DAY + 60_000);
  await elapsed(t, worker.push(withId('m1')));
  assert.equal(worker.shown.at(-1)?.options.silent, undefined);
  t.mock.timers.tick(7 * DAY + 60_000);
  await elapsed(t, worker.push(withId('m3')));
  assert.deepEqual(worker.database.read('seen').map((/** @type {[string, number]} */ [id]) => id), ['m3']);
});

test('the list of ids stays short', async () => {
  const database = new Database();
  database.write('seen', Array.from({ length: 5000 }, (_, i) => [`m${i}`, Date.now()]));
  const worker = new Worker({ database });
  await worker.push(withId('new'));
  assert.equal(database.read('seen').length, 2000);
  await worker.push(withId('m4999'));
  assert.equal(worker.shown[1].options.silent, true);
});

test('what else may lie in the list of ids does no harm', async () => {
  for (const list of ['x', 7, {}, [null, 'x', [], ['m1', 'yesterday'], [['m1'], 1]]]) {
    const database = new Database();
    database.write('seen', list);
    const worker = new Worker({ database });
    await worker.push(withId('m1'));
    assert.equal(worker.shown[0].options.silent, undefined, JSON.stringify(list));
    assert.equal(database.read('seen').at(-1)[0], 'm1');
  }
});

// Clicks (BR-25).

for (const [why, windows, opened, focused, at] of /** @type {[string, () => Window[], string[], number[], string[]][]} */ ([
  ['no window: a new one', () => [], [`${root}x`], [], []],
  ['one that shows something else: it is taken there', () => [new Window(root)], [], [1], [`${root}x`]],
  ['one that shows it already', () => [new Window(`${root}x`)], [], [1], [`${root}x`]],
  ['three, the last of which shows it', () => [new Window(root), new Window(`${root}y`), new Window(`${root}x`)], [], [0, 0, 1], [root, `${root}y`, `${root}x`]],
  ['three, of which none shows it: the one last used', () => [new Window(`${root}a`), new Window(`${root}b`), new Window(`${root}c`)], [], [1, 0, 0], [`${root}x`, `${root}b`, `${root}c`]],
  ['one that is not under control and shows it', () => [new Window(`${root}x`, { controlled: false })], [], [1], [`${root}x`]],
  ['one that is not under control and cannot be moved: a new one', () => [new Window(root, { controlled: false })], [`${root}x`], [0], [root]],
  ['one under control behind one that is not', () => [new Window(root, { controlled: false }), new Window(`${root}b`)], [], [0, 1], [root, `${root}x`]],
])) {
  test(`a click, ${why}`, async () => {
    const worker = new Worker();
    worker.windows = windows();
    assert.equal(await worker.click({ data: { belfry: { navigate: `${root}x` } } }), true, 'the notification stays open');
    assert.deepEqual(worker.opened, opened);
    assert.deepEqual(worker.windows.map((w) => w.focused), focused);
    assert.deepEqual(worker.windows.map((w) => w.url), at);
  });
}

test('a click opens a new window when the one that is open cannot be moved after all', async () => {
  const worker = new Worker();
  const stubborn = new Window(root);
  stubborn.navigate = async () => { throw new TypeError('gone'); };
  worker.windows = [stubborn];
  await worker.click({ data: { belfry: { navigate: `${root}x` } } });
  assert.deepEqual(worker.opened, [`${root}x`]);
});

test('a click on a button opens what the button is for', async () => {
  const worker = new Worker();
  await worker.push(declarative({ actions: [{ action: 'buy', title: 'Buy', navigate: `${root}buy` }, { action: 'bare', title: 'Bare' }] }));
  for (const [action, url] of [['buy', `${root}buy`], ['bare', root], ['unknown', `${root}x`], ['constructor', `${root}x`], ['', `${root}x`]]) {
    worker.opened = [];
    await worker.click({ action });
    assert.deepEqual(worker.opened, [url], action);
  }
});

// A payload may be older than the server's check, or come from a leaked key: a
// click still leads to a page of this site and nowhere else (SEC-31).
for (const raw of ['https://evil.example/', '//evil.example', '\\\\evil.example\\x', 'javascript:alert(1)', 'JaVaScRiPt:alert(1)', 'java\nscript:alert(1)',
  'data:text/html,<script>alert(1)</script>', 'blob:https://app.example/7f1c', 'filesystem:https://app.example/x', 'file:///etc/passwd', 'about:blank',
  'http://app.example/', 'https://app.example:8443/', 'https://app.example.evil.example/', 'https://app.example@evil.example/', 'https://user:pw@app.example/x',
  'https://аpp.example/', 'https:', 'http://[', '', null, 7, {}, ['https://app.example/x']]) {
  test(`a click on ${JSON.stringify(raw)} leads home`, async () => {
    const worker = new Worker();
    await worker.push({ web_push: 8030, notification: { title: 'T', navigate: raw, actions: [{ action: 'a', title: 'A', navigate: raw }] } });
    await worker.click();
    await worker.click({ action: 'a' });
    assert.deepEqual(worker.opened, [root, root]);
  });
}

// Else the page that is open already, which has taken it off its address, would not be found.
test('a click leads to the page itself, without what says which message it is of', async () => {
  for (const [from, to] of [['chat?belfry=m1.sig', 'chat'], ['chat?a=%20&belfry=m1.sig&b#x', 'chat?a=%20&b#x'], ['chat?belfryx=1', 'chat?belfryx=1']]) {
    const worker = new Worker();
    await worker.click({ data: { belfry: { navigate: root + from } } });
    assert.deepEqual(worker.opened, [root + to]);
  }
});

test('of 10,000 fuzzed URLs every one that a click opens is of this site (SEC-31)', async () => {
  const random = new Random(31);
  const parts = ['https:', 'http:', 'javascript:', 'blob:', 'data:', '/', '//', '\\', '@', ':', '#', '?', '.', '..', '%2f', '\t', '\n', ' ', '\u0000',
    'app.example', 'evil.example', 'APP.EXAMPLE', 'app.example.', 'user', ':443', ':8443', 'x', 'é', '[::1]', '127.0.0.1', '\u2028', '／', '。'];
  const worker = new Worker();
  let elsewhere = 0;
  for (let i = 0; i < 10_000; i++) {
    const raw = Array.from({ length: 1 + random.below(8) }, () => random.pick(parts)).join('');
    worker.opened = [];
    await worker.click({ data: { belfry: { navigate: raw } } });
    const [url] = worker.opened;
    const { origin, protocol, username } = new URL(url);
    assert.ok(worker.opened.length === 1 && origin === 'https://app.example' && protocol === 'https:' && username === '', `${JSON.stringify(raw)} opened ${url}`);
    if (url !== root) elsewhere++;
  }
  assert.ok(elsewhere > 500, `only ${elsewhere} led anywhere but home: the fuzzer tests nothing`);
});

test('a click on what another script has shown, or on nothing at all, leads home', async () => {
  for (const data of [undefined, null, 'x', 7, [], { belfry: null }, { belfry: 'x' }, { belfry: { navigate: {}, actions: 'x' } }]) {
    const worker = new Worker();
    await worker.fire('notificationclick', { action: 'a', notification: { data, close() {} } });
    assert.deepEqual(worker.opened, [root]);
  }
});

// The browser changes the subscription by itself (BR-13).

/**
 * A browser that is registered, and its worker.
 *
 * @param {{ sync?: boolean, receipts?: string[] }} [options]
 */
async function registered({ sync = false, receipts } = {}) {
  const server = new Server();
  const database = new Database();
  const worker = new Worker({ database, fetch: server.fetch, sync });
  const subscription = await worker.manager.subscribe({ userVisibleOnly: true, applicationServerKey: Buffer.from(server.key, 'base64url') });
  server.rows.set('d1', { id: 'd1', secret: 's1', endpoint: subscription.endpoint, keyId: 'first', channels: ['news'], body: {} });
  database.write('device', { id: 'd1', secret: 's1', server: 'https://ring.example', hash: 'old', keyId: 'first', channels: ['news'], receipts, stale: false });
  worker.manager.asked = [];
  return { server, database, worker };
}

test('a subscription that the browser replaced is told to the server, under the same id', async () => {
  const { server, database, worker } = await registered();
  const given = worker.manager.renew();
  worker.manager.getSubscription = async () => null; // not yet, in some versions
  await worker.fire('pushsubscriptionchange', { newSubscription: given });
  assert.deepEqual(server.calls.map(({ method, url, authorization }) => [method, url, authorization]),
    [['GET', 'https://ring.example/v1/config', null], ['PUT', 'https://ring.example/v1/subscriptions/d1', 'Device s1']]);
  assert.equal(server.rows.get('d1')?.endpoint, given.endpoint);
  assert.deepEqual(server.rows.get('d1')?.channels, ['news']);
  assert.equal(database.read('device').stale, false);
  assert.notEqual(database.read('device').hash, 'old');
  assert.equal(worker.manager.asked.length, 0);
});

test('a subscription that the browser dropped is made anew, for the key that the server has now', async () => {
  const { server, database, worker } = await registered();
  server.rotate();
  await worker.fire('pushsubscriptionchange', { newSubscription: null });
  assert.equal(worker.manager.asked.length, 1);
  assert.equal(worker.manager.asked[0].userVisibleOnly, true);
  assert.equal(server.rows.get('d1')?.keyId, 'first-next');
  assert.equal(server.rows.get('d1')?.endpoint, worker.manager.subscription?.endpoint);
  assert.equal(database.read('device').keyId, 'first-next');
});

test('offline, the device is marked, and mended when the network is back', async () => {
  const { server, database, worker } = await registered({ sync: true });
  server.down = true;
  const given = worker.manager.renew();
  await worker.fire('pushsubscriptionchange', { newSubscription: given });
  assert.equal(database.read('device').stale, true);
  assert.deepEqual(worker.syncs, ['belfry']);
  server.down = false;
  await worker.fire('sync', { tag: 'belfry' });
  assert.equal(server.rows.get('d1')?.endpoint, given.endpoint);
  assert.equal(database.read('device').stale, false);
});

// Asked for again from within it, the browser would wake us at once, and again, for as long as a server is down.
test('a sync that fails is left to the browser to repeat', async () => {
  const { server, worker } = await registered({ sync: true, receipts: ['clicked'] });
  server.down = true;
  for (const tag of ['belfry', 'belfry-receipts']) {
    worker.database.write('receipts', [{ message: 'm1', kind: 'clicked', at: new Date().toISOString() }]);
    await assert.rejects(worker.fire('sync', { tag }), /could not be done yet/);
  }
  assert.deepEqual(worker.syncs, []);
});

test('a sync of the site\'s own is none of our business', async () => {
  const { server, worker } = await registered({ sync: true });
  await assert.rejects(worker.fire('sync', { tag: 'outbox' }), /nothing waits/);
  assert.equal(server.calls.length, 0);
});

for (const [why, trouble] of /** @type {[string, (server: Server, worker: Worker) => void][]} */ ([
  ['the server refuses', (server) => server.answer('PUT', 401, { code: 'unknown-device' })],
  ['the server has a bad day', (server) => server.answer('GET', 503)],
  ['the server never answers', (server) => { server.hangs = true; }],
  ['the server has no key', (server) => server.answer('GET', 200, {})],
  ['the permission is gone', (_, worker) => { worker.manager.subscription = null; worker.manager.trouble = [new DOMException('no', 'NotAllowedError')]; }],
])) {
  test(`when ${why}, the next page load is told to look`, async (t) => {
    stopClock(t);
    const { server, database, worker } = await registered();
    trouble(server, worker);
    const took = await elapsed(t, worker.fire('pushsubscriptionchange', {}));
    assert.ok(took < 25_000, `${took} ms`);
    assert.equal(database.read('device').stale, true);
    assert.equal(database.read('device').secret, 's1');
  });
}

test('a browser that never registered here, or has left, heals nothing', async () => {
  const server = new Server();
  const worker = new Worker({ fetch: server.fetch });
  await worker.fire('pushsubscriptionchange', { newSubscription: null });
  assert.equal(server.calls.length, 0);
  assert.equal(worker.database.read('device'), undefined);
});

// Receipts: after what a person sees, never in its way, and only where they are wanted.

/** @param {Server} server */
const told = (server) => server.receipts.flatMap(({ receipts }) => receipts.map((/** @type {any} */ { message, kind, action }) => [kind, message, action ?? '']));

test('tells that a message was shown, within seconds at random, as the device that it is', async (t) => {
  stopClock(t);
  const delays = new Set();
  for (const chance of [0, 0.5, 0.999]) {
    const { server, worker } = await registered({ receipts: ['shown'] });
    worker.scope.Math = { random: () => chance };
    const before = Date.now();
    delays.add(Math.round((await elapsed(t, worker.push(withId('m1')))) / 1000));
    assert.deepEqual(server.receipts, [{ device: 'd1', secret: 's1', receipts: [{ message: 'm1', kind: 'shown', at: new Date(before).toISOString() }] }]);
    assert.equal(worker.database.read('receipts'), undefined);
  }
  assert.deepEqual([...delays], [0, 2, 3]);
});

// On Apple's devices that would be seconds of each push, for nothing.
test('waits for nothing where nobody asked whether a message was shown', async (t) => {
  stopClock(t);
  const { server, worker } = await registered({ receipts: ['clicked'] });
  worker.scope.Math = { random: () => 0.999 };
  assert.ok(await elapsed(t, worker.push(withId('m1'))) < 1000);
  assert.deepEqual(server.receipts, []);
});

test('the call brings no cookies, outlives the worker and follows nobody elsewhere', async () => {
  const { server, worker } = await registered({ receipts: ['clicked'] });
  /** @type {any[]} */
  const inits = [];
  worker.scope.fetch = (/** @type {any} */ url, /** @type {any} */ init) => {
    inits.push({ ...init, url, body: undefined });
    return server.fetch(url, init);
  };
  await worker.click({ data: { belfry: { id: 'm1' } } });
  assert.deepEqual(JSON.parse(JSON.stringify(inits)), [{ url: 'https://ring.example/v1/receipts', method: 'POST', keepalive: true, credentials: 'omit', redirect: 'error',
    headers: { 'Content-Type': 'application/json' } }]);
});

test('tells of a click once the page is open, and which button it was', async () => {
  const { server, worker } = await registered({ receipts: ['clicked'] });
  const data = { belfry: { id: 'm1', navigate: root, actions: { buy: `${root}buy` } } };
  worker.scope.clients.openWindow = async (/** @type {string} */ url) => {
    assert.equal(server.calls.length, 0, 'the page waits for the receipt');
    worker.opened.push(url);
  };
  await worker.click({ data });
  server.calls = [];
  await worker.click({ data, action: 'buy' });
  server.calls = [];
  await worker.click({ data, action: 'toString' });
  assert.deepEqual(told(server), [['clicked', 'm1', ''], ['clicked', 'm1', 'buy'], ['clicked', 'm1', '']]);
  worker.scope.clients.openWindow = async () => { throw new DOMException('not within a click', 'InvalidAccessError'); };
  await assert.rejects(worker.click({ data }), /not within a click/);
  assert.equal(told(server).length, 4, 'it was a click all the same');
});

for (const [kinds, want] of /** @type {[string[] | undefined, string[]][]} */ ([
  [undefined, []], [[], []], [['shown'], ['shown']], [['clicked'], ['clicked']], [['closed'], ['closed']], [['shown', 'clicked', 'closed'], ['shown', 'clicked', 'closed']],
])) {
  test(`where ${JSON.stringify(kinds)} are wanted, no others are told or kept (BR-26)`, async (t) => {
    stopClock(t);
    const { server, worker } = await registered({ receipts: kinds });
    await elapsed(t, worker.push(withId('m1')));
    const notification = { data: worker.shown[0].options.data, close() {} };
    await elapsed(t, worker.fire('notificationclick', { action: '', notification }));
    await elapsed(t, worker.fire('notificationclose', { notification }));
    assert.deepEqual(told(server).map(([kind]) => kind), want);
    assert.equal(server.calls.length, want.length);
    assert.equal(worker.database.read('receipts'), undefined);
  });
}

test('what was not shown, is no message of ours or comes to a browser that left is told to nobody', async (t) => {
  stopClock(t);
  const { server, worker } = await registered({ receipts: ['shown', 'clicked', 'closed'] });
  await elapsed(t, worker.push(declarative({})));
  await elapsed(t, worker.fire('notificationclose', { notification: { data: null } }));
  worker.display = async () => { throw new TypeError('no'); };
  await elapsed(t, worker.push(withId('m1')));
  worker.display = async () => {};
  worker.database.write('device', undefined);
  await elapsed(t, worker.push(withId('m2')));
  assert.deepEqual([server.receipts, worker.database.read('receipts')], [[], undefined]);
});

test('what could not be told goes with the next occasion, and the browser is asked to wake us for it', async (t) => {
  stopClock(t);
  const { server, worker } = await registered({ sync: true, receipts: ['shown', 'clicked'] });
  server.down = true;
  await elapsed(t, worker.push(withId('m1')));
  await elapsed(t, worker.click());
  assert.deepEqual([worker.syncs, worker.database.read('receipts').length], [['belfry-receipts', 'belfry-receipts'], 2]);
  server.down = false;
  await elapsed(t, worker.push(withId('m2')));
  assert.deepEqual(told(server), [['shown', 'm1', ''], ['clicked', 'm1', ''], ['shown', 'm2', '']]);
  server.receipts = [];
  worker.database.write('receipts', [{ message: 'm3', kind: 'clicked', at: new Date().toISOString() }]);
  await worker.fire('sync', { tag: 'belfry-receipts' });
  assert.deepEqual([told(server), worker.database.read('receipts')], [[['clicked', 'm3', '']], undefined]);
});

test('of what waits the newest 200 are kept, for 7 days', async (t) => {
  stopClock(t);
  const { server, worker } = await registered({ receipts: ['clicked'] });
  server.down = true;
  const at = (/** @type {number} */ age) => new Date(Date.now() - age).toISOString();
  worker.database.write('receipts', [{ message: 'old', kind: 'clicked', at: at(7 * DAY + 1000) }, ...Array.from({ length: 199 }, (_, i) => ({ message: `m${i}`, kind: 'clicked', at: at(DAY) }))]);
  await elapsed(t, worker.click({ data: { belfry: { id: 'm199' } } }));
  await elapsed(t, worker.click({ data: { belfry: { id: 'm200' } } }));
  assert.deepEqual(worker.database.read('receipts').map((/** @type {any} */ { message }) => message), Array.from({ length: 200 }, (_, i) => `m${i + 1}`));
  t.mock.timers.tick(6 * DAY + 1000);
  await elapsed(t, worker.click({ data: { belfry: { id: 'm201' } } }));
  assert.deepEqual(worker.database.read('receipts').map((/** @type {any} */ { message }) => message), ['m199', 'm200', 'm201']);
});

test('messages that come together are told together', async (t) => {
  stopClock(t);
  const { server, worker } = await registered({ receipts: ['shown'] });
  await elapsed(t, Promise.all(Array.from({ length: 10 }, (_, i) => worker.push(withId(`m${i}`)))));
  assert.equal(new Set(told(server).map(([, id]) => id)).size, 10);
  assert.ok(server.receipts.length < 5, `${server.receipts.length} calls`);
});

test('a worker that heals learns what receipts are wanted now', async () => {
  const { server, database, worker } = await registered({ receipts: ['shown'] });
  server.wanted = ['clicked'];
  await worker.fire('pushsubscriptionchange', { newSubscription: null });
  assert.deepEqual(database.read('device').receipts, ['clicked']);
});
