// How open pages hear what is broadcast: ways, resuming, tabs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { elapsed, settled, stopClock } from './doubles/clock.js';
import { Random } from './doubles/random.js';
import { Household } from './doubles/tower.js';
import { Tabs } from './live.js';

/** @typedef {import('node:test').TestContext} TestContext */
/** @typedef {import('./doubles/tower.js').Tab} Tab */

const SECOND = 1000;
const server = 'https://ring.example';

/**
 * A browser with an empty memory, at a clock that only the test moves. Chance
 * gives the least unless the test says otherwise.
 *
 * @param {TestContext} t
 * @param {{ without?: string[], chance?: number }} [options]
 */
function household(t, { without = [], chance = 0 } = {}) {
  stopClock(t);
  const home = new Household();
  home.without = without;
  let pages = 0;
  let naming = false; // names of tabs are drawn, too, and must differ
  t.mock.method(Math, 'random', () => (naming ? pages / 1000 : chance));
  return Object.assign(home, {
    tower: home.tower,
    /** @param {Tab} tab @param {{ device?: { id: string, secret: string } | null }} [options] */
    page(tab = home.open(), { device = null } = {}) {
      pages++;
      naming = true;
      const page = new Listening(tab, device);
      naming = false;
      return page;
    },
  });
}

/** A page that listens, and writes down what it hears. */
class Listening {
  /** @type {string[]} ids */ heard = [];
  /** @type {any[]} */ resets = [];
  /** @type {string[]} */ transports = [];
  /** @type {string[]} */ reasons = [];
  /** @type {string[]} ids */ shown = [];
  target = new EventTarget();

  /**
   * @param {Tab} tab
   * @param {{ id: string, secret: string } | null} device
   */
  constructor(tab, device) {
    this.tab = tab;
    this.device = device;
    this.tabs = new Tabs(/** @type {any} */ (tab), server, this.target, async () => this.device, (id) => this.shown.push(id));
    this.target.addEventListener('transport', (event) => {
      const { transport, reason } = /** @type {CustomEvent} */ (event).detail;
      if (reason) this.reasons.push(reason);
      this.transports.push(transport);
    });
  }

  /** @param {string[]} channels */
  listen(...channels) {
    return this.tabs.join(channels, ({ id }) => this.heard.push(id), (reset) => this.resets.push(reset));
  }
}

/**
 * @param {number} n
 * @param {string[]} channels
 */
const message = (n, channels = ['news']) => ({ id: `m${n}`, channels, time: '2030-01-01T00:00:00.000Z', cursor: `e.${n}`, message: { title: `Message ${n}` } });

/**
 * Lets time pass.
 *
 * @param {TestContext} t
 * @param {number} ms
 */
async function pass(t, ms) {
  await settled();
  await elapsed(t, new Promise((resolve) => { setTimeout(resolve, ms); }), ms + SECOND);
  await settled();
}

/**
 * @param {number} status
 * @param {unknown} [body]
 * @param {Record<string, string>} [headers]
 */
const answer = (status, body, headers = {}) => new Response(body === undefined ? null : JSON.stringify(body), { status, headers });

/** A page with a stream that has begun. @param {TestContext} t @param {Parameters<typeof household>[1] & { device?: { id: string, secret: string } }} [options] */
async function streaming(t, options = {}) {
  const home = household(t, options);
  const page = home.page(home.open(), options);
  const stop = page.listen('news');
  await settled();
  home.tower.last.hello();
  await settled();
  assert.deepEqual(page.transports, ['sse']);
  return { home, tower: home.tower, page, stop };
}

test('an EventSource comes first, and tells each message once, in order', async (t) => {
  const { tower, page, stop } = await streaming(t);
  assert.deepEqual([tower.ways, tower.last.channels, tower.last.cursor], [['sse'], ['news'], '']);
  for (const n of [1, 2, 2, 1, 3]) tower.last.say(message(n));
  tower.last.say(message(4, ['offers']));
  tower.last.say(message(5, []));
  assert.deepEqual(page.heard, ['m1', 'm2', 'm3', 'm5']);
  stop();
  await settled();
  assert.equal(tower.open.length, 0, 'a page that stops listening hangs up');
  tower.last.say(message(6));
  assert.equal(page.heard.length, 4);
});

test('the next way starts after 2 s without a hello, polls after 4 s', async (t) => {
  const home = household(t);
  home.page().listen('news');
  await pass(t, 1.8 * SECOND);
  assert.deepEqual(home.tower.ways, ['sse']);
  await pass(t, 0.5 * SECOND);
  assert.deepEqual(home.tower.ways, ['sse', 'fetch']);
  assert.equal(home.tower.polls.length, 0);
  await pass(t, 2 * SECOND);
  assert.deepEqual(home.tower.ways, ['sse', 'fetch', 'websocket']);
  assert.equal(home.tower.polls[0].search, '?channel=news&wait=0');
});

for (const way of ['sse', 'fetch', 'websocket']) {
  test(`${way} wins with its hello, tells messages, and ends all others`, async (t) => {
    const home = household(t);
    const page = home.page();
    page.listen('news');
    await pass(t, 4.5 * SECOND);
    const stream = home.tower.streams.find((one) => one.way === way);
    assert.ok(stream);
    assert.deepEqual(stream.channels, ['news']);
    stream.hello();
    stream.say(message(1));
    await settled();
    assert.deepEqual(home.tower.open.map((one) => one.way), [way]);
    assert.deepEqual([page.heard, page.transports.at(-1)], [['m1'], way]);
    await pass(t, 20 * SECOND);
    assert.equal(home.tower.streams.length, 3, 'nothing else is tried any more');
    assert.equal(JSON.parse(home.memory.get('belfry.transport') ?? '').way, way);
  });
}

test('polls carry messages while streams are tried, then stay', async (t) => {
  const home = household(t);
  const page = home.page();
  let n = 0;
  home.tower.poll = (url) => {
    n++;
    if (url.searchParams.get('wait') === '0') return answer(204, undefined, { 'Belfry-Cursor': 'e.7' });
    return n === 2 ? answer(200, { cursor: 'e.8', messages: [message(8)], more: false }) : new Promise(() => {});
  };
  page.listen('news');
  await pass(t, 4.5 * SECOND);
  assert.deepEqual([page.heard, page.transports], [['m8'], ['long-poll']]);
  assert.equal(home.tower.open.length, 3, 'streams still have time');
  assert.deepEqual(home.tower.polls.map((url) => url.search), ['?channel=news&wait=0', '?channel=news&wait=25&cursor=e.7', '?channel=news&wait=25&cursor=e.8']);
  await pass(t, 6 * SECOND);
  assert.equal(home.tower.open.length, 0);
  assert.equal(JSON.parse(home.memory.get('belfry.transport') ?? '').way, 'long-poll');
});

test('a stream that begins later takes over from polls, and nothing is told twice', async (t) => {
  const home = household(t);
  const page = home.page();
  home.tower.poll = (url) => (url.searchParams.get('cursor') ? new Promise(() => {}) : answer(200, { cursor: 'e.2', messages: [message(1), message(2)], more: false }));
  page.listen('news');
  await pass(t, 4.5 * SECOND);
  assert.deepEqual(page.heard, ['m1', 'm2']);
  const [stream] = home.tower.streams;
  stream.hello();
  for (const n of [1, 2, 3]) stream.say(message(n));
  await settled();
  assert.deepEqual([page.heard, page.transports], [['m1', 'm2', 'm3'], ['long-poll', 'sse']]);
});

test('polls that are cut off twice in a row become short ones', async (t) => {
  const home = household(t, { without: ['EventSource', 'WebSocket'] });
  const page = home.page();
  home.tower.trouble.fetch = 502;
  home.tower.poll = (url) => {
    if (url.searchParams.get('wait') !== '0') throw new TypeError('cut off');
    return answer(204, undefined, { 'Belfry-Cursor': 'e.1' });
  };
  page.listen('news');
  await pass(t, 5 * SECOND);
  assert.deepEqual(page.transports.filter(Boolean), ['long-poll', 'short-poll']);
  const before = home.tower.polls.length;
  await pass(t, 30 * SECOND);
  const later = home.tower.polls.slice(before);
  assert.ok(later.length >= 2 && later.length <= 4 && later.every((url) => url.searchParams.get('wait') === '0'), `${later}`);
  assert.deepEqual(page.reasons, ['no']);
});

test('a poll that has more is asked again at once, and one that resets says so', async (t) => {
  const home = household(t, { without: ['EventSource', 'WebSocket'] });
  const page = home.page();
  home.tower.trouble.fetch = 'down';
  const reset = { reason: 'gap', requested: 'e.1', earliest: 'e.5', latest: 'e.9' };
  const answers = [answer(204, undefined, { 'Belfry-Cursor': 'e.1' }), answer(200, { cursor: 'e.5', messages: [message(5)], reset, more: true }), answer(200, { cursor: 'e.6', messages: [message(6)], more: false })];
  home.tower.poll = () => answers.shift() ?? new Promise(() => {});
  page.listen('news');
  await pass(t, 100);
  assert.deepEqual([page.heard, page.resets], [['m5', 'm6'], [reset]]);
  assert.deepEqual(home.tower.polls.map((url) => url.searchParams.get('wait')), ['0', '25', '0', '25']);
});

test('ways that fail at once do not wait for their turn', async (t) => {
  const home = household(t);
  Object.assign(home.tower.trouble, { sse: 403, fetch: 403, websocket: 403 });
  const page = home.page();
  page.listen('news');
  await settled();
  await settled();
  assert.deepEqual([home.tower.ways, page.transports.at(-1)], [['sse', 'fetch', 'websocket'], 'long-poll']);
  assert.deepEqual(page.reasons, ['no']);
});

test('what worked is tried first for a day, also by other pages', async (t) => {
  const home = household(t);
  home.memory.set('belfry.transport', JSON.stringify({ way: 'websocket', until: Date.now() + 24 * 3600 * SECOND }));
  const stop = home.page().listen('news');
  await settled();
  assert.deepEqual(home.tower.ways, ['websocket']);
  await pass(t, SECOND);
  home.tower.last.hello();
  await settled();
  stop();
  t.mock.timers.setTime(Date.now() + 24 * 3600 * SECOND - SECOND); // a day after the first time: each use would else make it last
  home.page().listen('news');
  await settled();
  assert.deepEqual(home.tower.ways, ['websocket', 'sse']);
});

for (const memory of ['', '{', '7', 'null', '{"way":"carrier pigeon","until":9e15}', '{"way":"websocket","until":9e15}', '{"way":"toString","until":1893456001000}']) {
  test(`a memory of ${memory || 'nothing'} is none`, async (t) => {
    const home = household(t);
    home.memory.set('belfry.transport', memory);
    home.page().listen('news');
    await settled();
    assert.deepEqual(home.tower.ways, ['sse']);
  });
}

test('a browser that remembers nothing listens all the same', async (t) => {
  const home = household(t);
  const tab = home.open();
  Object.defineProperty(tab, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } });
  const page = home.page(tab);
  page.listen('news');
  await settled();
  home.tower.last.hello();
  await settled();
  assert.deepEqual(page.transports, ['sse']);
  tab.dispatchEvent(new Event('online'));
});

for (const [why, prepare] of /** @type {[string, (home: Household, tab: Tab) => void][]} */ ([
  ['offline', (home) => { home.onLine = false; }],
  ['not seen', (_, tab) => tab.turn('hidden')],
])) {
  test(`a browser that is ${why} changes no way`, async (t) => {
    const home = household(t);
    const tab = home.open();
    prepare(home, tab);
    home.page(tab).listen('news');
    await pass(t, 15 * SECOND);
    assert.deepEqual([home.tower.ways, home.tower.polls.length], [['sse'], 0]);
    await pass(t, 10 * SECOND);
    assert.ok(home.tower.ways.length > 1 && home.tower.ways.every((way) => way === 'sse'), 'it tries the same one again');
  });
}

test('a browser that is just awake gives the way it had some time', async (t) => {
  const { tower, page } = await streaming(t);
  page.tab.dispatchEvent(new Event('online'));
  await pass(t, 4.5 * SECOND);
  assert.deepEqual(tower.ways, ['sse', 'sse']);
  await pass(t, 4 * SECOND);
  assert.deepEqual(tower.ways.slice(0, 3), ['sse', 'sse', 'fetch'], 'but not for ever');
});

test('a machine that slept counts that for nothing', async (t) => {
  const home = household(t);
  home.page().listen('news');
  await settled();
  t.mock.timers.setTime(Date.now() + 3600 * SECOND);
  await pass(t, SECOND); // in which the timer goes off, an hour late
  assert.deepEqual(home.tower.ways, ['sse']);
  await pass(t, 2 * SECOND);
  assert.deepEqual(home.tower.ways, ['sse', 'fetch']);
});

// Coming back.

test('comes back by the same way, at the cursor of the last message or ping', async (t) => {
  const { tower, page } = await streaming(t);
  tower.last.say(message(1));
  tower.last.say({ event: 'ping', cursor: 'e.9' });
  tower.last.end();
  assert.equal(page.transports.at(-1), '');
  await pass(t, 100);
  assert.deepEqual([tower.ways, tower.last.cursor, tower.open.length], [['sse', 'sse'], 'e.9', 1]);
  tower.last.hello();
  tower.last.say(message(10));
  tower.last.end();
  await pass(t, 100);
  assert.equal(tower.last.cursor, 'e.10');
});

test('a server that is away is not asked by other ways, where one has worked', async (t) => {
  const { tower } = await streaming(t);
  tower.trouble.sse = 'down';
  tower.last.end();
  await pass(t, SECOND / 2);
  assert.ok(tower.ways.length > 2 && tower.ways.every((way) => way === 'sse'), `${tower.ways}`);
  assert.equal(tower.polls.length, 0);
});

test('waits longer and longer, all of it by chance, from 1 s to 30 s, and never gives up', async (t) => {
  const { tower } = await streaming(t, { chance: 0.999999 });
  tower.trouble.sse = 'down';
  const begin = Date.now();
  tower.last.end();
  const waits = [];
  for (let known = tower.streams.length, since = begin; waits.length < 9;) {
    await pass(t, 100);
    if (tower.streams.length === known) continue;
    known = tower.streams.length;
    waits.push(Math.round((Date.now() - since) / SECOND));
    since = Date.now();
  }
  assert.deepEqual(waits, [1, 2, 4, 8, 16, 30, 30, 30, 30]);
});

test('chance may be short, too', async (t) => {
  const { tower } = await streaming(t, { chance: 0.25 });
  tower.last.end();
  await pass(t, 150);
  assert.equal(tower.streams.length, 1);
  await pass(t, 300);
  assert.equal(tower.streams.length, 2);
});

// Else all pages of a server that was killed would be back within a second (REL-11).
for (const way of ['sse', 'fetch', 'websocket']) {
  test(`a ${way} that is cut off comes back when its hello said`, async (t) => {
    const home = household(t);
    home.page().listen('news');
    await pass(t, 4.5 * SECOND);
    const stream = home.tower.streams.find((one) => one.way === way);
    assert.ok(stream);
    stream.hello({ retry: 7000 });
    await settled();
    stream.end();
    await pass(t, 6.8 * SECOND);
    assert.equal(home.tower.streams.length, 3);
    await pass(t, 0.5 * SECOND);
    assert.deepEqual([home.tower.streams.length, home.tower.last.way], [4, way]);
    home.tower.last.end();
    await pass(t, 2.1 * SECOND);
    assert.ok(home.tower.streams.length > 4, 'who is not let in tries again as before');
  });
}

test('a line that is silent for 2.2 pings is dead', async (t) => {
  const { tower } = await streaming(t);
  await pass(t, 50 * SECOND);
  tower.last.say({ event: 'ping', cursor: 'e.3' });
  await pass(t, 54 * SECOND);
  assert.equal(tower.streams.length, 1);
  await pass(t, 1.5 * SECOND);
  assert.deepEqual([tower.streams.length, tower.streams[0].left, tower.last.cursor], [2, true, 'e.3']);
});

test('the server says how often it pings', async (t) => {
  const home = household(t);
  home.page().listen('news');
  await settled();
  home.tower.last.hello({ ping: 5 });
  await pass(t, 10.5 * SECOND);
  assert.equal(home.tower.streams.length, 1);
  await pass(t, SECOND);
  assert.equal(home.tower.streams.length, 2);
});

test('a bye is obeyed: away for as long as the server says', async (t) => {
  const { tower } = await streaming(t);
  tower.last.say({ event: 'bye', reason: 'drain', retry: 7000 });
  assert.equal(tower.open.length, 0);
  await pass(t, 6.8 * SECOND);
  assert.equal(tower.streams.length, 1);
  await pass(t, 0.5 * SECOND);
  assert.equal(tower.streams.length, 2);
});

for (const retry of [undefined, -1, 'soon', 1e12, null]) {
  test(`a bye until ${retry} is as good as none`, async (t) => {
    const { tower } = await streaming(t);
    tower.last.say({ event: 'bye', reason: 'slow', ...(retry !== undefined && { retry }) });
    await pass(t, SECOND);
    assert.equal(tower.streams.length, 2);
  });
}

test('an overload that is told to fetch by Retry-After is obeyed, too', async (t) => {
  const home = household(t, { without: ['EventSource'] });
  home.tower.trouble.fetch = 503;
  home.tower.headers = { 'Retry-After': '8' };
  home.page().listen('news');
  await pass(t, 7.8 * SECOND);
  assert.deepEqual([home.tower.ways, home.tower.polls.length], [['fetch'], 0]);
  await pass(t, 0.5 * SECOND);
  assert.deepEqual(home.tower.ways, ['fetch', 'fetch']);
});

test('204 means to stay away', async (t) => {
  const home = household(t, { without: ['EventSource'] });
  home.tower.trouble.fetch = 204;
  const page = home.page();
  page.listen('news');
  await pass(t, 60 * SECOND);
  page.tab.dispatchEvent(new Event('online'));
  await pass(t, 60 * SECOND);
  assert.deepEqual([home.tower.ways, home.tower.polls.length], [['fetch'], 0]);
});

test('a reset is told to the page, and the stream goes on', async (t) => {
  const { tower, page } = await streaming(t);
  const reset = { reason: 'epoch', requested: 'd.9', earliest: 'e.1', latest: 'e.4' };
  tower.last.say({ event: 'reset', ...reset });
  tower.last.say(message(5));
  assert.deepEqual([page.resets, page.heard], [[reset], ['m5']]);
});

for (const [why, wake] of /** @type {[string, (tab: Tab) => void][]} */ ([
  ['online again', (tab) => tab.dispatchEvent(new Event('online'))],
  ['back from the back/forward cache', (tab) => { tab.hide(); tab.show(); }],
])) {
  test(`a page that is ${why} connects anew and catches up`, async (t) => {
    const { tower, page } = await streaming(t);
    tower.last.say(message(3));
    wake(page.tab);
    await settled();
    assert.deepEqual([tower.streams.length, tower.open.length, tower.last.cursor], [2, 1, 'e.3']);
  });
}

test('a page that is turned to connects at once if it is waiting, or if a ping is overdue', async (t) => {
  const { tower, page } = await streaming(t, { chance: 0.999 });
  page.tab.turn('hidden');
  await pass(t, 20 * SECOND);
  page.tab.turn('visible');
  await settled();
  assert.equal(tower.streams.length, 1, 'all is well');
  page.tab.turn('hidden');
  await pass(t, 15 * SECOND);
  page.tab.turn('visible');
  await settled();
  assert.equal(tower.streams.length, 2, 'a ping is overdue');
  tower.last.hello();
  tower.last.end();
  page.tab.turn('visible');
  await settled();
  assert.equal(tower.streams.length, 3, 'it was waiting');
});

test('a network that is another one may have other ways', async (t) => {
  const home = household(t);
  home.memory.set('belfry.transport', JSON.stringify({ way: 'long-poll', until: Date.now() + SECOND * 3600 }));
  const page = home.page();
  page.listen('news');
  await settled();
  assert.deepEqual([home.tower.ways, page.transports], [[], ['long-poll']]);
  page.tab.dispatchEvent(new Event('online'));
  await settled();
  assert.deepEqual(home.tower.ways, ['sse']);
});

// Whatever comes in is somebody else's.

for (const way of ['sse', 'fetch', 'websocket']) {
  test(`what is malformed does no harm by ${way}`, async (t) => {
    const home = household(t);
    home.memory.set('belfry.transport', JSON.stringify({ way, until: Date.now() + SECOND * 3600 }));
    const page = home.page();
    page.listen('news');
    await settled();
    const stream = home.tower.last;
    stream.hello({ conn: 7, cursor: {}, ping: 'often' });
    const odd = [null, 7, '', 'x', [], {}, '{"id":', { id: 'a' }, { id: 7, channels: [], message: { title: 'x' } }, { id: 'b', channels: 'news', message: { title: 'x' } },
      { id: 'c', channels: ['news'], message: null }, { id: 'd', channels: ['news'], message: { title: 7 } }, { event: 'unheard of' }, { event: 'ping' }, { event: 'reset' }, { event: {} }];
    const random = new Random(1);
    for (let i = 0; i < 300; i++) odd.push(JSON.stringify(message(1)).slice(0, random.below(90)).replaceAll('"', () => random.pick(['"', '\\', '\u0000', '"'])));
    for (const said of odd) stream.say(typeof said === 'string' ? `${said}\n` : JSON.stringify(said) + '\n');
    stream.say(message(9, /** @type {any} */ ([7, 'news', null])));
    await settled();
    assert.deepEqual(page.heard, ['m9']);
    assert.equal(home.tower.open.length, 1);
  });
}

test('a poll that is answered by something else is a failure', async (t) => {
  const home = household(t, { without: ['EventSource', 'WebSocket'], chance: 0.999 });
  home.tower.trouble.fetch = 'down';
  home.tower.poll = () => new Response('<p>Welcome to our wireless network</p>');
  const page = home.page();
  page.listen('news');
  await pass(t, 0.5 * SECOND);
  assert.deepEqual([page.transports.filter(Boolean), home.tower.polls.length], [[], 1]);
});

test('a line without end is hung up on', async (t) => {
  const home = household(t, { without: ['EventSource'] });
  home.page().listen('news');
  await settled();
  home.tower.last.hello();
  home.tower.last.say('x'.repeat(2 << 20));
  await pass(t, 500);
  assert.equal(home.tower.streams.length, 2);
});

// Tabs.

test('eight tabs have one stream, for all their channels, and each hears its own', async (t) => {
  const home = household(t);
  const names = ['news', 'offers', 'news', 'prices', 'chess', 'go', 'tea', 'rain'];
  const tabs = names.map(() => home.page());
  tabs.forEach((page, i) => page.listen(names[i]));
  await settled();
  assert.deepEqual(home.tower.ways, ['sse']);
  home.tower.last.hello();
  await settled();
  // The leader connected before it knew the others; it says so where that is the case.
  const known = new Set([...home.tower.last.channels, ...home.tower.orders.flatMap(({ order }) => order.subscribe ?? [])]);
  assert.deepEqual([...known].sort(), [...new Set(names)].sort());
  home.tower.last.say(message(1, ['news']));
  home.tower.last.say(message(2, ['rain']));
  home.tower.last.say(message(3, []));
  home.tower.last.say({ event: 'reset', reason: 'gap' });
  await settled();
  assert.deepEqual(tabs.map(({ heard }) => heard.join(' ')), ['m1 m3', 'm3', 'm1 m3', 'm3', 'm3', 'm3', 'm3', 'm2 m3']);
  assert.ok(tabs.every(({ resets, transports }) => resets.length === 1 && transports.at(-1) === 'sse'));
});

test('of two listeners in one page each is told what is for it', async (t) => {
  const { tower, page } = await streaming(t);
  const tea = /** @type {string[]} */ ([]);
  const stop = page.tabs.join(['tea'], ({ id }) => tea.push(id));
  for (const [n, channels] of /** @type {[number, string[]][]} */ ([[1, ['news']], [2, ['tea']], [3, ['tea', 'news']], [4, []]])) tower.last.say(message(n, channels));
  stop();
  tower.last.say(message(5, ['tea']));
  assert.deepEqual([page.heard, tea], [['m1', 'm3', 'm4'], ['m2', 'm3', 'm4']]);
});

test('channels come and go with tabs and listeners', async (t) => {
  const { home, tower, page } = await streaming(t);
  const stopTea = page.listen('tea');
  await settled();
  const other = home.page();
  const stopRain = other.listen('rain', 'news');
  await settled();
  stopTea();
  await settled();
  stopRain();
  await settled();
  const third = home.page();
  third.listen('snow');
  await settled();
  third.tab.hide();
  await settled();
  assert.deepEqual(tower.orders.map(({ order }) => order), [
    { subscribe: ['tea'], unsubscribe: [] }, { subscribe: ['rain'], unsubscribe: [] }, { subscribe: [], unsubscribe: ['tea'] }, { subscribe: [], unsubscribe: ['rain'] },
    { subscribe: ['snow'], unsubscribe: [] }, { subscribe: [], unsubscribe: ['snow'] },
  ]);
  assert.deepEqual([tower.streams.length, tower.orders[0].conn], [1, 'conn-sse']);
});

test('where the server does not take other channels, it is connected to anew', async (t) => {
  const { tower, page } = await streaming(t);
  tower.last.say(message(1));
  tower.orderStatus = 404;
  page.listen('tea');
  await settled();
  assert.deepEqual([tower.streams.length, tower.open.length, tower.last.channels, tower.last.cursor], [2, 1, ['news', 'tea'], 'e.1']);
});

test('a tab takes over within 2 s when the leader closes, where that one was, and for all', async (t) => {
  const { home, tower, page } = await streaming(t);
  const [second, third] = [home.page(), home.page()];
  second.listen('offers');
  third.listen('tea');
  await settled();
  tower.last.say(message(1));
  await settled();
  page.tab.hide();
  await pass(t, 100);
  assert.deepEqual([tower.streams.length, tower.open.length, tower.last.cursor], [2, 1, 'e.1']);
  assert.ok(['offers', 'tea'].every((name) => tower.last.channels.includes(name)), 'what came meanwhile must not be missed by anybody');
  tower.last.hello();
  tower.last.say(message(2, ['tea']));
  tower.last.say(message(3, ['offers']));
  await settled();
  assert.deepEqual([page.heard, second.heard, third.heard], [['m1'], ['m3'], ['m2']]);
});

test('a stream that has said nothing yet is gone on with where it began, by another tab and by its own', async (t) => {
  const { home, tower, page } = await streaming(t);
  const other = home.page();
  other.listen('news');
  await settled();
  page.tab.hide();
  await pass(t, 100);
  assert.deepEqual([tower.streams.length, tower.last.cursor], [2, 'e.0'], 'the other leads');
  other.tab.hide();
  await settled();
  page.tab.show();
  await pass(t, 100);
  assert.deepEqual([tower.streams.length, tower.last.cursor], [3, 'e.0'], 'back from the back/forward cache');
});

test('a leader that is frozen is replaced within 2 s by a tab that is looked at, and steps back', async (t) => {
  const { home, tower, page } = await streaming(t);
  page.tab.freeze();
  const other = home.page();
  other.listen('news');
  await pass(t, 1.8 * SECOND);
  assert.equal(tower.streams.length, 1);
  await pass(t, 0.5 * SECOND);
  assert.equal(tower.streams.length, 2);
  assert.deepEqual(tower.open.map((one) => tower.streams.indexOf(one)), [1], 'the first hangs up');
  page.tab.frozen = false;
  tower.last.hello();
  tower.last.say(message(1));
  await settled();
  assert.deepEqual([page.heard, other.heard], [['m1'], ['m1']]);
});

test('somebody who turns to any tab does not wait for the leader\'s next try', async (t) => {
  const { home, tower, page } = await streaming(t, { chance: 0.999 });
  const other = home.page();
  other.listen('news');
  other.tab.turn('hidden');
  page.tab.turn('hidden');
  await settled();
  tower.last.end();
  await settled();
  assert.equal(tower.open.length, 0);
  other.tab.turn('visible');
  await settled();
  assert.deepEqual([tower.streams.length, tower.open.length], [2, 1]);
  other.tab.turn('hidden');
  other.tab.turn('visible');
  await settled();
  assert.equal(tower.streams.length, 2, 'what has just been begun is let be');
});

test('a tab in the background lets a leader that is silent be', async (t) => {
  const { home, tower, page } = await streaming(t);
  page.tab.freeze();
  const tab = home.open();
  tab.turn('hidden');
  home.page(tab).listen('news');
  await pass(t, 20 * SECOND);
  assert.equal(tower.streams.length, 1);
});

test('a tab that comes back from the back/forward cache catches up by itself', async (t) => {
  const { home, tower } = await streaming(t);
  const other = home.page();
  other.listen('news');
  await settled();
  tower.last.say(message(1));
  await settled();
  other.tab.hide();
  tower.last.say(message(2));
  tower.last.say(message(3));
  await settled();
  assert.deepEqual(other.heard, ['m1']);
  tower.poll = () => answer(200, { cursor: 'e.3', messages: [message(2), message(3)], more: false });
  other.tab.show();
  await settled();
  tower.last.say(message(4));
  await pass(t, 100);
  assert.deepEqual(tower.polls.map((url) => url.search), ['?channel=news&wait=0&cursor=e.1']);
  assert.deepEqual([other.heard.sort(), tower.streams.length], [['m1', 'm2', 'm3', 'm4'], 1]);
});

test('a tab that cannot catch up tries again at the next word', async (t) => {
  const { home, tower } = await streaming(t);
  const other = home.page();
  other.listen('news');
  await settled();
  tower.last.say(message(1));
  await settled();
  other.tab.hide();
  tower.last.say(message(2));
  tower.trouble.poll = 'down';
  other.tab.show();
  await settled();
  tower.trouble = {};
  tower.poll = () => answer(200, { cursor: 'e.2', messages: [message(2)], more: false });
  tower.last.say({ event: 'ping', cursor: 'e.2' });
  await settled();
  assert.deepEqual(other.heard, ['m1', 'm2']);
});

test('a tab that ended without a word is forgotten with its channels', async (t) => {
  const { home, tower } = await streaming(t);
  const other = home.page();
  other.listen('rain');
  await settled();
  other.tab.freeze();
  for (let i = 1; i <= 3; i++) {
    await pass(t, 25 * SECOND);
    tower.last.say({ event: 'ping', cursor: `e.${i}` });
    await settled();
  }
  assert.deepEqual(tower.orders.at(-1)?.order, { subscribe: [], unsubscribe: ['rain'] });
});

for (const without of [['locks'], ['BroadcastChannel']]) {
  test(`without ${without} each tab listens for itself`, async (t) => {
    const home = household(t, { without });
    const tabs = [home.page(), home.page()];
    for (const page of tabs) page.listen('news');
    await settled();
    assert.deepEqual(home.tower.ways, ['sse', 'sse']);
    for (const stream of home.tower.streams) {
      stream.hello();
      stream.say(message(1));
    }
    tabs[0].tab.hide();
    assert.deepEqual([tabs.map(({ heard }) => heard), home.tower.open.length], [[['m1'], ['m1']], 1]);
  });
}

test('locks that are refused are as good as none', async (t) => {
  const home = household(t);
  home.locks.request = async () => { throw new DOMException('not here', 'SecurityError'); };
  const page = home.page();
  page.listen('news');
  await settled();
  home.tower.last.hello();
  await settled();
  assert.deepEqual(page.transports, ['sse']);
});

test('what other tabs say may be odd', async (t) => {
  const { home, page, tower } = await streaming(t);
  const other = home.page();
  other.listen('news');
  const tab = home.open();
  const bus = new tab.BroadcastChannel(`belfry.live ${server}`);
  for (const data of [null, 7, 'x', {}, { said: 7 }, { said: {} }, { tab: 7 }, { tab: 'x', channels: 7 }, { gone: {} }, { ack: [] }, { said: { event: 'state', channels: 'x', cursor: 7 } }]) bus.postMessage(data);
  await settled();
  tower.last.say(message(1));
  await settled();
  assert.deepEqual([page.heard, other.heard], [['m1'], ['m1']]);
});

// The device.

test('a registered browser says who it is, whether it is looked at, and what it has seen', async (t) => {
  const device = { id: 'd1', secret: 's' };
  const { home, tower, page } = await streaming(t, { device });
  assert.deepEqual(tower.orders.map(({ order }) => order), [{ device, visible: true }]);
  const other = home.page();
  other.listen('tea');
  await settled();
  page.tab.turn('hidden');
  await settled();
  tower.last.say(message(1));
  tower.last.say(message(2, ['tea']));
  await pass(t, 500);
  other.tab.turn('hidden');
  await settled();
  tower.last.say(message(3));
  await pass(t, 500);
  page.tab.turn('visible');
  for (let n = 4; n < 64; n++) tower.last.say(message(n));
  await pass(t, 500);
  const orders = tower.orders.slice(1).map(({ order }) => order).filter((order) => !order.subscribe);
  assert.deepEqual(orders.slice(0, 3), [{ ack: ['m2'] }, { visible: false }, { visible: true }]);
  assert.deepEqual(orders.slice(3).map(({ ack }) => ack.length), [50, 10], 'what comes at once goes together');
  assert.deepEqual([page.shown.length, page.shown[0], other.shown], [60, 'm4', ['m2']], 'what nobody looked at was not seen');
});

test('a browser that registers while it listens says so then; a stranger says nothing', async (t) => {
  const { tower, page } = await streaming(t);
  page.tab.turn('hidden');
  page.tab.turn('visible');
  tower.last.say(message(1));
  await pass(t, 500);
  assert.deepEqual(tower.orders, []);
  page.device = { id: 'd1', secret: 's' };
  page.target.dispatchEvent(new Event('state'));
  await settled();
  page.target.dispatchEvent(new Event('state'));
  await settled();
  assert.deepEqual(tower.orders.map(({ order }) => order), [{ device: page.device, visible: true }]);
  page.device = { id: 'd2', secret: 's' }; // it left, and came anew
  page.target.dispatchEvent(new Event('state'));
  await settled();
  tower.last.say(message(2));
  await settled();
  assert.deepEqual(tower.orders.slice(1).map(({ order }) => order), [{ device: page.device, visible: true }, { ack: ['m2'] }]);
  page.device = null;
  page.target.dispatchEvent(new Event('state'));
  await settled();
  tower.last.say(message(3));
  await settled();
  assert.equal(tower.orders.length, 3, 'whoever left acknowledges nothing');
});

test('what is heard before the server knows who it is, is acknowledged then', async (t) => {
  const home = household(t);
  const page = home.page(home.open(), { device: { id: 'd1', secret: 's' } });
  let knows = () => {};
  const fetch = page.tab.fetch;
  page.tab.fetch = async (input, init) => {
    if (JSON.parse(init.body).device) await new Promise((/** @type {(value?: unknown) => void} */ resolve) => { knows = resolve; });
    return fetch(input, init);
  };
  page.listen('news');
  await settled();
  home.tower.last.hello();
  await settled();
  for (const n of [1, 2]) home.tower.last.say(message(n));
  await settled();
  assert.deepEqual(home.tower.orders, []);
  knows();
  await settled();
  assert.deepEqual(home.tower.orders.map(({ order }) => order), [{ device: page.device, visible: true }, { ack: ['m1', 'm2'] }]);
});

test('while somebody looks, the server hears so once a minute at least, and only then', async (t) => {
  const { tower, page } = await streaming(t, { device: { id: 'd1', secret: 's' } });
  /** Pings as the server sends them. @param {number} n @returns {Promise<number[]>} when it was told, in seconds */
  const pings = async (n) => {
    tower.orders.length = 0;
    const told = [];
    for (let i = 1; i <= n; i++) {
      await pass(t, (20 + (10 * i) % 11) * SECOND);
      tower.last.say({ event: 'ping', cursor: `e.${i}` });
      await settled();
      for (const { order } of tower.orders.splice(0)) {
        assert.deepEqual(order, { visible: true });
        told.push(Date.now() / SECOND);
      }
    }
    return told;
  };
  const began = Date.now() / SECOND;
  const told = await pings(20);
  const gaps = told.map((at, i) => at - (told[i - 1] ?? began));
  assert.ok(told.length >= 8 && Math.max(...gaps) <= 62, `told after ${gaps}`); // at a clock of which a step is 0.1 s
  page.tab.turn('hidden');
  await settled();
  assert.deepEqual(await pings(5), []);
});

test('a device that the server does not know acknowledges nothing, and hears all', async (t) => {
  const home = household(t);
  home.tower.orderStatus = 401;
  const page = home.page(home.open(), { device: { id: 'd1', secret: 'wrong' } });
  page.listen('news');
  await settled();
  home.tower.last.hello();
  await settled();
  home.tower.last.say(message(1));
  await pass(t, 500);
  assert.deepEqual([home.tower.orders.length, page.heard, home.tower.streams.length], [1, ['m1'], 1]);
});
