// As much of a document as elements.js asks for: nodes that hold attributes, text
// and each other, and elements that a page defines. It draws nothing and knows no
// HTML, so what becomes markup somewhere would throw here.

/** @typedef {import('node:test').TestContext} TestContext */

/** @param {string} name @returns {string} */
const reflected = (name) => ({ className: 'class', htmlFor: 'for' }[name] ?? name);

export class Element extends EventTarget {
  /** @type {Map<string, string>} */
  #attributes = new Map();
  /** @type {(Element | string)[]} */
  #nodes = [];
  /** @type {Element | null} */
  parent = null;
  /** @type {Element | null} */
  shadowRoot = null;
  /** @type {Element | null} what has the keyboard, in a shadow root */
  activeElement = null;
  checked = false;

  /** @param {string} [tag] */
  constructor(tag = '') {
    super();
    this.tag = tag;
    for (const name of ['id', 'className', 'value']) {
      Object.defineProperty(this, name, { get: () => this.getAttribute(reflected(name)) ?? '', set: (value) => this.setAttribute(reflected(name), value) });
    }
    Object.defineProperty(this, 'hidden', { get: () => this.hasAttribute('hidden'), set: (value) => this.toggleAttribute('hidden', value) });
  }

  /** @param {string} name */
  getAttribute(name) { return this.#attributes.get(name) ?? null; }
  /** @param {string} name */
  hasAttribute(name) { return this.#attributes.has(name); }
  /** @param {string} name @param {unknown} value */
  setAttribute(name, value) { this.#attributes.set(name, String(value)); }
  /** @param {string} name @param {boolean} on */
  toggleAttribute(name, on) {
    if (on) this.#attributes.set(name, '');
    else this.#attributes.delete(name);
  }

  get classList() {
    const all = new Set((this.getAttribute('class') ?? '').split(' ').filter(Boolean));
    const keep = () => this.setAttribute('class', [...all].join(' '));
    return {
      contains: (/** @type {string} */ name) => all.has(name),
      add: (/** @type {string[]} */ ...names) => { for (const name of names) all.add(name); keep(); },
      toggle: (/** @type {string} */ name, /** @type {boolean} */ on) => { all[on ? 'add' : 'delete'](name); keep(); },
    };
  }

  get children() { return /** @type {Element[]} */ (this.#nodes.filter((node) => typeof node !== 'string')); }
  /** @returns {string} */
  get textContent() { return this.#nodes.map((node) => (typeof node === 'string' ? node : node.textContent)).join(''); }
  set textContent(text) { this.#nodes = text ? [text] : []; }
  /** @param {(Element | string)[]} nodes */
  append(...nodes) {
    for (const node of nodes) if (typeof node !== 'string') node.parent = this;
    this.#nodes.push(...nodes);
  }
  /** @param {(Element | string)[]} nodes */
  replaceChildren(...nodes) {
    this.#nodes = [];
    this.append(...nodes);
  }

  /** @param {string} selector a tag, or an attribute in brackets */
  matches(selector) { return selector.startsWith('[') ? this.hasAttribute(selector.slice(1, -1)) : this.tag === selector; }
  /** @param {string} selector @returns {Element | null} */
  closest(selector) { return this.matches(selector) ? this : this.parent?.closest(selector) ?? null; }
  /** @returns {Element[]} */
  get all() { return this.children.flatMap((child) => [child, ...child.all]); }
  /** @param {string} tag */
  querySelectorAll(tag) { return this.all.filter((one) => one.tag === tag); }
  get isConnected() { return true; }
  get root() {
    /** @type {Element} */
    let top = this;
    while (top.parent) top = top.parent;
    return top;
  }

  attachShadow() { return (this.shadowRoot = new Element('shadow')); }
  getBoundingClientRect() { return { left: 900, width: 44 }; }
  focus() { this.root.activeElement = this; }
  click() {
    this.focus();
    this.dispatchEvent(new Event('click'));
  }
}

/**
 * Gives a test a document in addition to what its Browser has, until it is over.
 *
 * @param {TestContext} t
 * @returns {Map<string, any>} the elements that are defined, by their names
 */
export function openDocument(t) {
  const defined = new Map();
  const globals = {
    HTMLElement: Element,
    customElements: { define: (/** @type {string} */ name, /** @type {any} */ of) => defined.set(name, of) },
    CSSStyleSheet: class { replaceSync() {} },
    location: new URL('https://app.example/some/page'),
    innerWidth: 1000,
    getComputedStyle: () => ({ direction: 'ltr' }),
  };
  for (const [name, value] of Object.entries(globals)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
    t.after(() => { delete /** @type {any} */ (globalThis)[name]; });
  }
  const make = (/** @type {string} */ tag) => new Element(tag);
  Object.assign(document, { createElement: make, createElementNS: (/** @type {string} */ _, /** @type {string} */ tag) => make(tag) });
  return defined;
}
