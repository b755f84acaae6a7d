// @ts-check
//! Belfry's live events, https://github.com/belfry-push/belfry/blob/main/serviceworker/live.js
//
// What is broadcast, as pages that are open hear it. belfry.js loads this file when a page first listens, and is what pages call.
//
// A browser has one connection however many tabs listen: the tab that holds a
// lock leads, keeps the line to the server, and tells the others (BR-63).

const SECOND = 1_000;
const STEP = 2 * SECOND; // without a hello, until the next way is tried beside
const FLOOR = 2; // steps until polls make up for streams that do not begin
const SETTLE = 5; // steps until polls are taken for all that there is
const GIVE_UP = 8; // steps without any answer until it all begins anew
const AWAKE = 5 * SECOND; // a browser that just woke up has no network for a while, and says nothing of it

const FIRST_WAIT = SECOND; // before the first new try at most; twice as long before each next
const LONGEST_WAIT = 30 * SECOND;
const PING = 25 * SECOND; // between two pings, where the server does not say
const OVERDUE = 1.2; // pings: what comes later is late, since the server's come ± 20 %
const DEAD = 2.2; // pings without a word until a line is taken for dead

const POLL = 25; // seconds that the server holds a poll back
const SHORT = 10 * SECOND; // between polls that cannot be held back, ± 20 %
const ANSWER = 10 * SECOND; // for an answer of the server
const LONGEST_LINE = 1 << 20; // characters; the server's events are far shorter

const TAKEOVER = 2 * SECOND; // for a leader to answer before it is replaced
const MOST_ACKS = 50; // at a time
const REPEAT = 30 * SECOND; // until the server is told again that somebody looks, at the next ping: it believes that for 90 s
const MOST_GIVEN = 2000; // ids of events that a page remembers
const REMEMBER = 24 * 3600 * SECOND; // which way worked

/** @typedef {Window & typeof globalThis} Page what is around a page: its window, or a test's */

/** @typedef {import('./belfry.js').LiveEvent} LiveEvent */
/** @typedef {import('./belfry.js').LiveReset} LiveReset */

/** What came by a line: a message, or an event about the line itself. @typedef {Record<string, unknown>} Said */

/** What a way to the server is asked for; token says who the user is, or is empty. @typedef {{ channels: string[], cursor: string, token: string }} Wish */

/**
 * The ways to the server, the best first. Each begins at once, tells hear what
 * comes, and returns a function that ends it. None of them tries again by itself.
 *
 * @type {Record<string, (page: Page, server: string, wish: Wish, hear: (said: Said) => void) => () => void>}
 */
const WAYS = { sse, fetch: lines, websocket, 'long-poll': polls };

/** @type {typeof WAYS[string]} */
function sse(page, server, { channels, cursor, token }, hear) {
  const { EventSource } = page;
  /** @type {EventSource | undefined} */
  let source;
  const open = (ticket = '') => {
    source = new EventSource(`${server}/v1/events?${query(channels, cursor && ['last_event_id', cursor], ticket && ['ticket', ticket])}`);
    const heard = (/** @type {MessageEvent} */ { type, data, lastEventId }) =>
      hear({ ...(lastEventId && { cursor: lastEventId }), ...parse(data), event: type === 'message' ? '' : type });
    for (const type of ['message', 'hello', 'ping', 'reset', 'auth', 'bye']) source.addEventListener(type, heard);
    // By itself it would come back at once, all pages in one moment, with nothing but one header and a ticket that it has used.
    source.addEventListener('error', () => hear({ event: 'end' }));
  };
  const hangUp = new AbortController();
  const enter = async () => {
    const answer = await page.fetch(`${server}/v1/tickets`, { method: 'POST', headers: { 'Content-Type': 'application/json', ...bearer(token) }, body: '{}',
      cache: 'no-store', credentials: 'omit', redirect: 'error', signal: hangUp.signal });
    if (!answer.ok) return hear(await refusal(answer));
    const { ticket } = object(await answer.json());
    if (!hangUp.signal.aborted) open(text(ticket));
  };
  if (token && EventSource) enter().catch(() => hear({ event: 'end' }));
  else open();
  return () => {
    hangUp.abort();
    source?.close();
  };
}

/** @type {typeof WAYS[string]} */
function lines(page, server, { channels, cursor, token }, hear) {
  const hangUp = new AbortController();
  const read = async () => {
    const answer = await page.fetch(`${server}/v1/events`, {
      method: 'POST', headers: { 'Content-Type': 'application/json', Accept: 'application/x-ndjson', ...bearer(token) }, body: JSON.stringify({ channels, cursor }),
      cache: 'no-store', credentials: 'omit', redirect: 'error', signal: hangUp.signal,
    });
    const reader = answer.status === 200 ? answer.body?.getReader() : null;
    if (!reader) return hear(answer.status === 204 ? { event: 'away' } : await refusal(answer));
    const decoder = new TextDecoder();
    for (let rest = ''; rest.length < LONGEST_LINE;) {
      const { done, value } = await reader.read();
      if (done) return;
      const all = (rest + decoder.decode(value, { stream: true })).split('\n');
      rest = all.pop() ?? '';
      for (const line of all) hear(parse(line));
    }
  };
  read().catch(() => {}).then(() => hear({ event: 'end' }));
  return () => hangUp.abort();
}

/** @type {typeof WAYS[string]} */
function websocket(page, server, { token, ...wish }, hear) {
  const socket = new page.WebSocket(`${server.replace(/^http/, 'ws')}/v1/ws`, 'belfry.v1');
  socket.addEventListener('open', () => socket.send(JSON.stringify({ ...wish, ...(token && { token }) })));
  socket.addEventListener('message', ({ data }) => hear(parse(data)));
  // 1008: it does not take what was said first.
  socket.addEventListener('close', ({ code }) => hear({ event: 'end', stale: code === 1008 }));
  return () => socket.close();
}

/**
 * Polls say hello with the first answer, which is not held back. Where those that
 * are held back break twice in a row, something on the way has less patience.
 *
 * @type {typeof WAYS[string]}
 */
function polls(page, server, { channels, cursor, token }, hear) {
  const hangUp = new AbortController();
  const ask = async () => {
    for (let n = 0, wait = 0, cuts = 0; !hangUp.signal.aborted; n++) {
      const asked = Date.now();
      const answer = await poll(page, server, { channels, cursor, token }, wait, hangUp.signal).catch((err) => {
        if (wait === 0) throw err;
        return null;
      });
      if (!answer) {
        if (++cuts === 2) hear({ event: 'short' });
        wait = 0;
        continue;
      }
      if (answer.refused) return hear(answer.refused);
      if (n === 0) hear({ event: 'hello' });
      if (answer.reset) hear({ ...answer.reset, event: 'reset' });
      for (const message of answer.messages) hear(message);
      hear({ event: 'ping', cursor: cursor = answer.cursor });
      if (wait > 0) cuts = 0;
      wait = answer.more || cuts >= 2 ? 0 : POLL;
      if (answer.more) continue;
      if (cuts >= 2) await pause(SHORT * (0.8 + 0.4 * Math.random()));
      else if (n > 0 && answer.messages.length === 0 && Date.now() - asked < SECOND) await pause(SECOND); // a server that is about to stop
    }
  };
  ask().catch(() => {}).then(() => hear({ event: 'end' }));
  return () => hangUp.abort();
}

/**
 * @param {Page} page
 * @param {string} server
 * @param {Wish} wish
 * @param {number} wait seconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<{ cursor: string, messages: Said[], reset?: Said, more: boolean, refused?: Said }>}
 */
async function poll(page, server, { channels, cursor, token }, wait, signal) {
  const hangUp = new AbortController();
  const stop = () => hangUp.abort();
  signal?.addEventListener('abort', stop);
  if (signal?.aborted) stop();
  const timer = setTimeout(stop, wait * SECOND + ANSWER);
  try {
    const answer = await page.fetch(`${server}/v1/poll?${query(channels, ['wait', String(wait)], cursor && ['cursor', cursor])}`,
      { headers: bearer(token), cache: 'no-store', credentials: 'omit', redirect: 'error', signal: hangUp.signal });
    const empty = answer.status === 204;
    if (!empty && answer.status !== 200) return { cursor, messages: [], more: false, refused: await refusal(answer) };
    const said = empty ? { cursor: answer.headers.get('Belfry-Cursor') } : object(await answer.json());
    if (!text(said.cursor)) throw new Error('no cursor'); // this is not our server
    return {
      cursor: text(said.cursor), messages: Array.isArray(said.messages) ? said.messages.map(object) : [],
      ...(said.reset ? { reset: object(said.reset) } : {}), more: said.more === true,
    };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}

/**
 * @param {string[]} channels
 * @param {('' | [name: string, value: string])[]} more
 * @returns {URLSearchParams}
 */
function query(channels, ...more) {
  return new URLSearchParams([...channels.map((name) => ['channel', name]), ...more.filter((one) => one !== '')]);
}

/** @param {string} token @returns {Record<string, string>} the header that brings it */
function bearer(token) {
  return token ? { Authorization: `Bearer ${token}` } : {};
}

/**
 * What an answer comes to that is none: come back later, or the end of this try.
 *
 * @param {Response} answer
 * @returns {Promise<Said>}
 */
async function refusal(answer) {
  const after = Number(answer.headers.get('Retry-After'));
  if ((answer.status === 429 || answer.status === 503) && after > 0) return { event: 'bye', retry: after * SECOND };
  return { event: 'end', stale: answer.status === 401, reason: text(parse(await answer.text()).detail) || `the server answered ${answer.status}` };
}

/**
 * Who the user is, as the site says when it is asked: a token that is kept until
 * the server does not take it any more. Whether there is a user at all may change.
 */
class Pass {
  #ask;
  /** @type {Promise<string> | null} */ #kept = null;

  /** @param {() => Promise<string>} ask gives a token, or nothing for a stranger */
  constructor(ask) {
    this.#ask = ask;
  }

  /** @returns {Promise<string>} */
  token() {
    if (this.#kept) return this.#kept;
    const kept = this.#ask();
    this.#kept = kept;
    const drop = () => { if (this.#kept === kept) this.#kept = null; };
    kept.then((token) => { if (!token) drop(); }, drop);
    return kept;
  }

  /** The next one must be a fresh one. */
  spoil() {
    this.#kept = null;
  }
}

/** One use of one way. @typedef {{ way: string, hangUp: () => void, begun: boolean, conn: string, ping: number, retry?: unknown, channels: string[], bound: string | null }} Call bound is whose it is to the server: a device's id, empty for a stranger's, null before that is known */

/**
 * A Line keeps up the connection to the server, by whichever way gets through. It
 * never gives up: it comes back where it was, at the cursor of what it told last.
 */
class Line {
  cursor = '';
  #page;
  #server;
  #tell;
  #device;
  #pass;
  #token = '';
  /** @type {Promise<string> | null} the token that is waited for */ #asked = null;
  /** @type {string[]} private ones that the site would not open */ #barred = [];
  /** @type {string[]} */ #channels = [];
  #visible = true;
  /** @type {Map<string, Call>} by way, those that are open */ #calls = new Map();
  /** @type {Call | null} the one that is in use */ #call = null;
  /** @type {string[]} ways that are still to be tried */ #left = [];
  /** @type {Set<string>} ways that have worked in this page */ #proven = new Set();
  #tries = 0;
  #heard = 0; // when, from the server; or when it was dialled
  #woke = -Infinity;
  #closed = false;
  /** @type {string[]} ids that the server is still to be told */ #acks = [];
  #acknowledging = false;
  #seen = 0; // when the server was last told whether somebody looks
  /** @type {Promise<unknown>} */ #turn = Promise.resolve();
  /** @type {Record<string, ReturnType<typeof setTimeout>>} */ #timers = {};

  /**
   * @param {Page} page
   * @param {string} server
   * @param {() => Promise<{ id: string, secret: string } | null>} device
   * @param {Pass | null} pass null where the site does not say who its users are
   * @param {(said: Said) => void} tell
   */
  constructor(page, server, device, pass, tell) {
    this.#page = page;
    this.#server = server;
    this.#device = device;
    this.#pass = pass;
    this.#tell = tell;
  }

  /** Begins anew, whatever there was. */
  dial() {
    if (this.#closed) return;
    this.#hangUp();
    this.#heard = Date.now(); // from here on silence counts
    if (!this.#pass) return this.#dialAs('');
    const asked = this.#pass.token();
    this.#asked = asked;
    asked.then((token) => { if (asked === this.#asked) this.#dialAs(token); }, (err) => {
      if (asked !== this.#asked) return;
      this.#lose();
      this.#tell({ event: 'transport', transport: '', reason: text(object(err).message) });
    });
  }

  /** @param {string} token */
  #dialAs(token) {
    this.#asked = null;
    this.#become(token);
    const ways = Object.keys(WAYS);
    const best = remembered(this.#page);
    this.#left = [...new Set(best && ways.includes(best) ? [best, ...ways] : ways)];
    this.#next();
    this.#step(0, 0);
  }

  close() {
    this.#closed = true;
    this.#hangUp();
  }

  /**
   * The browser is back from sleep, from another page or from a dead spot.
   *
   * @param {boolean} surely whether the connection must be taken for lost
   */
  wake(surely) {
    this.#woke = Date.now();
    const overdue = Date.now() - this.#heard > OVERDUE * (this.#call?.ping ?? PING);
    if (surely || overdue || this.#calls.size === 0) this.dial();
  }

  /** @param {string[]} channels @param {boolean} visible whether somebody looks at one of the tabs */
  tune(channels, visible) {
    this.#channels = channels;
    const turned = visible !== this.#visible;
    this.#visible = visible;
    if (this.#call && this.#shut.some((name) => !this.#barred.includes(name))) this.#renew();
    else this.#retune();
    if (turned && this.#call?.bound) this.#look();
  }

  /** @param {string} id of a message that somebody has before them */
  ack(id) {
    if (!this.#call?.conn || this.#call.bound === '') return;
    if (this.#acks.push(id) > MOST_GIVEN) this.#acks.shift();
    this.#acknowledge();
  }

  /**
   * Tells the server at once, since it waits 3 s with its push; what comes
   * meanwhile goes together. No timer: those of a tab in the background are late.
   */
  async #acknowledge() {
    if (this.#acknowledging) return;
    this.#acknowledging = true;
    while (this.#call?.bound && this.#acks.length > 0) await this.#order(() => ({ ack: this.#acks.splice(0, MOST_ACKS) }));
    this.#acknowledging = false;
  }

  /** Tells the server whether somebody looks. @param {Record<string, unknown>} [more] */
  async #look(more) {
    const told = await this.#order({ ...more, visible: this.#visible });
    if (told) this.#seen = Date.now();
    return told;
  }

  /** Tells the server which registered browser this is. */
  async bind() {
    const call = this.#call;
    const device = await this.#device().catch(() => null);
    if (!call?.conn || call !== this.#call || device && call.bound === device.id) return;
    call.bound = device && (await this.#look({ device })) ? device.id : '';
    this.#acknowledge();
  }

  /** Private channels that the token does not open. One of them would keep all tabs from listening. */
  get #shut() {
    const opened = opens(this.#token);
    return this.#channels.filter((name) => name.startsWith('private-') && !opened.includes(name));
  }

  get #wanted() {
    const shut = this.#shut;
    return this.#channels.filter((name) => !shut.includes(name));
  }

  /** Is who the site says, and tells what that one may not hear. @param {string} token */
  #become(token) {
    this.#token = token;
    const before = this.#barred;
    this.#barred = this.#shut;
    const news = this.#barred.filter((name) => !before.includes(name));
    if (news.length > 0) this.#tell({ event: 'barred', reason: `The site's user token does not open ${news.join(', ')}.` });
  }

  /** Brings a fresh token to the server, so that the stream goes on. */
  async #renew() {
    const call = this.#call;
    this.#pass?.spoil();
    const token = await this.#pass?.token().catch(() => undefined);
    if (!call || call !== this.#call) return;
    this.#become(token ?? this.#token); // without one bye comes, and then the next try
    if (token === '') this.dial();
    else this.#retune(token !== undefined);
  }

  #next() {
    const way = this.#left.shift();
    if (way) this.#try(way);
    else if (this.#calls.size === 0) this.#lose();
  }

  /** @param {string} way */
  #try(way) {
    /** @type {Call} */
    const call = { way, hangUp: () => {}, begun: false, conn: '', ping: PING, channels: this.#wanted, bound: null };
    this.#calls.set(way, call);
    try {
      call.hangUp = WAYS[way](this.#page, this.#server, { channels: call.channels, cursor: this.cursor, token: this.#token }, (said) => {
        if (this.#calls.get(way) === call) this.#hear(call, said);
      });
    } catch {
      this.#ended(call); // this browser does not have it, or the site forbids it
    }
  }

  /**
   * Looks from time to time how far the ways have come. Who is offline, unseen or
   * just awake is no proof against a way.
   *
   * @param {number} ticks since this began
   * @param {number} steps those that count against the ways
   */
  #step(ticks, steps) {
    if (this.#call || this.#calls.size === 0) return;
    const due = Date.now() + STEP;
    this.#after('step', STEP, () => {
      const now = Date.now();
      if (now - due > STEP) return this.#step(ticks, steps); // it slept meanwhile
      const fair = this.#visible && this.#page.navigator.onLine !== false && now - this.#woke >= AWAKE;
      if (fair) this.#fallBack(steps + 1);
      if (ticks + 1 < GIVE_UP) this.#step(ticks + 1, fair ? steps + 1 : steps);
      else if (!this.#call) this.#lose();
    });
  }

  /** @param {number} steps */
  #fallBack(steps) {
    const floor = this.#calls.get('long-poll');
    if (steps >= SETTLE && floor?.begun) return this.#settle(floor);
    if (this.#left[0] !== 'long-poll') this.#next();
    if (steps < FLOOR || !this.#left.includes('long-poll')) return;
    this.#left = this.#left.filter((way) => way !== 'long-poll');
    this.#try('long-poll');
  }

  /**
   * @param {Call} call
   * @param {Said} said
   */
  #hear(call, said) {
    this.#heard = Date.now();
    if (said.stale || said.event === 'bye' && said.reason === 'auth') this.#pass?.spoil();
    if (said.event === 'hello') return this.#begin(call, said);
    if (said.event === 'end') return this.#ended(call, said.reason);
    if (said.event === 'bye') return this.#lose(said.retry);
    if (said.event === 'away') {
      this.close();
      return this.#tell({ event: 'transport', transport: '' });
    }
    if (!call.begun) return;
    if (said.event === 'short') return this.#tell({ event: 'transport', transport: 'short-poll' });
    if (call === this.#call) this.#watch(call);
    if (said.event === 'auth') {
      if (call === this.#call) this.#renew();
      return;
    }
    if (said.event === 'ping') this.#tries = 0; // it has lasted
    if (text(said.cursor)) this.cursor = text(said.cursor);
    this.#tell(said);
    if (said.event === 'ping' && this.#visible && this.#call?.bound && Date.now() - this.#seen >= REPEAT) this.#look();
  }

  /**
   * @param {Call} call
   * @param {Said} hello
   */
  #begin(call, hello) {
    if (call.begun) return;
    call.begun = true;
    call.conn = text(hello.conn);
    call.retry = hello.retry;
    const ping = Number(hello.ping) * SECOND;
    if (ping >= SECOND && ping <= 10 * PING) call.ping = ping;
    if (text(hello.cursor)) this.cursor = text(hello.cursor);
    // A poll that makes up for streams gives way to the first of them that begins.
    if (call.way === 'long-poll' && this.#calls.size > 1) this.#tell({ event: 'transport', transport: call.way });
    else this.#settle(call);
  }

  /** @param {Call} call */
  #settle(call) {
    for (const other of this.#calls.values()) if (other !== call) this.#drop(other);
    this.#call = call;
    this.#left = [];
    clearTimeout(this.#timers.step);
    this.#proven.add(call.way);
    remember(this.#page, call.way);
    this.#watch(call);
    // With the place where it begins: whoever takes over before anything is said goes on from there.
    this.#tell({ event: 'transport', transport: call.way, cursor: this.cursor });
    this.#retune();
    this.bind();
  }

  /** @param {Call} call */
  #watch(call) {
    this.#after('watch', DEAD * call.ping, () => this.#lose());
  }

  /**
   * @param {Call} call
   * @param {unknown} [reason]
   */
  #ended(call, reason) {
    this.#drop(call);
    const [floor] = this.#calls.values();
    if (call === this.#call) this.#lose(call.retry);
    else if (floor?.begun && this.#calls.size === 1 && this.#left.length === 0) this.#settle(floor);
    // What worked before will work again: the server is away, and not the way bad.
    else if (this.#proven.has(call.way) && this.#calls.size === 0) this.#lose();
    else this.#next();
    if (text(reason)) this.#tell({ event: 'transport', transport: '', reason });
  }

  /**
   * Comes back after a while, which is left to chance: browsers that lost a
   * server in one moment would be back in one moment.
   *
   * @param {unknown} [retry] milliseconds, where the server says them, or said so before it was gone
   */
  #lose(retry) {
    const usual = Math.random() * Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#tries++);
    const wait = typeof retry === 'number' && retry >= 0 && retry <= 10 * LONGEST_WAIT ? retry : usual;
    this.#hangUp();
    this.#after('retry', wait, () => this.dial());
    this.#tell({ event: 'transport', transport: '' });
  }

  #hangUp() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    for (const call of this.#calls.values()) this.#drop(call);
    this.#call = null;
    this.#asked = null;
    this.#left = [];
    this.#acks = [];
  }

  /** @param {Call} call */
  #drop(call) {
    this.#calls.delete(call.way); // first: nothing that it still says counts
    call.hangUp();
  }

  /**
   * Tells the server about channels that came and went since the call began.
   *
   * @param {boolean} [anyhow] also where there are none: each order brings the token
   */
  async #retune(anyhow = false) {
    const call = this.#call;
    if (!call) return;
    const wanted = this.#wanted;
    const subscribe = wanted.filter((name) => !call.channels.includes(name));
    const unsubscribe = call.channels.filter((name) => !wanted.includes(name));
    if (subscribe.length + unsubscribe.length === 0 && !anyhow) return;
    call.channels = wanted;
    const done = call.conn !== '' && (await this.#order({ subscribe, unsubscribe }));
    if (!done && call === this.#call) this.dial();
  }

  /**
   * One order after another: two that cross would leave the wrong channels.
   *
   * @param {Record<string, unknown> | (() => Record<string, unknown>)} order may be made when it is its turn
   * @returns {Promise<boolean>}
   */
  #order(order) {
    const call = this.#call;
    const post = async () => {
      if (!call?.conn || call !== this.#call) return false;
      const hangUp = new AbortController();
      const timer = setTimeout(() => hangUp.abort(), ANSWER);
      try {
        const answer = await this.#page.fetch(`${this.#server}/v1/connections/${call.conn}`, {
          method: 'POST', headers: { 'Content-Type': 'application/json', ...bearer(this.#token) }, body: JSON.stringify(typeof order === 'function' ? order() : order),
          cache: 'no-store', credentials: 'omit', redirect: 'error', signal: hangUp.signal,
        });
        return answer.ok;
      } catch {
        return false;
      } finally {
        clearTimeout(timer);
      }
    };
    const turn = this.#turn.then(post);
    this.#turn = turn;
    return turn;
  }

  /**
   * @param {string} what there is one timer for each
   * @param {number} ms
   * @param {() => void} work
   */
  #after(what, ms, work) {
    clearTimeout(this.#timers[what]);
    this.#timers[what] = setTimeout(work, ms);
  }
}

/**
 * The tabs of a browser that listen together, as one of them sees it. It tells
 * target what comes: `message`, `reset` and `transport`, each with a detail.
 */
export class Tabs {
  #page;
  #server;
  #target;
  #device;
  #shown;
  #pass;
  #name = Array.from({ length: 4 }, () => Math.random().toString(36).slice(2)).join('');
  /** @type {Set<{ channels: string[] }>} */ #listeners = new Set();
  /** @type {BroadcastChannel | null} */ #bus = null;
  /** @type {Line | null} the line to the server, where this tab leads */ #line = null;
  /** @type {Map<string, { channels: string[], visible: boolean, at: number }>} the others, where it does */ #others = new Map();
  /** @type {string[]} what all tabs together listen to, as the leader says */ #union = [];
  #cursor = '';
  #behind = ''; // the cursor from which on this tab may have missed what its leader told
  #heard = 0; // when, from the leader
  #transport = '';
  /** @type {Set<string>} ids */ #given = new Set();
  #gone = new AbortController();
  #missed = new AbortController(); // ends the look for what was missed
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #timer;

  /**
   * @param {Page} page
   * @param {string} server
   * @param {EventTarget} target
   * @param {() => Promise<{ id: string, secret: string } | null>} device which registered browser this is
   * @param {(id: string) => void} shown is told what somebody has before them
   * @param {(() => Promise<string>) | null} [userToken] what the site gives as proof of who the user is; nothing for a stranger
   */
  constructor(page, server, target, device, shown, userToken = null) {
    this.#page = page;
    this.#server = server;
    this.#target = target;
    this.#device = device;
    this.#shown = shown;
    this.#pass = userToken && new Pass(userToken);
    page.addEventListener('pagehide', () => this.#stop());
    page.addEventListener('pageshow', () => this.#start());
    page.addEventListener('online', () => {
      forget(page); // it may be another network
      this.#line?.wake(true);
    });
    page.document.addEventListener('visibilitychange', () => this.#look());
    target.addEventListener('state', () => this.#line?.bind());
  }

  /**
   * Listens to channels too.
   *
   * @param {string[]} channels
   * @param {(event: LiveEvent) => void} onMessage
   * @param {(reset: LiveReset) => void} [onReset]
   * @returns {() => void} stops that
   */
  join(channels, onMessage, onReset) {
    const listener = { channels };
    const ended = new AbortController();
    // By way of the target, so that one listener that throws takes nothing from another.
    this.#target.addEventListener('message', (event) => {
      const { detail } = /** @type {CustomEvent<LiveEvent>} */ (event);
      if (concerns(detail.channels, channels)) onMessage(detail);
    }, ended);
    if (onReset) this.#target.addEventListener('reset', (event) => onReset(/** @type {CustomEvent<LiveReset>} */ (event).detail), ended);
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#start();
    else this.#changed();
    return () => {
      ended.abort();
      if (!this.#listeners.delete(listener)) return;
      if (this.#listeners.size === 0) this.#stop();
      else this.#changed();
    };
  }

  /** The user may be another one, says this page. Where there is a bus, all tabs hear it there, and so does this one. */
  askAnew() {
    if (!this.#bus) this.#askAnew();
  }

  /** Lets go of the token at once, and of all that came by it. */
  #askAnew() {
    if (!this.#pass) return;
    this.#pass.spoil();
    this.#missed.abort();
    this.#line?.dial();
  }

  /** Without locks or a bus there is no telling who else is there: each tab leads itself. */
  #start() {
    if (this.#listeners.size === 0 || !this.#gone.signal.aborted && (this.#bus || this.#line)) return;
    this.#gone = new AbortController();
    const { navigator, BroadcastChannel } = this.#page;
    if (!navigator.locks || !BroadcastChannel) return this.#lead();
    this.#bus = new BroadcastChannel(this.#key);
    this.#bus.onmessage = ({ data }) => this.#told(object(data));
    this.#queue(false);
    this.#ask();
  }

  /** Leaves the others, at once: a page in the back/forward cache must hold nothing. */
  #stop() {
    this.#gone.abort(); // which gives the lock back
    this.#missed.abort();
    this.#pass?.spoil(); // it hears of no change until it is back
    clearTimeout(this.#timer);
    this.#follow();
    this.#post({ gone: this.#name });
    this.#bus?.close();
    this.#bus = null;
    this.#heard = 0;
    this.#become('');
  }

  get #key() { return `belfry.live ${this.#server}`; }
  get #visible() { return this.#page.document.visibilityState === 'visible'; }
  get #channels() { return [...new Set([...this.#listeners].flatMap(({ channels }) => channels))]; }

  /**
   * Waits to lead, or takes the lead from a tab that does not answer: a browser
   * may stop a tab in the background and leave it its locks.
   *
   * @param {boolean} steal
   */
  #queue(steal) {
    const { signal } = this.#gone;
    const lead = () => new Promise((/** @type {(value?: unknown) => void} */ release) => {
      if (signal.aborted) return release();
      signal.addEventListener('abort', release);
      this.#lead();
    });
    this.#page.navigator.locks.request(this.#key, steal ? { steal } : { signal }, lead).catch((err) => {
      if (signal.aborted) return;
      if (object(err).name !== 'AbortError') return this.#lead(); // there are no locks for us
      this.#follow();
      this.#queue(false);
      this.#here(true);
      // No haste to take it back: where tabs cannot hear each other, the lead would go to and fro.
      this.#patience(DEAD * PING, () => this.#ask());
    });
  }

  #lead() {
    if (this.#line) return;
    clearTimeout(this.#timer);
    this.#line = new Line(this.#page, this.#server, this.#device, this.#pass, (said) => this.#tell(said));
    this.#line.cursor = this.#behind || this.#cursor;
    this.#behind = '';
    // Until the others have answered, they listen to what they did under the last leader.
    this.#others = new Map([['', { channels: this.#union, visible: false, at: Date.now() }]]);
    this.#state(true);
    this.#tune();
    this.#line.dial();
  }

  #follow() {
    this.#line?.close();
    this.#line = null;
    this.#others.clear();
  }

  /** Tells the other tabs, and this page, what the server says. @param {Said} said */
  #tell(said) {
    this.#take(said);
    if (said.event !== 'ping') return this.#post({ said });
    const old = Date.now() - DEAD * PING;
    for (const [name, { at }] of this.#others) if (at < old) this.#others.delete(name); // it ended without a word
    this.#tune();
    this.#state(true);
  }

  /** Tells the others who leads and how far it is. @param {boolean} roll asks them to answer */
  #state(roll) {
    this.#post({ said: { event: 'state', cursor: this.#line?.cursor, transport: this.#transport, channels: this.#union }, roll });
  }

  #tune() {
    const others = [...this.#others.values()];
    this.#union = [...new Set([...this.#channels, ...others.flatMap(({ channels }) => channels)])].sort();
    this.#line?.tune(this.#union, this.#visible || others.some(({ visible }) => visible));
  }

  /** Something of this tab is different: what it listens to, or whether it is seen. */
  #changed() {
    if (this.#line) this.#tune();
    else this.#here(false);
  }

  /** @param {boolean} ask wants an answer */
  #here(ask) {
    this.#post({ tab: this.#name, channels: this.#channels, visible: this.#visible, ask });
  }

  /** Asks the leader for a word. A tab that somebody looks at goes ahead without one that has none. */
  #ask() {
    this.#here(true);
    this.#patience(TAKEOVER, () => (this.#visible ? this.#queue(true) : this.#patience(DEAD * PING, () => this.#ask())));
  }

  /**
   * @param {number} ms
   * @param {() => void} work
   */
  #patience(ms, work) {
    clearTimeout(this.#timer);
    if (!this.#line && this.#bus) this.#timer = setTimeout(work, ms);
  }

  /** The page was turned to, or away from. */
  #look() {
    if (this.#line) {
      this.#tune();
      if (this.#visible) this.#line.wake(false);
    } else if (this.#bus) {
      if (this.#visible) this.#ask();
      else this.#here(false);
    }
  }

  /** @param {Said} data what another tab says */
  #told(data) {
    if (text(data.tab)) {
      if (!this.#line) return;
      this.#others.set(text(data.tab), { channels: strings(data.channels), visible: data.visible === true, at: Date.now() });
      this.#tune();
      if (!data.ask) return;
      this.#state(false);
      if (data.visible === true) this.#line.wake(false);
    } else if (text(data.gone)) {
      if (this.#others.delete(text(data.gone)) && this.#line) this.#tune();
    } else if (text(data.ack)) {
      this.#line?.ack(text(data.ack));
    } else if (data.user) {
      this.#askAnew();
    } else if (data.said && !this.#line) {
      this.#listen(object(data.said));
      if (data.roll) this.#here(false);
    }
  }

  /** @param {Said} said by the leader */
  #listen(said) {
    // A page that was stopped in the background may have missed what was told meanwhile.
    if (Date.now() - this.#heard > DEAD * PING) this.#behind ||= this.#cursor;
    this.#heard = Date.now();
    this.#patience(DEAD * PING, () => this.#ask());
    if (said.event === 'state') this.#union = strings(said.channels);
    this.#take(said);
    this.#catchUp().catch(() => {}); // at the leader's next word, then
  }

  /** Asks the server for what this tab alone has missed. */
  async #catchUp() {
    const from = this.#behind;
    if (!from) return;
    this.#behind = '';
    this.#missed = new AbortController();
    const { signal } = this.#missed;
    try {
      const token = (await this.#pass?.token()) ?? '';
      const opened = opens(token);
      const channels = this.#channels.filter((name) => !name.startsWith('private-') || opened.includes(name));
      for (let cursor = from, more = true; more;) {
        const answer = await poll(this.#page, this.#server, { channels, cursor, token }, 0, signal);
        if (answer.refused?.stale) this.#pass?.spoil();
        if (answer.refused) throw new Error('refused');
        if (answer.reset) this.#reset(answer.reset);
        for (const message of answer.messages) this.#give(message);
        ({ cursor, more } = answer);
      }
    } catch (err) {
      this.#behind = from;
      throw err;
    }
  }

  /** @param {Said} said by the server */
  #take(said) {
    if (said.event === 'reset') this.#reset(said);
    else if (said.event === 'transport' || said.event === 'state') this.#become(text(said.transport), said.reason);
    else if (said.event === 'barred') this.#become(this.#transport, said.reason);
    else if (!said.event) this.#give(said);
    if (text(said.cursor)) this.#cursor = text(said.cursor);
  }

  /** @param {Said} said */
  #reset({ reason, requested, earliest, latest }) {
    this.#fire('reset', { reason, requested, earliest, latest });
  }

  /**
   * @param {string} transport
   * @param {unknown} [reason]
   */
  #become(transport, reason) {
    if (transport === this.#transport && !reason) return;
    this.#transport = transport;
    this.#fire('transport', { transport, ...(text(reason) ? { reason } : {}) });
  }

  /** Gives the page a message, once whichever way it comes. @param {Said} said */
  #give(said) {
    const id = text(said.id);
    if (!id || !Array.isArray(said.channels) || !text(object(said.message).title) || this.#given.has(id)) return;
    this.#given.add(id);
    if (this.#given.size > MOST_GIVEN) for (const oldest of this.#given) { this.#given.delete(oldest); break; }
    const channels = strings(said.channels);
    if (!concerns(channels, this.#channels)) return;
    const { time, cursor, message } = said;
    this.#fire('message', { id, channels, time, cursor, message });
    if (!this.#visible) return;
    this.#shown(id);
    if (this.#line) this.#line.ack(id);
    else this.#post({ ack: id });
  }

  /**
   * @param {string} type
   * @param {unknown} detail
   */
  #fire(type, detail) {
    this.#target.dispatchEvent(new CustomEvent(type, { detail }));
  }

  /** @param {unknown} data */
  #post(data) {
    this.#bus?.postMessage(data);
  }
}

/**
 * @param {string[]} channels of a message; none where it is for all, or for a user
 * @param {string[]} chosen
 * @returns {boolean}
 */
function concerns(channels, chosen) {
  return channels.length === 0 || channels.some((name) => chosen.includes(name));
}

const TRANSPORT = 'belfry.transport';

/** @param {Page} page @returns {string} the way that worked here lately, or nothing */
function remembered(page) {
  try {
    const { way, until } = parse(page.localStorage.getItem(TRANSPORT));
    return Number(until) > Date.now() && Number(until) <= Date.now() + REMEMBER ? text(way) : '';
  } catch {
    return '';
  }
}

/** @param {Page} page @param {string} way */
function remember(page, way) {
  if (remembered(page) === way) return; // or it would never expire
  try {
    page.localStorage.setItem(TRANSPORT, JSON.stringify({ way, until: Date.now() + REMEMBER }));
  } catch {
    // Then all ways are tried again next time.
  }
}

/** @param {Page} page */
function forget(page) {
  try {
    page.localStorage.removeItem(TRANSPORT);
  } catch {
    // Nothing is kept, then.
  }
}

/**
 * The private channels that a user token opens, as it says itself; whether it holds
 * only the server can tell.
 *
 * @param {string} token
 * @returns {string[]}
 */
function opens(token) {
  try {
    return strings(parse(atob(token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/'))).channels);
  } catch {
    return [];
  }
}

/** @param {unknown} json @returns {Said} */
function parse(json) {
  try {
    return object(JSON.parse(text(json)));
  } catch {
    return { event: 'malformed' };
  }
}

/** @param {unknown} value @returns {Record<string, unknown>} */
function object(value) {
  return typeof value === 'object' && value !== null ? /** @type {Record<string, unknown>} */ (value) : {};
}

/** @param {unknown} value @returns {string} */
function text(value) {
  return typeof value === 'string' ? value : '';
}

/** @param {unknown} value @returns {string[]} */
function strings(value) {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}

/** @param {number} ms @returns {Promise<void>} */
function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}
