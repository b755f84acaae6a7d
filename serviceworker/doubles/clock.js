// Time for tests: nobody sleeps. Timers and Date are the test's, and time goes
// on only when all that could be done now has been done.
import { setImmediate } from 'node:timers/promises';
import { createHash } from 'node:crypto';

/** @typedef {import('node:test').TestContext} TestContext */

/**
 * Stops the clock for a test. Hashing is done at once, since a thread pool keeps no one's time.
 *
 * @param {TestContext} t
 */
export function stopClock(t) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: Date.parse('2030-01-01T00:00:00Z') });
  t.mock.method(crypto.subtle, 'digest', async (/** @type {string} */ _, /** @type {Uint8Array} */ data) =>
    Uint8Array.from(createHash('sha256').update(data).digest()).buffer);
}

/**
 * Lets time pass until work is done, and returns how many milliseconds it took.
 * If work fails, so does this.
 *
 * @param {TestContext} t
 * @param {Promise<unknown>} work
 * @param {number} [limit]
 * @returns {Promise<number>}
 */
export async function elapsed(t, work, limit = 200_000) {
  const start = Date.now();
  let done = false;
  work.then(() => { done = true; }, () => { done = true; });
  for (;;) {
    await setImmediate();
    if (done) return work.then(() => Date.now() - start);
    if (Date.now() - start >= limit) throw new Error(`not done after ${limit} ms`);
    t.mock.timers.tick(100);
  }
}

/**
 * Lets everything happen that needs no time.
 *
 * @returns {Promise<void>}
 */
export async function settled() {
  await setImmediate();
  await setImmediate();
}
