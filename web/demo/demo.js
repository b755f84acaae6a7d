// @ts-check
// The demo page: the elements do what a site needs; here is what they do not show.
import { shared } from '/elements.js';

const belfry = shared();
const CHANNELS = ['news', 'offers', 'maintenance'];

/** What the states mean to a person; the element says more where there is a way out. */
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

/** Shows where the registration stands. */
function render() {
  const { state, device, channels } = belfry;
  const registered = device !== null && (state === 'on' || state === 'stale');
  const word = document.createElement('b');
  word.textContent = state;
  byId('state').replaceChildren(word, `: ${WORDS[state]}`);
  document.body.dataset.state = state;
  byId('ring').hidden = !registered;
  if (!registered) return;
  byId('audience').textContent = channels.length > 0 ? `--channel ${channels[0]}` : '--all';
  byId('device').textContent = device;
}

const MOST = 10; // messages on the page

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

belfry.addEventListener('state', render);
belfry.addEventListener('transport', (event) => {
  const { transport, reason } = /** @type {CustomEvent} */ (event).detail;
  byId('transport').textContent = TRANSPORTS[transport] ?? `Not connected. ${reason ?? ''}`;
});
belfry.listen(CHANNELS, show, { onReset: () => note('Some messages were missed.') });
if (document.getElementById('chat')) openChat(); // where the server runs with --demo-chat
