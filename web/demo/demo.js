// @ts-check
// The demo page: everything a site does with the kit, in one file.
import { BelfryError, connect } from '/belfry.js';

const belfry = connect();

/** What the states mean to a person; the kit's own reason says more where there is a way out. */
const WORDS = {
  unsupported: 'not possible in this browser.',
  insecure: 'not possible over this connection.',
  'needs-install': 'possible after one more step.',
  'private-mode': 'not possible in a private window.',
  denied: 'blocked in the browser.',
  dismissed: 'no answer yet.',
  off: 'this browser is not registered.',
  on: 'this browser is registered and can be rung.',
  stale: 'registered, but something needs repair.',
};

/** How messages come to this page, for a person. @type {Record<string, string>} */
const TRANSPORTS = {
  sse: 'Connected by server-sent events.',
  fetch: 'Connected by a stream of lines.',
  websocket: 'Connected by WebSocket.',
  'long-poll': 'Connected by polls that wait.',
  'short-poll': 'Connected by polls every few seconds.',
};

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @returns {T}
 */
const byId = (id) => /** @type {T} */ (document.getElementById(id));
/** @type {HTMLInputElement[]} */
const boxes = [...byId('choice').querySelectorAll('input')];
/** @type {HTMLButtonElement[]} */
const buttons = [...byId('choice').querySelectorAll('button')];
const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);
let waiting = 0; // clicks whose work is not done yet; the kit does them one after another

/** Shows where the registration stands. */
function render() {
  const { state, reason, device, channels } = belfry;
  const registered = device !== null && (state === 'on' || state === 'stale');
  const word = document.createElement('b');
  word.textContent = state;
  byId('state').replaceChildren(word, `: ${WORDS[state]} ${reason} ${waiting > 0 ? 'One moment…' : ''}`);
  document.body.dataset.state = state;

  byId('subscribe').hidden = registered || ['unsupported', 'insecure', 'needs-install', 'private-mode'].includes(state);
  byId('save').hidden = !registered;
  byId('unsubscribe').hidden = !registered;
  byId('ring').hidden = !registered;
  if (!registered) return;
  byId('audience').textContent = channels.length > 0 ? `--channel ${channels[0]}` : '--all';
  byId('device').textContent = device;
}

/**
 * Does what a button asks for, and says in words what went wrong.
 *
 * @param {string} id
 * @param {() => Promise<void>} work called at once, while the click is fresh
 */
function onClick(id, work) {
  byId(id).addEventListener('click', async () => {
    const done = work();
    byId('trouble').hidden = true;
    waiting++;
    render();
    try {
      await done;
    } catch (err) {
      byId('trouble').textContent = err instanceof BelfryError ? `${err.message} ${err.hint}` : String(err);
      byId('trouble').hidden = false;
    }
    waiting--;
    render();
    // The button may be gone; whoever uses a keyboard goes on at the next one.
    if (document.activeElement === document.body) buttons.find((button) => !button.hidden)?.focus({ preventScroll: true });
  });
}

const MOST = 10; // messages on the page
let stop = () => {};

/** Listens to the channels that are chosen now. */
function listen() {
  const before = stop; // ends last, so that the connection stays
  stop = belfry.listen(chosen(), show, { onReset: () => note('Some messages were missed.') });
  before();
}

/** @param {import('/belfry.js').LiveEvent} event */
function show({ message: { title, body }, time }) {
  note(body ? `: ${body}` : '', title, new Date(time).toLocaleTimeString());
}

/**
 * Puts a line on top of what was heard. All of it is text: an operator's title may look like HTML.
 *
 * @param {string} words
 * @param {string} [title]
 * @param {string} [when]
 */
function note(words, title = '', when = '') {
  const line = document.createElement('li');
  const strong = document.createElement('b');
  strong.textContent = title;
  const time = document.createElement('small');
  time.textContent = when;
  line.append(strong, words, ' ', time);
  byId('heard').prepend(line);
  while (byId('heard').childElementCount > MOST) byId('heard').lastElementChild?.remove();
}

const MOST_LINES = 50; // of the chat

/** Shows what is written in any window, the newest last, and sends what is written in this one. */
function openChat() {
  const lines = byId('lines');
  belfry.listen(['demo-chat'], ({ message: { body }, time }) => {
    const line = document.createElement('li');
    const when = document.createElement('small');
    when.textContent = new Date(time).toLocaleTimeString();
    line.append(body ?? '', ' ', when); // text: a stranger wrote it
    lines.append(line);
    while (lines.childElementCount > MOST_LINES) lines.firstElementChild?.remove();
    lines.scrollTop = lines.scrollHeight;
  });
  byId('write').addEventListener('submit', (event) => {
    event.preventDefault();
    write();
  });
}

/** Sends the line of this window, which is gone from its field once the server has it. */
async function write() {
  const field = /** @type {HTMLInputElement} */ (byId('line'));
  const text = field.value;
  let trouble = '';
  try {
    const answer = await fetch('/demo/chat', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ text }) });
    if (!answer.ok) trouble = (await answer.json()).detail;
    else if (field.value === text) field.value = '';
  } catch {
    trouble = 'The server does not answer.';
  }
  byId('unsaid').textContent = trouble;
  byId('unsaid').hidden = trouble === '';
}

belfry.addEventListener('state', () => {
  render();
  if (belfry.device === null) return;
  for (const box of boxes) box.checked = belfry.channels.includes(box.value);
  listen();
});
belfry.addEventListener('transport', (event) => {
  const { transport, reason } = /** @type {CustomEvent} */ (event).detail;
  byId('transport').textContent = TRANSPORTS[transport] ?? `Not connected. ${reason ?? ''}`;
});
for (const box of boxes) box.addEventListener('change', listen);
listen();
if (document.getElementById('chat')) openChat(); // where the server runs with --demo-chat
onClick('subscribe', () => belfry.subscribe(chosen()));
onClick('save', () => belfry.setChannels(chosen()));
onClick('unsubscribe', () => belfry.unsubscribe());
