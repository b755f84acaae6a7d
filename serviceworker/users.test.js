// Who the user is, as a page proves it: listening, registering, signing in and out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { connect } from './belfry.js';
import { Browser } from './doubles/browser.js';
import { elapsed, settled, stopClock } from './doubles/clock.js';
import { Household } from './doubles/tower.js';
import { Tabs } from './live.js';

/** @typedef {import('node:test').TestContext} TestContext */

const SECOND = 1000;
const server = 'https://ring.example';

/** A token as the site would sign it; only the server looks at the signature. @param {string} user @param {string[]} channels */
const sign = (user, ...channels) => `x.${Buffer.from(JSON.stringify({ sub: user, channels })).toString('base64url')}.y`;

/**
 * A page of a site that says who is signed in: what answers holds, from the first
 * on, the last one for ever.
 *
 * @param {TestContext} t
 * @param {(string | Error)[]} answers
 * @param {{ without?: string[] }} [options]
 */
function site(t, answers, { without = ['locks'] } = {}) {
  stopClock(t);
  t.mock.method(Math, 'random', () => 0.001); // names of tabs are drawn by it, too
  const home = new Household();
  home.without = without;
  const target = new EventTarget();
  const page = {
    home, tower: home.tower, tab: home.open(), asked: 0, heard: /** @type {string[]} */ ([]), transports: /** @type {string[]} */ ([]), reasons: /** @type {string[]} */ ([]),
    userToken: async () => {
      const answer = answers[Math.min(page.asked++, answers.length - 1)];
      if (answer instanceof Error) throw answer;
      return answer;
    },
    listen: (/** @type {string[]} */ ...channels) => tabs.join(channels, ({ id }) => page.heard.push(id)),
  };
  const tabs = new Tabs(/** @type {any} */ (page.tab), server, target, async () => null, () => {}, () => page.userToken());
  target.addEventListener('transport', (event) => {
    const { transport, reason } = /** @type {CustomEvent} */ (event).detail;
    page.transports.push(transport);
    if (reason) page.reasons.push(reason);
  });
  return Object.assign(page, { tabs });
}

/** @param {TestContext} t @param {number} ms */
async function pass(t, ms) {
  await settled();
  await elapsed(t, new Promise((resolve) => { setTimeout(resolve, ms); }), ms + SECOND);
  await settled();
}

/** @param {string} id @param {string[]} channels */
const message = (id, ...channels) => ({ id, channels, time: '', cursor: 'e.1', message: { title: 'Hello' } });

const ann = sign('ann', 'private-ann', 'private-club');

test('an EventSource comes with a ticket, a fresh one each time', async (t) => {
  const page = site(t, [ann]);
  page.listen('news', 'private-ann');
  await settled();
  const { tower } = page;
  assert.deepEqual([tower.last.way, tower.last.channels, tower.last.ticket], ['sse', ['news', 'private-ann'], 'ticket1']);
  tower.last.hello();
  tower.last.say(message('m1', 'private-ann'));
  tower.last.say(message('m2'));
  tower.last.end();
  await pass(t, 100);
  assert.deepEqual([page.heard, tower.last.ticket, tower.last.cursor, page.asked], [['m1', 'm2'], 'ticket2', 'e.1', 1], 'the token itself is asked for once');
  assert.deepEqual(tower.callers, [`/v1/tickets Bearer ${ann}`, `/v1/tickets Bearer ${ann}`]);
});

for (const way of ['fetch', 'websocket', 'poll']) {
  test(`${way} brings the token`, async (t) => {
    const page = site(t, [ann], { without: ['locks', 'EventSource', ...(way === 'poll' ? ['WebSocket'] : [])] });
    if (way !== 'fetch') page.tower.trouble.fetch = 'down';
    page.listen('private-ann');
    await pass(t, 100);
    const { tower } = page;
    if (way === 'fetch') assert.deepEqual([tower.last.way, tower.last.channels, tower.callers], ['fetch', ['private-ann'], [`/v1/events Bearer ${ann}`]]);
    if (way === 'websocket') assert.deepEqual([tower.last.way, tower.last.channels, tower.last.token], ['websocket', ['private-ann'], ann]);
    if (way === 'poll') assert.ok(tower.callers.includes(`/v1/poll Bearer ${ann}`) && tower.polls[0].searchParams.get('channel') === 'private-ann', `${tower.callers}`);
  });
}

test('a page where nobody is signed in listens as a stranger, and asks again when it comes back', async (t) => {
  const page = site(t, ['', ann]);
  page.listen('news', 'private-ann');
  await settled();
  assert.deepEqual([page.tower.last.channels, page.tower.last.ticket, page.tower.callers], [['news'], '', []]);
  assert.match(page.reasons[0], /private-ann/);
  page.tower.last.hello();
  page.tower.last.end();
  await pass(t, 100);
  assert.deepEqual([page.tower.last.channels, page.tower.last.ticket], [['news', 'private-ann'], 'ticket1']);
});

test('what the token does not open is left out, said once, and asked for anew when it is chosen', async (t) => {
  const page = site(t, [sign('ann', 'private-ann'), sign('ann', 'private-ann', 'private-club')]);
  page.listen('private-ann', 'private-staff');
  await settled();
  const { tower } = page;
  assert.deepEqual([tower.last.channels, page.reasons.length], [['private-ann'], 1]);
  assert.match(page.reasons[0], /private-staff/);
  tower.last.hello();
  await settled();
  page.listen('private-club');
  await settled();
  assert.deepEqual([page.asked, tower.orders.map(({ order }) => order)], [2, [{ subscribe: ['private-club'], unsubscribe: [] }]]);
  assert.equal(tower.callers.at(-1), `/v1/connections/conn-sse Bearer ${sign('ann', 'private-ann', 'private-club')}`);
  page.listen('news');
  await settled();
  assert.deepEqual([page.asked, page.reasons.length, tower.streams.length], [2, 1, 1]);
});

test('a page that is told that its token ends brings a fresh one, and the stream goes on', async (t) => {
  const fresh = sign('ann', 'private-ann', 'private-more');
  const page = site(t, [ann, fresh]);
  page.listen('private-ann');
  await settled();
  page.tower.last.hello();
  await settled();
  page.tower.last.say({ event: 'auth', left: 60 });
  await settled();
  assert.deepEqual([page.tower.orders, page.tower.callers.at(-1), page.tower.streams.length], [[{ conn: 'conn-sse', order: { subscribe: [], unsubscribe: [] } }], `/v1/connections/conn-sse Bearer ${fresh}`, 1]);
  page.tower.orderStatus = 409; // it is somebody else by now
  page.tower.last.say({ event: 'auth', left: 60 });
  await settled();
  assert.deepEqual([page.tower.streams.length, page.tower.open.length, page.tower.last.ticket], [2, 1, 'ticket4']);
});

test('who has signed out meanwhile goes on as a stranger', async (t) => {
  const page = site(t, [ann, '']);
  page.listen('news', 'private-ann');
  await settled();
  page.tower.last.hello();
  await settled();
  page.tower.last.say({ event: 'auth', left: 60 });
  await settled();
  assert.deepEqual([page.tower.open.length, page.tower.last.channels, page.tower.last.ticket, page.tower.orders], [1, ['news'], '', []]);
});

test('a stream that ends with its token comes back with another one, when the server says', async (t) => {
  const page = site(t, [ann, new Error('the site is away'), sign('ann', 'private-ann')]);
  page.listen('private-ann');
  await settled();
  page.tower.last.hello();
  await settled();
  page.tower.last.say({ event: 'auth', left: 60 });
  await settled();
  assert.deepEqual([page.asked, page.tower.streams.length, page.tower.orders], [2, 1, []], 'a site that is away ends nothing');
  page.tower.last.say({ event: 'bye', reason: 'auth', retry: 3000 });
  await pass(t, 2.8 * SECOND);
  assert.deepEqual([page.asked, page.tower.streams.length], [2, 1]);
  await pass(t, 0.5 * SECOND);
  assert.deepEqual([page.asked, page.tower.callers.at(-1)], [3, `/v1/tickets Bearer ${sign('ann', 'private-ann')}`]);
});

test('a ticket that is no good is no use a second time, nor is its token', async (t) => {
  const page = site(t, [ann, sign('ann', 'private-ann')]);
  page.listen('private-ann');
  await settled();
  page.tower.last.say({ event: 'bye', reason: 'auth', retry: 1000 }); // without a hello
  await pass(t, 1.1 * SECOND);
  assert.deepEqual([page.asked, page.tower.last.ticket, page.tower.callers.at(-1)], [2, 'ticket2', `/v1/tickets Bearer ${sign('ann', 'private-ann')}`]);
});

test('a token that comes when its stream is gone is for the next one', async (t) => {
  const page = site(t, [ann]);
  page.listen('private-ann');
  await settled();
  page.tower.last.hello();
  await settled();
  /** @type {(token: string) => void} */
  let say = () => {};
  page.userToken = () => new Promise((resolve) => { say = resolve; });
  page.tower.last.say({ event: 'auth', left: 60 });
  await settled();
  page.tower.last.end();
  await pass(t, 100);
  const fresh = sign('ann', 'private-ann', 'private-more');
  say(fresh);
  await settled();
  page.tower.last.hello();
  await settled();
  assert.deepEqual([page.tower.orders, page.tower.callers.at(-1), page.tower.open.length], [[], `/v1/tickets Bearer ${fresh}`, 1]);
});

for (const [what, spoil] of /** @type {[string, (page: ReturnType<typeof site>) => void][]} */ ([
  ['a ticket', ({ tower }) => Object.assign(tower, { ticketStatus: 401, trouble: { fetch: 'down', websocket: 'down', poll: 'down' } })],
  ['a stream', ({ tower, tab }) => { delete tab.EventSource; tower.trouble = { fetch: 401, websocket: 'down', poll: 'down' }; }],
])) {
  test(`a token for which ${what} is refused is asked for anew`, async (t) => {
    const page = site(t, [ann]);
    spoil(page);
    page.listen('private-ann');
    await pass(t, 10);
    assert.ok(page.asked > 1, `${page.asked}`);
    assert.ok(page.reasons.length > 0);
    page.tower.ticketStatus = 200;
    page.tower.trouble = {};
    await pass(t, 300);
    assert.ok(page.tower.open.length > 0);
  });
}

test('a site that cannot say who is there is asked again', async (t) => {
  const page = site(t, [new Error('no'), new Error('no'), ann]);
  page.listen('news');
  await pass(t, 500);
  assert.deepEqual([page.asked, page.tower.last.ticket, page.reasons], [3, 'ticket1', ['no', 'no']]);
});

test('a page that hangs up while the site thinks does not connect', async (t) => {
  const page = site(t, [ann]);
  /** @type {(token: string) => void} */
  let say = () => {};
  page.userToken = () => new Promise((resolve) => { say = resolve; });
  const stop = page.listen('news');
  await settled();
  stop();
  say(ann);
  await settled();
  assert.equal(page.tower.streams.length, 0);
});

test('a tab that does not say who is there hears what is public, whatever others ask of it', async (t) => {
  const page = site(t, [ann], { without: [] });
  const leader = new Tabs(/** @type {any} */ (page.home.open()), server, new EventTarget(), async () => null, () => {});
  leader.join(['news'], () => {});
  await settled();
  page.tower.last.hello();
  await settled();
  page.listen('offers', 'private-ann');
  await pass(t, 100);
  assert.deepEqual([page.tower.streams.length, page.tower.orders.map(({ order }) => order)], [1, [{ subscribe: ['offers'], unsubscribe: [] }]]);
  new page.tab.BroadcastChannel(`belfry.live ${server}`).postMessage({ user: true });
  await settled();
  assert.equal(page.tower.streams.length, 1, 'and is the same one whoever signs in');
});

// Somebody else signs in, and the page stays where it is.

test('who is signed in is asked anew when the page says so, and nothing more is heard as the one before', async (t) => {
  const bob = sign('bob', 'private-bob');
  const page = site(t, [ann, bob]);
  page.listen('news', 'private-ann', 'private-bob');
  await settled();
  const { tower } = page;
  tower.last.hello();
  await settled();
  const before = tower.last;
  page.tabs.askAnew();
  before.say(message('m1', 'private-ann'));
  assert.deepEqual([before.left, page.heard], [true, []], 'also before the site has answered');
  await settled();
  assert.deepEqual([tower.open.length, tower.last.channels, tower.callers.at(-1)], [1, ['news', 'private-bob'], `/v1/tickets Bearer ${bob}`]);
});

test('a page that comes back from the back/forward cache asks again who is signed in', async (t) => {
  const bob = sign('bob');
  const page = site(t, [ann, bob], { without: [] });
  page.listen('news');
  await settled();
  page.tab.hide();
  page.tab.show();
  await settled();
  assert.deepEqual([page.tower.open.length, page.tower.callers], [1, [`/v1/tickets Bearer ${ann}`, `/v1/tickets Bearer ${bob}`]]);
});

test('a tab that catches up for the one before tells nothing of it, and begins again for the next', async (t) => {
  const bob = sign('bob');
  const page = site(t, [ann, bob], { without: [] });
  const { home, tower } = page;
  const leader = new Tabs(/** @type {any} */ (home.open()), server, new EventTarget(), async () => null, () => {}, async () => ann);
  leader.join(['news'], () => {});
  await settled();
  tower.last.hello();
  page.listen('news');
  await settled();
  tower.last.say({ event: 'ping', cursor: 'e.1' });
  await settled();
  page.tab.hide();
  /** @type {((answer: Response) => void)[]} */
  const answers = [];
  tower.poll = () => new Promise((resolve) => { answers.push(resolve); });
  page.tab.show();
  await settled();
  assert.deepEqual([tower.polls.length, tower.callers.at(-1)], [1, `/v1/poll Bearer ${ann}`]);
  const bus = new page.tab.BroadcastChannel(`belfry.live ${server}`);
  bus.postMessage({ user: true });
  await settled();
  answers[0](Response.json({ cursor: 'e.5', messages: [message('m1')], more: false }));
  await settled();
  assert.deepEqual(page.heard, []);
  tower.poll = () => Response.json({ cursor: 'e.5', messages: [message('m2')], more: false });
  tower.last.hello();
  await settled();
  assert.deepEqual([tower.polls.length, tower.callers.at(-1), page.heard], [2, `/v1/poll Bearer ${bob}`, ['m2']]);
});

test('a tab that wants to catch up while the site thinks does not do so as the one before', async (t) => {
  const page = site(t, [ann], { without: [] });
  const { home, tower } = page;
  const leader = new Tabs(/** @type {any} */ (home.open()), server, new EventTarget(), async () => null, () => {}, async () => ann);
  leader.join(['news'], () => {});
  await settled();
  tower.last.hello();
  page.listen('news');
  await settled();
  tower.last.say({ event: 'ping', cursor: 'e.1' });
  await settled();
  /** @type {(token: string) => void} */
  let say = () => {};
  page.userToken = () => new Promise((resolve) => { say = resolve; });
  page.tab.hide();
  page.tab.show();
  await settled();
  new page.tab.BroadcastChannel(`belfry.live ${server}`).postMessage({ user: true });
  await settled();
  say(ann);
  await settled();
  assert.equal(tower.polls.length, 0);
});

/**
 * A page that calls the kit as sites do, in a browser where another tab leads.
 *
 * @param {TestContext} t
 * @param {any} userToken
 */
async function second(t, userToken) {
  const page = site(t, [ann, sign('bob')], { without: [] });
  page.listen('news', 'private-ann');
  await settled();
  page.tower.last.hello();
  await settled();
  new Browser(t, { tab: page.home.open() });
  globalThis.fetch = page.tower.fetch;
  const belfry = connect({ server, userToken });
  await settled();
  return { page, belfry };
}

for (const listens of [false, true]) {
  test(`a page that ${listens ? 'listens' : 'does not listen'} says for all tabs that somebody else may be signed in`, async (t) => {
    const { page, belfry } = await second(t, () => sign('bob'));
    let asked = 1;
    if (listens) {
      belfry.listen(['offers'], () => {});
      while (page.tower.orders.length === 0) await settled(); // live.js is being loaded
    }
    await belfry.reconcile();
    await settled();
    assert.deepEqual([page.asked, page.tower.open.length, page.tower.callers.at(-1)], [++asked, 1, `/v1/tickets Bearer ${sign('bob')}`]);
    assert.deepEqual(page.tower.last.channels, listens ? ['news', 'offers'] : ['news']);
  });
}

test('a page that leads and says itself that somebody else may be signed in asks once', async (t) => {
  const home = new Household();
  stopClock(t);
  new Browser(t, { tab: home.open() });
  globalThis.fetch = home.tower.fetch;
  let asked = 0;
  const belfry = connect({ server, userToken: () => (asked++ === 0 ? ann : sign('bob')) });
  await settled();
  belfry.listen(['news'], () => {});
  while (home.tower.streams.length === 0) await settled(); // live.js is being loaded
  home.tower.last.hello();
  await belfry.reconcile();
  await settled();
  assert.deepEqual([asked, home.tower.open.length, home.tower.callers.at(-1)], [2, 1, `/v1/tickets Bearer ${sign('bob')}`]);
});

test('a page that does not say who is there has nothing to say of it', async (t) => {
  const { page, belfry } = await second(t, undefined);
  await belfry.reconcile();
  await settled();
  assert.deepEqual([page.asked, page.tower.streams.length], [1, 1]);
});

// Registering.

/**
 * @param {TestContext} t
 * @param {any} userToken
 */
async function registering(t, userToken) {
  stopClock(t);
  const browser = new Browser(t);
  const belfry = connect({ server, userToken });
  await elapsed(t, new Promise((resolve) => { belfry.addEventListener('state', resolve, { once: true }); }));
  await settled();
  return { browser, belfry };
}

test('a registration is the user\'s, and is theirs or nobody\'s when that changes', async (t) => {
  let token = /** @type {string | null} */ (ann);
  const { browser, belfry } = await registering(t, async () => token);
  await elapsed(t, belfry.subscribe(['news', 'private-ann']));
  const last = () => /** @type {Browser['server']['calls'][0]} */ (browser.server.calls.at(-1));
  assert.deepEqual([last().method, last().user, 'user' in last().body, last().authorization], ['POST', ann, false, null]);
  token = sign('bob');
  await elapsed(t, belfry.reconcile());
  assert.deepEqual([last().method, last().user, 'user' in last().body, 'channels' in last().body], ['PUT', token, false, false]);
  token = null;
  await elapsed(t, belfry.setChannels(['news']));
  assert.deepEqual([last().method, last().user, last().body], ['PUT', null, { channels: ['news'], user: null }]);
  await elapsed(t, belfry.reconcile());
  assert.deepEqual([last().user, last().body.user], [null, null]);
});

test('a page that does not say who is there leaves that as it is', async (t) => {
  const { browser, belfry } = await registering(t, undefined);
  await elapsed(t, belfry.subscribe(['news']));
  await elapsed(t, belfry.reconcile());
  assert.ok(browser.server.calls.every(({ user, body }) => user === null && !('user' in (body ?? {}))));
});

for (const [what, userToken] of /** @type {[string, any][]} */ ([
  ['fails', async () => { throw new Error('no'); }],
  ['throws', () => { throw new Error('no'); }],
  ['never answers', () => new Promise(() => {})],
  ['gives nothing', () => undefined],
  ['gives a page', () => '<html>'],
  ['gives two lines', () => 'a\nb'],
])) {
  test(`a site whose userToken ${what} registers nobody, and alarms nobody who is registered`, async (t) => {
    let working = false;
    const { browser, belfry } = await registering(t, () => (working ? ann : userToken()));
    await assert.rejects((async () => {
      const work = belfry.subscribe(['news']);
      await elapsed(t, work.catch(() => {}));
      return work;
    })(), { name: 'BelfryError', code: 'user-token' });
    assert.equal(browser.server.rows.size, 0);
    working = true;
    await elapsed(t, belfry.subscribe(['news']));
    working = false;
    await elapsed(t, belfry.reconcile());
    assert.equal(belfry.state, 'on');
  });
}

test('a token that the server does not take is not mistaken for a row that it lost', async (t) => {
  const { browser, belfry } = await registering(t, () => ann);
  await elapsed(t, belfry.subscribe(['news']));
  browser.server.calls = [];
  browser.server.answer('PUT', 401, { code: 'user-token', detail: 'the user token has expired' });
  await elapsed(t, belfry.reconcile());
  assert.deepEqual([browser.server.calls.map(({ method }) => method), belfry.state], [['GET', 'PUT'], 'stale']);
  browser.server.calls = [];
  browser.server.answer('PUT', 401, { code: 'user-token', detail: 'the user token has expired' });
  await assert.rejects(elapsed(t, belfry.setChannels(['sport'])), /expired/);
  assert.deepEqual(browser.server.calls.map(({ method }) => method), ['PUT']);
});

for (const [who, token, left] of /** @type {[string, string | null, string[]][]} */ ([
  ['somebody else', sign('bob', 'private-club'), ['news', 'private-club']],
  ['nobody', null, ['news']],
  ['somebody whose token cannot be read', 'x.y.z', ['news']],
])) {
  test(`a row that the server lost is made anew without what the token of ${who} does not open`, async (t) => {
    let user = /** @type {string | null} */ (ann);
    const { browser, belfry } = await registering(t, () => user);
    await elapsed(t, belfry.subscribe(['news', 'private-ann', 'private-club']));
    browser.server.rows.clear();
    user = token;
    await elapsed(t, belfry.reconcile());
    assert.deepEqual([browser.server.calls.at(-1)?.method, browser.server.calls.at(-1)?.body.channels, belfry.channels, belfry.state], ['POST', left, left, 'on']);
  });
}

test('who chooses a private channel now is told that the server does not open it', async (t) => {
  const { browser, belfry } = await registering(t, () => sign('bob'));
  browser.server.answer('POST', 403, { code: 'private-channel', detail: 'the user token does not open private-ann' });
  await assert.rejects((async () => {
    const work = belfry.subscribe(['private-ann']);
    await elapsed(t, work.catch(() => {}));
    return work;
  })(), { code: 'refused', problem: 'private-channel' });
  assert.deepEqual(browser.server.calls.at(-1)?.body.channels, ['private-ann']);
});

test('private channels can be listened to where the site says who is there', async (t) => {
  stopClock(t);
  const home = new Household();
  new Browser(t, { without: ['locks'], tab: home.open() }).server.fetch = home.tower.fetch;
  globalThis.fetch = home.tower.fetch;
  const belfry = connect({ server, userToken: () => ann });
  await settled();
  belfry.listen(['private-ann'], () => {});
  while (home.tower.streams.length === 0) await settled(); // live.js is being loaded
  assert.deepEqual([home.tower.last.channels, home.tower.last.ticket], [['private-ann'], 'ticket1']);
  await belfry.reconcile();
  await settled();
  assert.deepEqual([home.tower.open.length, home.tower.last.ticket], [1, 'ticket2'], 'and without a bus the page itself hears that this may be somebody else');
});
