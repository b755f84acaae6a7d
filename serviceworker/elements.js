// @ts-check
// Two elements to place on a page: <belfry-subscribe>, with which a person turns
// notifications on and off, and <belfry-inbox>, which shows the last messages.
//
//     <script type="module" src="/elements.js"></script>
//     <belfry-subscribe channels="news sport" kind="bell"></belfry-subscribe>
//     <belfry-inbox channels="news sport"></belfry-inbox>
//
// All of a page share one handle of belfry.js, which does the work; here is what is
// seen of it. There is no style or script inline, so a strict policy holds (BR-34).
import { BelfryError, connect, opens, worded } from './belfry.js';

const KEEP_DECLINED = 30 * 24 * 3600_000; // that somebody said "not now" (BR-05)
const SERVER_LIMIT = 10_000; // for the answer with the last messages
const USUAL = 20; // messages in an inbox
const MOST = 50; // that the server gives

/** All that is said, by what it is for. States and codes of errors that are missing are said in belfry.js's own words. */
const ENGLISH = {
  title: 'Notifications',
  question: 'Shall we notify you?',
  promise: 'Your browser will ask you once more. You can stop at any time.',
  choice: 'Notify me about',
  subscribe: 'Notify me',
  again: 'Try again',
  later: 'Not now',
  save: 'Save',
  unsubscribe: 'Stop',
  none: 'Choose at least one.',
  busy: 'One moment…',
  on: 'This browser is notified.',
  inbox: 'Messages',
  unread: '{n} new',
  empty: 'Nothing yet.',
  away: 'Earlier messages could not be loaded.',
};

/** @typedef {Partial<typeof ENGLISH> & Partial<Record<import('./belfry.js').Code | import('./belfry.js').State, string>>} Words */
/** @typedef {NonNullable<Parameters<typeof connect>[0]>} Options */
/** @typedef {import('./belfry.js').LiveEvent} LiveEvent */

/** @type {Map<string, Words>} */
const languages = new Map();

/**
 * Says in another language what the elements say: in those whose `lang`, or that of what they stand in, is this one
 * or one of its regions. What is missing stays English.
 *
 * @param {string} lang such as `de`
 * @param {Words} words
 */
export function translate(lang, words) {
  languages.set(lang.toLowerCase(), words);
  for (const element of placed) element.render();
}

/** @type {Set<Placed>} */
const placed = new Set();

/** @type {{ belfry: import('./belfry.js').Belfry, options: Options } | undefined} */
let common;

/**
 * The handle that all elements of this page share. The first call makes it; a module that imports this one is in
 * time to say how, with options as `connect` takes them. Else the attributes of the first element do: `server`, `worker`, `scope`.
 *
 * @param {Options} [options]
 * @returns {import('./belfry.js').Belfry}
 */
export function shared(options = {}) {
  common ??= { belfry: connect(options), options };
  return common.belfry;
}

// Colours are the browser's own by default, which follow the color-scheme of the page.
const STYLE = `
:host {
  --accent: var(--belfry-accent, CanvasText);
  --on-accent: var(--belfry-on-accent, Canvas);
  --surface: var(--belfry-surface, Canvas);
  --text: var(--belfry-text, CanvasText);
  --border: var(--belfry-border, color-mix(in srgb, currentColor 20%, transparent));
  --radius: var(--belfry-radius, .75rem);
  position: relative; display: inline-block; font-family: var(--belfry-font, inherit); line-height: 1.45; text-align: start;
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
button {
  min-block-size: 2.75rem; padding: .5rem 1.25rem; border: 2px solid var(--accent); border-radius: 2rem;
  background: none; color: var(--accent); font: inherit; font-weight: 600; cursor: pointer;
}
.main { background: var(--accent); color: var(--on-accent); }
[aria-disabled=true] { cursor: progress; opacity: .75; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.row { display: flex; flex-wrap: wrap; gap: .5rem; }
p, fieldset, ol { margin: 0 0 .75rem; padding: 0; border: 0; overflow-wrap: anywhere; }
.panel > :last-child { margin: 0; }
p:empty { margin: 0; }
legend, .title { padding: 0; font-weight: 700; }
label { display: flex; gap: .625rem; padding-block: .5rem; cursor: pointer; }
input { flex: none; inline-size: 1.25rem; block-size: 1.25rem; margin: .0625rem 0 0; accent-color: var(--accent); }
.bell { position: relative; inline-size: 2.75rem; padding: .5rem; border: 0; border-radius: 50%; color: inherit; }
.bell:hover, .bell[aria-expanded=true] { background: color-mix(in srgb, currentColor 12%, transparent); }
svg { display: block; inline-size: 1.5rem; margin: auto; fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linecap: round; stroke-linejoin: round; }
:host([state=on]) .shape { fill: currentColor; }
:host(:not([barred])) .slash { display: none; }
.badge {
  position: absolute; inset-block-start: 0; inset-inline-end: 0; min-inline-size: 1.25rem; padding-inline: .25rem; border-radius: 1rem;
  background: var(--accent); color: var(--on-accent); font-size: .75rem; line-height: 1.25rem; text-align: center;
}
.card { padding: 1rem 1.25rem; border: 1px solid var(--border); border-radius: var(--radius); background: var(--surface); color: var(--text); }
.over {
  position: absolute; z-index: 1000; inset-block-start: calc(100% + .5rem); inset-inline-end: 0;
  inline-size: max-content; max-inline-size: min(22rem, 90vw); min-inline-size: 16rem; max-block-size: 70vh; overflow-y: auto; box-shadow: 0 .5rem 1.5rem #0003;
}
.over.start { inset-inline: 0 auto; }
@media (max-width: 30rem) {
  .over, .over.start { position: fixed; inset: auto 0 0; max-inline-size: none; inline-size: auto; padding-block-end: 1.5rem; border-radius: var(--radius) var(--radius) 0 0; }
}
ol { list-style: none; }
li { padding-block: .625rem; border-block-start: 1px solid var(--border); }
li:first-child { border: 0; }
li p { margin: 0; }
li .title::before { content: ''; display: none; inline-size: .5rem; block-size: .5rem; margin-inline-end: .5rem; border-radius: 50%; background: var(--accent); }
li.new .title::before { display: inline-block; }
a { color: var(--accent); }
time { font-size: .875rem; }
.unseen { position: absolute; inline-size: 1px; block-size: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`;
/** @type {CSSStyleSheet | undefined} one for all */
let sheet;

const BELL = 'M12 3a6 6 0 0 0-6 6c0 4-1.5 5.5-2 7h16c-.5-1.5-2-3-2-7a6 6 0 0 0-6-6z';
const CLAPPER = 'M10 19.5a2 2 0 0 0 4 0';
const LETTER = 'M4 5h16a1 1 0 0 1 1 1v12a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1V6a1 1 0 0 1 1-1z';
const FOLD = 'M3.5 6.5 12 13l8.5-6.5';
const SLASH = 'M4 3l16 18';

/**
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {(Node | string)[]} children
 * @returns {any}
 */
function make(tag, attributes = {}, ...children) {
  const element = ['svg', 'path'].includes(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * What both elements are: a panel, in its place on the page or, with the attribute `kind="bell"`, behind a round button.
 * It can be styled by `--belfry-accent`, `-on-accent`, `-surface`, `-text`, `-border`, `-radius`, `-font`, and by its parts.
 */
class Placed extends HTMLElement {
  /** @type {Words} */ #words = {};
  /** @type {AbortController | undefined} ends with its time on the page */ #gone;
  #title = make('p', { id: 'title', class: 'title', part: 'title' });
  #badge = make('span', { class: 'badge', part: 'badge', 'aria-hidden': 'true', hidden: '' });
  #button = make('button', { id: 'open', class: 'bell', part: 'bell', type: 'button', 'aria-haspopup': 'dialog', 'aria-expanded': 'false', 'aria-controls': 'panel' });
  panel = make('div', { id: 'panel', class: 'panel', part: 'panel', role: 'group', 'aria-labelledby': 'title' });

  /** @param {string[]} icon paths: a shape, and more */
  constructor(...icon) {
    super();
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    const root = this.attachShadow({ mode: 'open' });
    root.adoptedStyleSheets = [sheet];
    this.#button.append(make('svg', { viewBox: '0 0 24 24', 'aria-hidden': 'true' },
      ...icon.map((d) => make('path', { d, class: d === SLASH ? 'slash' : d === icon[0] ? 'shape' : 'line' }))), this.#badge);
    this.#button.addEventListener('click', () => (this.isOpen ? this.close() : this.open()));
    this.panel.append(this.#title);
    root.append(this.#button, this.panel);
  }

  connectedCallback() {
    placed.add(this);
    const gone = this.#gone = new AbortController();
    if (this.isBell) {
      this.panel.setAttribute('role', 'dialog');
      this.panel.setAttribute('tabindex', '0'); // or a keyboard could not scroll it
      this.panel.classList.add('over', 'card');
    }
    this.#button.hidden = this.#title.hidden = !this.isBell;
    this.panel.hidden = this.isBell;
    // Later, so that the module which imports this one can call shared() first.
    queueMicrotask(() => {
      if (gone.signal.aborted) return;
      const given = (/** @type {string} */ name) => this.getAttribute(name) ?? undefined;
      this.start(shared({ server: given('server'), worker: given('worker'), scope: given('scope') }), gone.signal);
      this.render();
    });
    this.addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !this.isBell || !this.isOpen) return;
      event.stopPropagation();
      this.close();
    }, gone);
    // Who goes elsewhere, by pointer or by keyboard, is done with it.
    this.addEventListener('focusout', ({ relatedTarget }) => { if (relatedTarget) this.close(false); }, gone);
    document.addEventListener('pointerdown', (event) => { if (!event.composedPath().includes(this)) this.close(false); }, gone);
  }

  disconnectedCallback() {
    this.#gone?.abort();
    placed.delete(this);
  }

  /** What it says in place of its language's words. @param {Words} words */
  set words(words) {
    this.#words = words;
    this.render();
  }

  get isBell() { return this.getAttribute('kind') === 'bell'; }
  get isOpen() { return !this.panel.hidden; }

  /** The channels that the attribute names. @returns {string[]} */
  get channels() { return this.getAttribute('channels')?.split(/[\s,]+/).filter(Boolean) ?? []; }

  /** The language in which it stands; empty for the browser's own. @returns {string} */
  get language() { return this.closest('[lang]')?.getAttribute('lang') ?? ''; }

  /**
   * @param {keyof Words} key
   * @returns {string | undefined}
   */
  say(key) {
    const lang = this.language.toLowerCase();
    const all = [this.#words, languages.get(lang), languages.get(lang.split('-')[0]), /** @type {Words} */ (ENGLISH)];
    return all.find((words) => words?.[key] !== undefined)?.[key];
  }

  /** Opens the panel of a bell. @param {boolean} [focus] takes the keyboard there */
  open(focus = true) {
    if (!this.isBell) return;
    this.panel.hidden = false;
    this.#button.setAttribute('aria-expanded', 'true');
    const { left, width } = this.getBoundingClientRect();
    const right = left + width / 2 > innerWidth / 2;
    this.panel.classList.toggle('start', right === (getComputedStyle(this).direction === 'rtl'));
    if (focus) this.panel.focus();
    this.render();
  }

  /** @param {boolean} [focus] takes the keyboard back to the bell */
  close(focus = true) {
    if (!this.isBell || !this.isOpen) return;
    this.panel.hidden = true;
    this.#button.setAttribute('aria-expanded', 'false');
    if (focus) this.#button.focus();
    this.render();
  }

  /**
   * @param {string} title
   * @param {string} label of the button
   * @param {string} [badge]
   */
  head(title, label, badge = '') {
    this.#title.textContent = title;
    this.#button.setAttribute('aria-label', label);
    this.#badge.textContent = badge;
    this.#badge.hidden = !badge;
  }

  /**
   * @param {import('./belfry.js').Belfry} _belfry
   * @param {AbortSignal} _signal
   */
  start(_belfry, _signal) {}
  render() {}
}

/**
 * `<belfry-subscribe channels="news sport">`: a button, or with `kind="bell"` a bell, for all that a registration can
 * be. Attributes: `channels` to choose from, `chosen` for those that are chosen at first (all by default), `prompt` to ask on the page by itself.
 * `<data value="news">News from us</data>` inside says what a channel is called.
 */
export class BelfrySubscribe extends Placed {
  /** @type {import('./belfry.js').Belfry | undefined} */ #belfry;
  #busy = false;
  #asks = false;
  #trouble = '';
  #known = '';
  /** @type {HTMLInputElement[]} */ #boxes = [];
  #question = make('p', { class: 'title', part: 'question' });
  #legend = make('legend', { part: 'legend' });
  #choice = make('fieldset', { part: 'choice' }, this.#legend);
  #note = make('p', { id: 'note', part: 'note', role: 'status' });
  #subscribe = this.#button('subscribe', () => this.#change((belfry, channels) => belfry.subscribe(channels)), 'main');
  #save = this.#button('save', () => this.#change((belfry, channels) => belfry.setChannels(channels)), 'main');
  #unsubscribe = this.#button('unsubscribe', () => this.#work((belfry) => belfry.unsubscribe()));
  #later = this.#button('later', () => {
    this.#decline();
    this.close();
  });
  #buttons = [this.#subscribe, this.#save, this.#unsubscribe, this.#later];

  constructor() {
    super(BELL, CLAPPER, SLASH);
    this.panel.append(this.#question, this.#choice, this.#note, make('div', { class: 'row' }, ...this.#buttons));
  }

  /**
   * @param {'subscribe' | 'save' | 'unsubscribe' | 'later'} id
   * @param {() => void} onClick
   * @param {string} [kind]
   */
  #button(id, onClick, kind = '') {
    const button = make('button', { id, class: kind, part: `button ${id}`, type: 'button' });
    button.addEventListener('click', onClick);
    return button;
  }

  /**
   * @param {import('./belfry.js').Belfry} belfry
   * @param {AbortSignal} signal
   */
  start(belfry, signal) {
    this.#belfry = belfry;
    const chosen = this.getAttribute('chosen')?.split(/[\s,]+/);
    this.#boxes = this.channels.map((value) => Object.assign(make('input', { type: 'checkbox', value }), { checked: chosen?.includes(value) ?? true }));
    this.#choice.replaceChildren(this.#legend, ...this.#boxes.map((box) => {
      const named = [...this.querySelectorAll('data')].find(({ value }) => value === box.value);
      return make('label', { part: 'channel' }, box, named?.textContent || box.value);
    }));
    belfry.addEventListener('state', () => {
      const known = belfry.channels.join(' ');
      if (belfry.device && known !== this.#known) for (const box of this.#boxes) box.checked = belfry.channels.includes(box.value);
      this.#known = known;
      if (this.hasAttribute('prompt')) this.ask();
      this.render();
    }, { signal });
  }

  /**
   * Asks, on the page and not yet by the browser, where this browser could be registered and is not, and where nobody
   * said "not now" in the last 30 days. Call it at a good moment; with the attribute `prompt` it does so by itself.
   */
  ask() {
    if (this.#belfry?.state !== 'off' || declinedLately()) return;
    this.#asks = true;
    this.open(false);
    this.render();
  }

  /** To turn away from a bell that asks is a "not now", too. @param {boolean} [focus] */
  close(focus) {
    if (this.isBell && this.isOpen) this.#decline();
    super.close(focus);
  }

  #decline() {
    if (this.#asks) keep(DECLINED, String(Date.now()));
    this.#asks = false;
    this.render();
  }

  /** @param {(belfry: import('./belfry.js').Belfry, channels: string[]) => Promise<void>} work */
  #change(work) {
    const offered = this.channels;
    const chosen = this.#boxes.filter(({ checked }) => checked).map(({ value }) => value);
    this.#work((belfry) => {
      if (offered.length > 0 && chosen.length === 0) throw new Error(this.say('none'));
      // What it is registered for and this element does not offer is not this element's to end.
      return work(belfry, [...belfry.channels.filter((name) => !offered.includes(name)), ...chosen]);
    });
  }

  /** @param {(belfry: import('./belfry.js').Belfry) => Promise<void>} work is called at once, while the click is fresh */
  async #work(work) {
    if (this.#busy || !this.#belfry) return;
    this.#busy = true;
    this.#trouble = '';
    try {
      const done = work(this.#belfry);
      this.render();
      await done;
      this.#asks = false;
    } catch (err) {
      const { message } = /** @type {Error} */ (err);
      this.#trouble = err instanceof BelfryError ? this.say(err.code) ?? `${message} ${err.hint}` : message;
    }
    this.#busy = false;
    this.render();
  }

  render() {
    const { state = 'off', reason = '' } = this.#belfry ?? {};
    const can = ['off', 'dismissed', 'on', 'stale'].includes(state);
    const asks = this.#asks && state === 'off';
    const standing = this.say(state) ?? reason;
    const had = this.shadowRoot?.activeElement;
    this.setAttribute('state', state);
    this.toggleAttribute('barred', !can);
    this.toggleAttribute('busy', this.#busy);

    this.head(this.say('title') ?? '', [this.say('title'), standing].filter(Boolean).join(': '));
    if (!this.isBell) this.panel.classList.toggle('card', asks);
    this.#question.hidden = !asks;
    this.#choice.hidden = !can || this.#boxes.length < 2;
    this.#subscribe.hidden = !can || state === 'on';
    this.#save.hidden = state !== 'on' || this.#boxes.length < 2;
    this.#unsubscribe.hidden = state !== 'on' && state !== 'stale';
    this.#later.hidden = !asks;
    for (const button of this.#buttons) {
      button.setAttribute('aria-disabled', String(this.#busy));
      button.textContent = this.say(button === this.#subscribe && state !== 'off' ? 'again' : button.id);
    }
    this.#question.textContent = this.say('question');
    this.#legend.textContent = this.say('choice');
    const note = this.#busy ? this.say('busy') : this.#trouble || standing || (asks || this.isBell ? this.say('promise') : '');
    if (this.#note.textContent !== note) this.#note.textContent = note; // it is read out when it changes
    // Who uses a keyboard goes on at the next button where theirs is gone.
    if (had?.matches('button') && /** @type {HTMLElement} */ (had).hidden) this.#buttons.find(({ hidden }) => !hidden)?.focus();
  }
}

/**
 * `<belfry-inbox channels="news sport">`: the last messages, from the newest on. Attributes: `channels`, `max` (20 by
 * default, at most 50), `kind="bell"` for a button that says how many are new. Which are is known to this browser alone.
 */
export class BelfryInbox extends Placed {
  /** @type {Map<string, LiveEvent>} */ #events = new Map();
  /** @type {Map<string, LiveEvent>} what came since the server was asked */ #fresh = new Map();
  #hears = false;
  #whole = false; // it was asked for when what comes was heard already, so nothing lies between
  #away = false;
  #read = ''; // all up to this time are
  #before = ''; // the same when it was opened
  /** @type {Map<string, HTMLElement>} by their messages' ids, so that one who reads keeps their place */ #lines = new Map();
  #list = make('ol', { part: 'list' });
  #note = make('p', { part: 'note' });
  #count = make('p', { class: 'unseen', role: 'status' });

  constructor() {
    super(LETTER, FOLD);
    this.panel.append(this.#list, this.#note);
    this.shadowRoot?.append(this.#count);
  }

  /**
   * @param {import('./belfry.js').Belfry} belfry
   * @param {AbortSignal} signal
   */
  start(belfry, signal) {
    this.#read = this.#before = kept(this.#key);
    this.#hears = this.#whole = false;
    const load = () => this.#load(signal);
    const hears = (/** @type {boolean} */ yes) => {
      this.#hears = yes;
      if (yes && !this.#whole) load();
    };
    signal.addEventListener('abort', belfry.listen(this.channels, (event) => {
      hears(true);
      this.#take(event);
    }, { onReset: load }));
    belfry.addEventListener('transport', (event) => hears(/** @type {CustomEvent} */ (event).detail.transport !== ''), { signal });
    // Somebody may have signed in or out: what was for the one before is not for the next.
    belfry.addEventListener('state', () => {
      if (!common?.options.userToken) return;
      this.#list.replaceChildren();
      this.#events = new Map();
      load();
    }, { signal });
    addEventListener('storage', ({ key, newValue }) => { if (key === this.#key) this.#see(newValue ?? ''); }, { signal });
    document.addEventListener('visibilitychange', () => this.render(), { signal });
    load();
  }

  get #key() { return `belfry.read ${this.channels.join(' ')}`; }

  /** @param {AbortSignal} signal */
  async #load(signal) {
    /** @type {Map<string, LiveEvent>} */
    const fresh = this.#fresh = new Map();
    const hears = this.#hears;
    let events = [];
    try {
      const { server = home(), userToken } = common?.options ?? {};
      const token = await Promise.race([userToken?.(), new Promise((_, no) => setTimeout(no, SERVER_LIMIT))]);
      const channels = this.channels.filter((name) => !name.startsWith('private-') || opens(token).includes(name));
      const query = new URLSearchParams([...channels.map((name) => ['channel', name]), ['last', String(this.#max)]]);
      const answer = await fetch(`${new URL(server, document.baseURI).href.replace(/\/+$/, '')}/v1/poll?${query}`, { credentials: 'omit', cache: 'no-store',
        headers: token ? { Authorization: `Bearer ${token}` } : {}, signal: AbortSignal.timeout(SERVER_LIMIT) });
      this.#away = !answer.ok;
      if (answer.ok) events = (await answer.json()).messages;
    } catch {
      this.#away = true;
    }
    if (signal.aborted || fresh !== this.#fresh) return; // it was asked again meanwhile
    if (!this.#away) this.#events = new Map();
    for (const event of [...events, ...fresh.values()]) this.#events.set(event.id, event);
    this.#whole = hears && !this.#away;
    // Nobody who comes for the first time is told that all of it is new.
    if (!this.#away && !this.#read) this.#see(this.#sorted[0]?.time ?? new Date().toISOString());
    this.render();
  }

  /** @param {LiveEvent} event */
  #take(event) {
    this.#fresh.set(event.id, event);
    this.#events.set(event.id, event);
    this.render();
  }

  /** @param {string} time */
  #see(time) {
    if (time <= this.#read) return;
    this.#read = time;
    keep(this.#key, time);
    this.render();
  }

  get #max() { return Math.min(MOST, Math.max(1, Number(this.getAttribute('max')) || USUAL)); }

  /** From the newest on, as many as there is room for. @returns {LiveEvent[]} */
  get #sorted() { return [...this.#events.values()].sort((a, b) => (a.time + a.id < b.time + b.id ? 1 : -1)).slice(0, this.#max); }

  open(focus = true) {
    this.#before = this.#read;
    super.open(focus);
  }

  render() {
    const events = this.#sorted;
    this.#events = new Map(events.map((event) => [event.id, event]));
    const n = events.filter(({ time }) => time > this.#read).length; // that nobody has seen here yet
    const title = this.say('inbox') ?? '';
    const unread = n > 0 ? (this.say('unread') ?? '').replace('{n}', String(n)) : '';
    this.setAttribute('unread', String(n));
    this.head(title, [title, unread].filter(Boolean).join(': '), n > 0 ? String(n) : '');
    if (this.#count.textContent !== unread) this.#count.textContent = unread;
    this.#list.hidden = events.length === 0;
    const had = /** @type {HTMLElement | null | undefined} */ (this.shadowRoot?.activeElement);
    const lines = events.map((event) => this.#line(event));
    if (lines.some((line, i) => line !== this.#list.children[i])) this.#list.replaceChildren(...lines);
    if (had?.isConnected) had.focus(); // on a link that has a new place
    this.#note.textContent = this.#away ? this.say('away') : events.length > 0 ? '' : this.say('empty');
    if (n > 0 && this.isOpen && document.visibilityState === 'visible') this.#see(events[0].time);
  }

  /**
   * One message. All that its publisher wrote is text (SEC-30).
   *
   * @param {LiveEvent} event
   */
  #line({ id, time, message }) {
    const { title, body = '', url } = worded(message, this.language || undefined);
    const href = linkTo(url);
    const line = this.#lines.get(id) ?? make('li', { part: 'message' },
      make('p', { class: 'title', dir: 'auto' }, href ? make('a', { href, part: 'link' }, title) : title), make('p', { dir: 'auto' }, body),
      make('time', { datetime: time }, said(time, this.language)));
    this.#lines.set(id, line);
    line.className = time > this.#before ? 'new' : '';
    return line;
  }
}

/** @returns {string} the server that this file came from */
function home() {
  return new URL('.', import.meta.url).href;
}

/**
 * Where a message leads: to a page of this very site, or nowhere (SEC-31).
 *
 * @param {unknown} url
 * @returns {string}
 */
function linkTo(url) {
  if (typeof url !== 'string' || !URL.canParse(url, document.baseURI)) return '';
  const { origin, username, password, href } = new URL(url, document.baseURI);
  return origin === location.origin && /^https?:/.test(href) && !username && !password ? href : '';
}

/**
 * @param {string} time
 * @param {string} language
 * @returns {string}
 */
function said(time, language) {
  /** @type {Intl.DateTimeFormatOptions} */
  const style = { dateStyle: 'medium', timeStyle: 'short' };
  try {
    return new Date(time).toLocaleString(language || undefined, style);
  } catch {
    return new Date(time).toLocaleString(undefined, style); // no language is called that
  }
}

const DECLINED = 'belfry.declined';

/** @returns {boolean} */
function declinedLately() {
  const ago = Date.now() - Number(kept(DECLINED));
  return ago >= 0 && ago < KEEP_DECLINED;
}

/** @param {string} key @returns {string} */
function kept(key) {
  try {
    return localStorage.getItem(key) ?? '';
  } catch {
    return '';
  }
}

/** @param {string} key @param {string} value */
function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Then it is known as long as the page is open.
  }
}

customElements.define('belfry-subscribe', BelfrySubscribe);
customElements.define('belfry-inbox', BelfryInbox);
