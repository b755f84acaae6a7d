// A Server is Belfry's public front door, in memory: it keeps rows, and knows
// devices by their secrets. Its fetch takes the place of the browser's.
import { createECDH } from 'node:crypto';

/** @typedef {{ id: string, secret: string, endpoint: string, keyId: string, channels: string[], body: any }} Row */

export class Server {
  /** @type {Map<string, Row>} by id */
  rows = new Map();
  /** @type {{ method: string, path: string, authorization: string | null, user: string | null, body: any, url: string }[]} */
  calls = [];
  /** @type {any[]} what was told of messages, each time */
  receipts = [];
  /** The kinds of receipts that are wanted. @type {string[] | undefined} */
  wanted;
  /** No connection at all. */
  down = false;
  /** Takes the call and never answers. */
  hangs = false;
  /** @type {{ method: string, answer: () => Response }[]} */
  #script = [];
  keyId = 'first';
  key = newKey();
  #n = 0;

  /** Takes a new key pair, as an operator does who rotates. */
  rotate() {
    this.keyId = `${this.keyId}-next`;
    this.key = newKey();
  }

  /**
   * Answers the next call of method so, instead of as it would.
   *
   * @param {string} method
   * @param {number} status
   * @param {unknown} [body]
   * @param {Record<string, string>} [headers]
   */
  answer(method, status, body, headers = {}) {
    this.#script.push({ method, answer: () => new Response(body === undefined ? null : JSON.stringify(body), { status, headers }) });
  }

  /** @type {(input: any, init?: any) => Promise<Response>} */
  fetch = async (input, init = {}) => {
    const url = new URL(input);
    const method = init.method ?? 'GET';
    const authorization = new Headers(init.headers).get('Authorization');
    const body = init.body ? JSON.parse(init.body) : undefined;
    const user = new Headers(init.headers).get('Belfry-User');
    this.calls.push({ method, path: url.pathname, authorization, user, body, url: url.href });
    if (this.down) throw new TypeError('NetworkError when attempting to fetch resource.');
    if (this.hangs) return new Promise(() => {});
    const at = this.#script.findIndex((line) => line.method === method);
    if (at >= 0) return this.#script.splice(at, 1)[0].answer();
    if (url.pathname.endsWith('/v1/config')) return json(200, { vapidPublicKey: this.key, keyId: this.keyId, receipts: this.wanted });
    if (url.pathname.endsWith('/v1/receipts')) return this.#receive(body);
    if (method === 'POST') return this.#register(body, authorization);
    return this.#row(method, /** @type {string} */ (url.pathname.split('/').at(-1)), authorization, body);
  };

  /** @param {any} body */
  #receive(body) {
    if (!body.link && this.rows.get(body.device)?.secret !== body.secret) return problem(401, 'unknown-device', 'no such device');
    if (!body.link && !(body.receipts.length >= 1 && body.receipts.length <= 50)) return problem(400, 'receipts', 'must be 1 to 50');
    this.receipts.push(body);
    return new Response(null, { status: 204 });
  }

  /**
   * @param {any} body
   * @param {string | null} authorization
   */
  #register(body, authorization) {
    const { endpoint } = body.subscription;
    const known = [...this.rows.values()].find((row) => row.endpoint === endpoint);
    if (known && authorization !== `Device ${known.secret}`) return problem(409, 'known-endpoint', 'another device has this endpoint');
    if (known) return json(200, { id: known.id, channels: (known.channels = body.channels) });
    const row = { id: `device${++this.#n}`, secret: `secret-${this.#n}`, endpoint, keyId: body.keyId, channels: body.channels, body };
    this.rows.set(row.id, row);
    return json(201, { id: row.id, secret: row.secret, channels: row.channels });
  }

  /**
   * @param {string} method
   * @param {string} id
   * @param {string | null} authorization
   * @param {any} body
   */
  #row(method, id, authorization, body) {
    const row = this.rows.get(id);
    if (!row || authorization !== `Device ${row.secret}`) return problem(401, 'unknown-device', 'no such device');
    if (method === 'DELETE') {
      this.rows.delete(id);
      return new Response(null, { status: 204 });
    }
    row.endpoint = body.subscription?.endpoint ?? row.endpoint;
    row.keyId = body.keyId ?? row.keyId;
    row.channels = body.channels ?? row.channels;
    row.body = { ...row.body, ...body };
    return json(200, { id, channels: row.channels });
  }
}

/** @returns {string} a VAPID public key in base64url */
export function newKey() {
  return createECDH('prime256v1').generateKeys('base64url');
}

/**
 * @param {number} status
 * @param {unknown} body
 */
function json(status, body) {
  return new Response(JSON.stringify(body), { status, headers: { 'Content-Type': 'application/json' } });
}

/**
 * @param {number} status
 * @param {string} code
 * @param {string} detail
 */
function problem(status, code, detail) {
  return new Response(JSON.stringify({ type: 'about:blank', title: 'No', status, detail, code }), { status, headers: { 'Content-Type': 'application/problem+json' } });
}
