// What the elements do where nobody has to look at them; how they look, and that they are used by keyboard, is tested in browsers.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Browser } from './doubles/browser.js';
import { elapsed, settled, stopClock } from './doubles/clock.js';
import { openDocument } from './doubles/dom.js';
import { Household } from './doubles/tower.js';

/** @typedef {import('node:test').TestContext} TestContext */

const DAY = 24 * 3600_000;
let copies = 0; // a page has its own elements.js, and so has each test

/**
 * A page with these elements on it, in a browser that may have had others before.
 *
 * @param {TestContext} t
 * @param {{ browser?: Browser, home?: Household, setUp?: (kit: typeof import('./elements.js')) => void, last?: unknown[] | (() => unknown[] | number) }} [around]
 *   last is what the server has in its log, or a status
 * @param {Record<string, string>[]} elements the attributes of each; `is` says which one
 */
async function page(t, { browser, home = new Household(), setUp, last = [] } = {}, ...elements) {
  const tab = home.open();
  browser ??= new Browser(t, { without: ['locks'], tab });
  const { server } = browser;
  globalThis.fetch = (input, init) => (String(input).includes('/v1/poll') ? home.tower.fetch(input, init) : server.fetch(input, init));
  home.tower.poll = (asked) => {
    if (!asked.searchParams.has('last')) return new Response(null, { status: 204, headers: { 'Belfry-Cursor': 'e.0' } });
    const messages = typeof last === 'function' ? last() : last;
    return typeof messages === 'number' ? new Response('{}', { status: messages }) : new Response(JSON.stringify({ cursor: 'e.9', messages, more: false }));
  };
  const defined = openDocument(t);
  const kit = /** @type {typeof import('./elements.js')} */ (await import(`./elements.js?${++copies}`));
  const all = elements.map(({ is, ...attributes }) => {
    const element = new (defined.get(`belfry-${is}`))();
    for (const [name, value] of Object.entries({ server: 'https://ring.example', ...attributes })) element.setAttribute(name, value);
    element.connectedCallback();
    t.after(() => element.disconnectedCallback());
    const part = (/** @type {string} */ id) => element.shadowRoot.all.find((/** @type {any} */ one) => one.id === id);
    return { element, part, box: (/** @type {string} */ value) => element.shadowRoot.all.find((/** @type {any} */ one) => one.value === value),
      lines: () => element.shadowRoot.querySelectorAll('li') };
  });
  setUp?.(kit);
  await quiet();
  return { browser, home, tab, kit, server, all, first: all[0] };
}

/** Until an answer of the server has been read, which takes many steps and no time. */
async function quiet() {
  for (let i = 0; i < 20; i++) await settled();
}

/** @param {string} id @param {Record<string, unknown>} [message] @param {string[]} [channels] */
const event = (id, message = {}, channels = ['news']) => ({ id, channels, time: `2030-01-01T00:00:0${id}.000Z`, cursor: `e.${id}`, message: { title: `Title ${id}`, ...message } });

const stream = async (/** @type {Household} */ { tower }) => {
  while (tower.streams.length === 0) await settled(); // live.js is being loaded
  tower.last.hello();
};

// A person who is asked without having clicked says no for good (BR-05).
test('the browser asks nothing before a click, also where the page does', async (t) => {
  stopClock(t);
  const { browser, first } = await page(t, {}, { is: 'subscribe', channels: 'news sport', prompt: '' });
  assert.equal(browser.asked, 0);
  assert.equal(first.part('later').hidden, false, 'the page asks');
  first.part('subscribe').click();
  assert.equal(browser.asked, 1, 'it asks while the click is fresh');
});

test('"not now" holds for 30 days, and not longer', async (t) => {
  stopClock(t);
  const home = new Household();
  const asks = async (/** @type {number} */ later) => {
    t.mock.timers.tick(later);
    const { first } = await page(t, { home }, { is: 'subscribe', channels: 'news', prompt: '' });
    const answer = !first.part('later').hidden;
    if (later === 0) first.part('later').click();
    assert.equal(first.part('subscribe').hidden, false, 'the button stays');
    return answer;
  };
  assert.deepEqual([await asks(0), await asks(1), await asks(30 * DAY - 2), await asks(1)], [true, false, false, true]);
});

test('to turn away from a bell that asks is a "not now", and to close it later is not', async (t) => {
  stopClock(t);
  const home = new Household();
  const { first } = await page(t, { home }, { is: 'subscribe', kind: 'bell', channels: 'news', prompt: '' });
  assert.equal(first.element.isOpen, true);
  first.element.close();
  assert.ok(home.memory.get('belfry.declined'));
  home.memory.clear();
  first.part('open').click();
  first.part('open').click();
  assert.deepEqual([first.element.isOpen, home.memory.size], [false, 0]);
});

test('all elements of a page share one handle, made as the page wants it', async (t) => {
  stopClock(t);
  /** @type {any} */
  let mine;
  const { all, server, kit } = await page(t, { setUp: ({ shared }) => { mine = shared({ server: 'https://mine.example' }); } },
    { is: 'subscribe', channels: 'news' }, { is: 'subscribe', channels: 'news', kind: 'bell' });
  all[0].part('subscribe').click();
  assert.equal(all[0].part('subscribe').getAttribute('aria-disabled'), 'true');
  await elapsed(t, new Promise((resolve) => { mine.addEventListener('state', () => mine.state === 'on' && resolve(0)); }));
  assert.deepEqual(all.map(({ element }) => element.getAttribute('state')), ['on', 'on']);
  assert.ok(server.calls.every(({ url }) => url.startsWith('https://mine.example/')));
  assert.equal(kit.shared(), mine);
});

test('what an element does not offer it does not end, and nothing chosen is nothing done', async (t) => {
  stopClock(t);
  const { first, server, kit } = await page(t, {}, { is: 'subscribe', channels: 'news sport', chosen: 'news' });
  const belfry = kit.shared();
  await elapsed(t, belfry.subscribe(['weather', 'sport']));
  await settled();
  assert.deepEqual([first.box('news').checked, first.box('sport').checked], [false, true], 'it shows what is registered');
  first.box('news').checked = true;
  first.part('save').click();
  await elapsed(t, new Promise((resolve) => { belfry.addEventListener('state', resolve, { once: true }); }));
  assert.deepEqual([...server.rows.values()][0].channels, ['news', 'sport', 'weather']);
  first.box('news').checked = first.box('sport').checked = false;
  await settled();
  server.calls = [];
  first.part('save').click();
  await settled();
  assert.equal(first.part('note').textContent, 'Choose at least one.');
  assert.deepEqual(server.calls, []);
});

test('what went wrong is said, in the page\'s words where it has some', async (t) => {
  stopClock(t);
  const { browser, first, kit } = await page(t, {}, { is: 'subscribe', channels: 'news', lang: 'de-AT' });
  kit.translate('de', { subscribe: 'Benachrichtigen', denied: 'Der Browser hat es verboten.' });
  assert.equal(first.part('subscribe').textContent, 'Benachrichtigen');
  assert.equal(first.part('unsubscribe').textContent, 'Stop', 'what is missing stays English');
  first.element.words = { subscribe: 'Läuten' };
  assert.equal(first.part('subscribe').textContent, 'Läuten');
  browser.answer = 'denied';
  first.part('subscribe').click();
  await settled();
  assert.equal(first.part('note').textContent, 'Der Browser hat es verboten.');
  assert.equal(first.part('subscribe').hidden, true, 'asking again would come to nothing');
});

// A publisher's account may be stolen, and old messages may be of another time (SEC-30, 31).
test('a message is text, and leads to this very site or nowhere', async (t) => {
  const rows = /** @type {[unknown, string | undefined][]} */ ([
    ['/sale', 'https://app.example/sale'], ['sale?x=1#y', 'https://app.example/some/sale?x=1#y'], ['https://app.example/x', 'https://app.example/x'],
    ['https://app.example:444/', undefined], ['http://app.example/', undefined], ['https://evil.example/', undefined], ['//evil.example/', undefined],
    ['\\\\evil.example', undefined], ['https://app.example@evil.example/', undefined], ['https://ann:pw@app.example/', undefined], ['javascript:alert(1)', undefined],
    [' java\nscript:alert(1)', undefined], ['data:text/html,x', undefined], ['blob:https://app.example/1', undefined], ['filesystem:https://app.example/x', undefined],
    ['https://', undefined], [7, undefined], [null, undefined], [undefined, undefined],
  ]);
  for (const [url, want] of rows) {
    await t.test(String(url), async (t) => {
      const { first } = await page(t, { last: [event('1', { title: '<img src=x onerror=alert(1)>', body: '<b>', url })] }, { is: 'inbox', channels: 'news' });
      const [line] = first.lines();
      assert.ok(line.textContent.startsWith('<img src=x onerror=alert(1)><b>'), line.textContent);
      assert.equal(line.querySelectorAll('a')[0]?.getAttribute('href'), want);
    });
  }
});

test('an inbox has what was said before and what is said now, each once and the newest first', async (t) => {
  const home = new Household();
  const around = { home, last: [event('1'), event('2'), event('3')] };
  const { first } = await page(t, around, { is: 'inbox', kind: 'bell', channels: 'news', max: '3' });
  await stream(home);
  const titles = () => first.lines().map((/** @type {any} */ line) => line.children[0].textContent);
  assert.equal(home.tower.polls[0].search, '?channel=news&last=3');
  assert.deepEqual([titles(), first.element.getAttribute('unread')], [['Title 3', 'Title 2', 'Title 1'], '0'], 'nobody is greeted by a number');
  home.tower.last.say(event('3'));
  home.tower.last.say(event('4'));
  assert.deepEqual([titles(), first.element.getAttribute('unread')], [['Title 4', 'Title 3', 'Title 2'], '1']);
  assert.equal(first.part('open').getAttribute('aria-label'), 'Messages: 1 new');

  const again = await page(t, { ...around, last: [...around.last, event('4')] }, { is: 'inbox', kind: 'bell', channels: 'news' });
  assert.equal(again.first.element.getAttribute('unread'), '1', 'a new page knows what was read');
  again.first.part('open').click();
  assert.equal(again.first.element.getAttribute('unread'), '0');
  assert.deepEqual(again.first.lines().map((/** @type {any} */ line) => line.className), ['new', '', '', '']);
  const other = await page(t, { home, last: [event('4')] }, { is: 'inbox', kind: 'bell', channels: 'news' });
  assert.equal(other.first.element.getAttribute('unread'), '0', 'it was read');
});

// The stream begins where the log is then, and that is later than the first answer.
test('what is said while the page connects is there, too', async (t) => {
  const home = new Household();
  const log = [event('1')];
  const { first } = await page(t, { home, last: () => log }, { is: 'inbox', channels: 'news' });
  assert.equal(first.lines().length, 1);
  log.push(event('2'));
  await stream(home);
  await quiet();
  assert.equal(first.lines().length, 2);
  home.tower.last.say(event('3'));
  await quiet();
  assert.deepEqual([first.lines().length, home.tower.polls.length], [3, 2], 'once it is whole nothing more is asked');
});

// Where another element's connection stands already, nothing is told of it.
test('an inbox that came to an open connection is whole with its first message', async (t) => {
  const home = new Household();
  const log = [event('1')];
  const { all: [, second] } = await page(t, { home, last: () => log }, { is: 'inbox', channels: 'news sport' }, { is: 'inbox', channels: 'news' });
  await stream(home);
  second.element.disconnectedCallback();
  second.element.connectedCallback();
  await quiet();
  log.push(event('2'));
  home.tower.last.say(event('3'));
  await quiet();
  assert.equal(second.lines().length, 3);
});

test('an inbox that is behind another window leaves its messages unread', async (t) => {
  const home = new Household();
  const { first, tab } = await page(t, { home, last: [event('1')] }, { is: 'inbox', channels: 'news' });
  await stream(home);
  tab.turn('hidden');
  home.tower.last.say(event('2'));
  assert.equal(first.element.getAttribute('unread'), '1');
  tab.turn('visible');
  assert.equal(first.element.getAttribute('unread'), '0');
});

test('a server that is away is asked again when it is back', async (t) => {
  const home = new Household();
  let down = true;
  const { first } = await page(t, { home, last: () => (down ? 503 : [event('1')]) }, { is: 'inbox', channels: 'news' });
  assert.equal(first.lines().length, 0);
  assert.match(first.element.shadowRoot.textContent, /could not be loaded/);
  down = false;
  await stream(home);
  await quiet();
  assert.equal(first.lines().length, 1);
  assert.doesNotMatch(first.element.shadowRoot.textContent, /could not be loaded/);
});

// Whoever uses the browser next must not read what was for the one before.
test('when somebody has signed out, what was for them is gone', async (t) => {
  const home = new Household();
  let user = 'ann';
  const { first, kit } = await page(t, { home, setUp: ({ shared }) => { shared({ server: 'https://ring.example', userToken: () => user }); },
    last: () => (user ? [event('1'), event('2', {}, ['private-club'])] : [event('1')]) }, { is: 'inbox', channels: 'news private-club' });
  assert.equal(first.lines().length, 2);
  assert.ok(home.tower.callers.includes('/v1/poll Bearer ann'));
  user = '';
  await kit.shared().reconcile();
  await quiet();
  assert.deepEqual(first.lines().map((/** @type {any} */ line) => line.children[0].textContent), ['Title 1']);
  assert.equal(home.tower.polls.at(-1)?.search, '?channel=news&last=20', 'a private channel is not asked for without a token');
});

for (const status of [403, 503]) {
  test(`when somebody else has signed in, what was for the one before is gone, also where the server answers ${status}`, async (t) => {
    const home = new Household();
    let user = 'ann';
    const token = () => `e.${btoa(JSON.stringify({ channels: [`private-${user}`] }))}.s`;
    const { first, kit } = await page(t, { home, setUp: ({ shared }) => { shared({ server: 'https://ring.example', userToken: token }); },
      last: () => (user === 'ann' ? [event('1', {}, ['private-ann'])] : status) }, { is: 'inbox', channels: 'news private-ann' });
    assert.equal(first.lines().length, 1);
    user = 'bob';
    await kit.shared().reconcile();
    await quiet();
    assert.equal(first.lines().length, 0);
    assert.equal(home.tower.polls.at(-1)?.search, '?channel=news&last=20', 'what the token does not open is not asked for');
  });
}

test('two messages of one moment keep their order', async (t) => {
  const time = '2030-01-01T00:00:00.000Z';
  const { first } = await page(t, { last: [event('1', {}), event('2', {})].map((one) => ({ ...one, time })) }, { is: 'inbox', channels: 'news' });
  const titles = () => first.lines().map((/** @type {any} */ line) => line.children[0].textContent);
  const before = titles();
  first.element.render();
  first.element.render();
  assert.deepEqual(titles(), before);
});
