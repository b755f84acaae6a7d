// A Tower is the live half of Belfry's public front door, in memory, and Tab is
// a page that is open in one browser: what live.js finds around it.

/** What is said of a stream by a test. @typedef {Record<string, unknown>} Said */

/** One stream that a page has opened, by whichever way. */
export class Stream {
  /** Hung up by the page. */
  left = false;
  /** What says who the user is. */
  ticket = '';
  token = '';

  /**
   * @param {string} way
   * @param {string[]} channels
   * @param {string} cursor
   * @param {(said: Said | string) => void} say
   * @param {() => void} end ends it as a broken connection does
   */
  constructor(way, channels, cursor, say, end) {
    this.way = way;
    this.channels = channels;
    this.cursor = cursor;
    this.say = say;
    this.end = end;
  }

  /** @param {Said} [more] */
  hello(more = {}) {
    this.say({ event: 'hello', conn: `conn-${this.way}`, cursor: this.cursor || 'e.0', recovered: this.cursor !== '', earliest: 'e.0', ping: 25, ...more });
  }
}

export class Tower {
  /** @type {Stream[]} in the order in which they were opened */
  streams = [];
  /** @type {{ conn: string, order: any }[]} */
  orders = [];
  /** @type {URL[]} */
  polls = [];
  /** What a way comes to instead of a stream: a status, or no connection. @type {Record<string, number | 'down'>} */
  trouble = {};
  /** @type {(asked: URL) => Response | Promise<Response>} */
  poll = () => new Response(null, { status: 204, headers: { 'Belfry-Cursor': 'e.0' } });
  /** @type {Record<string, string>} */
  headers = {};
  orderStatus = 204;
  /** Who called: path and Authorization. @type {string[]} */
  callers = [];
  /** @type {number} */
  ticketStatus = 200;

  /** @returns {Stream} the stream that was opened last */
  get last() { return /** @type {Stream} */ (this.streams.at(-1)); }
  /** @returns {Stream[]} those that are open */
  get open() { return this.streams.filter((one) => !one.left); }
  get ways() { return this.streams.map(({ way }) => way); }

  /** @type {(input: any, init?: any) => Promise<Response>} */
  fetch = async (input, init = {}) => {
    init.signal?.throwIfAborted();
    const url = new URL(input);
    const authorization = init.headers?.Authorization;
    if (authorization) this.callers.push(`${url.pathname} ${authorization}`);
    if (url.pathname === '/v1/tickets') {
      if (init.method !== 'POST' || !authorization) throw new Error('not what the server takes');
      return new Response(JSON.stringify(this.ticketStatus === 200 ? { ticket: `ticket${this.callers.length}`, expires: '' } : { detail: 'the user token has expired' }), { status: this.ticketStatus });
    }
    if (url.pathname.startsWith('/v1/connections/')) {
      this.orders.push({ conn: url.pathname.slice('/v1/connections/'.length), order: JSON.parse(init.body) });
      return new Response(null, { status: this.orderStatus });
    }
    if (url.pathname === '/v1/poll') {
      this.polls.push(url);
      if (this.trouble.poll === 'down') throw new TypeError('NetworkError');
      const cut = new Promise((_, reject) => { init.signal.addEventListener('abort', () => reject(init.signal.reason)); });
      return Promise.race([this.poll(url), cut]);
    }
    return this.#lines(JSON.parse(init.body), init);
  };

  /**
   * @param {{ channels: string[], cursor: string }} wish
   * @param {any} init
   * @returns {Promise<Response>}
   */
  #lines({ channels, cursor }, init) {
    const { trouble } = this;
    return new Promise((resolve, reject) => {
      const [method, accept, kind] = [init.method, init.headers.Accept, init.headers['Content-Type']];
      if (method !== 'POST' || accept !== 'application/x-ndjson' || kind !== 'application/json') throw new Error('not what the server takes');
      const encoder = new TextEncoder();
      /** @type {ReadableStreamDefaultController<Uint8Array>} */
      let to;
      const body = new ReadableStream({ start: (controller) => { to = controller; } });
      const stream = new Stream('fetch', channels, cursor, (said) => {
        resolve(new Response(body)); // the first octets bring the head with them
        const bytes = encoder.encode(typeof said === 'string' ? said : `${JSON.stringify(said)}\n`);
        // In two pieces, as the network likes it.
        to.enqueue(bytes.slice(0, bytes.length / 2));
        to.enqueue(bytes.slice(bytes.length / 2));
      }, () => {
        reject(new TypeError('NetworkError'));
        to.error(new TypeError('NetworkError'));
      });
      this.streams.push(stream);
      init.signal.addEventListener('abort', () => {
        stream.left = true;
        reject(init.signal.reason);
      });
      if (trouble.fetch === 'down') stream.end();
      else if (trouble.fetch) resolve(new Response(trouble.fetch === 204 ? null : '{"detail":"no"}', { status: trouble.fetch, headers: this.headers }));
    });
  }
}

/** A browser whose tabs share locks, a bus and a memory. */
export class Household {
  tower = new Tower();
  /** @type {Map<string, string>} */
  memory = new Map();
  /** @type {Set<any>} */
  buses = new Set();
  locks = new LockRoom();
  onLine = true;
  /** What its tabs do not have. @type {string[]} */
  without = [];

  open() {
    return new Tab(this);
  }
}

/** Web Locks that are held by one, waited for by many, and may be stolen. */
class LockRoom {
  /** @type {{ go: () => void, lost: (why: unknown) => void }[]} the first holds it */
  #line = [];

  /** @type {(name: string, options: { signal?: AbortSignal, steal?: boolean }, work: () => Promise<unknown>) => Promise<unknown>} */
  request = (_, { signal, steal }, work) => new Promise((resolve, reject) => {
    const one = {
      held: false,
      lost: reject,
      go: () => {
        one.held = true;
        queueMicrotask(() => work().then(resolve, reject).finally(() => leave()));
      },
    };
    const leave = () => {
      const at = this.#line.indexOf(one);
      if (at < 0) return;
      this.#line.splice(at, 1);
      if (at === 0) this.#line[0]?.go();
    };
    if (steal) {
      this.#line.shift()?.lost(new DOMException('stolen', 'AbortError'));
      this.#line.unshift(one);
      return one.go();
    }
    signal?.addEventListener('abort', () => {
      if (one.held) return;
      leave();
      reject(signal.reason);
    });
    if (this.#line.push(one) === 1) one.go();
  });
}

/** A page that is open: a window with all that live.js asks of one. */
export class Tab extends EventTarget {
  /** Its script does not run, though it holds what it held. */
  frozen = false;
  document = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  navigator;
  fetch;
  localStorage;
  /** @type {any} */ EventSource;
  /** @type {any} */ WebSocket;
  /** @type {any} */ BroadcastChannel;

  /** @param {Household} household */
  constructor(household) {
    super();
    const { tower, memory, buses, locks, without } = household;
    const tab = this;
    this.navigator = { get onLine() { return household.onLine; }, ...(!without.includes('locks') && { locks }) };
    this.fetch = tower.fetch;
    this.localStorage = {
      getItem: (/** @type {string} */ key) => memory.get(key) ?? null,
      setItem: (/** @type {string} */ key, /** @type {string} */ value) => memory.set(key, value),
      removeItem: (/** @type {string} */ key) => memory.delete(key),
    };
    this.EventSource = class extends EventTarget {
      /** @param {string} address */
      constructor(address) {
        super();
        const url = new URL(address);
        this.stream = new Stream('sse', url.searchParams.getAll('channel'), url.searchParams.get('last_event_id') ?? '', (said) => {
          if (typeof said === 'string') {
            this.dispatchEvent(new MessageEvent('message', { data: said }));
            return;
          }
          const { event = 'message', ...data } = said;
          const cursor = event === 'ping' ? String(data.cursor) : '';
          if (event === 'ping') delete data.cursor; // it is in the id alone
          this.dispatchEvent(new MessageEvent(String(event), { data: JSON.stringify(data), lastEventId: cursor }));
        }, () => this.dispatchEvent(new Event('error')));
        this.stream.ticket = url.searchParams.get('ticket') ?? '';
        tower.streams.push(this.stream);
        if (tower.trouble.sse) queueMicrotask(() => this.stream.end());
      }
      close() { this.stream.left = true; }
    };
    this.WebSocket = class extends EventTarget {
      /** @param {string} address @param {string} protocol */
      constructor(address, protocol) {
        super();
        if (!address.startsWith('wss://') || protocol !== 'belfry.v1') throw new Error('not what the server takes');
        this.stream = new Stream('websocket', [], '', (said) => {
          this.dispatchEvent(new MessageEvent('message', { data: typeof said === 'string' ? said : JSON.stringify(said) }));
        }, () => this.dispatchEvent(new Event('close')));
        tower.streams.push(this.stream);
        queueMicrotask(() => (tower.trouble.websocket ? this.stream.end() : this.dispatchEvent(new Event('open'))));
      }
      /** @param {string} text */
      send(text) { Object.assign(this.stream, JSON.parse(text)); }
      close() { this.stream.left = true; }
    };
    this.BroadcastChannel = class {
      /** @type {((event: { data: any }) => void) | null} */ onmessage = null;
      tab = tab;
      /** @param {string} name */
      constructor(name) {
        this.name = name;
        buses.add(this);
      }
      /** @param {unknown} data */
      postMessage(data) {
        const copy = structuredClone(data);
        for (const bus of buses) {
          if (bus !== this && bus.name === this.name && !tab.frozen) queueMicrotask(() => buses.has(bus) && !bus.tab.frozen && bus.onmessage?.({ data: copy }));
        }
      }
      close() { buses.delete(this); }
    };
    for (const name of without) delete /** @type {any} */ (this)[name];
  }

  /** @param {'visible' | 'hidden'} state */
  turn(state) {
    this.document.visibilityState = state;
    this.document.dispatchEvent(new Event('visibilitychange'));
  }

  /** Is stopped in the background, as browsers do after a while. */
  freeze() {
    this.turn('hidden');
    this.frozen = true;
  }

  /** Goes into the back/forward cache, or for good. */
  hide() { this.dispatchEvent(new Event('pagehide')); }
  /** Comes back from there. */
  show() { this.dispatchEvent(new Event('pageshow')); }
}
