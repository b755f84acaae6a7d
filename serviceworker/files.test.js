// What holds the shipped files together.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const read = (/** @type {string} */ name) => readFileSync(join(here, name), 'utf8');

/**
 * The lines from the mark to the end, without indentation.
 *
 * @param {string} name
 * @param {string} end
 */
function shared(name, end) {
  const text = read(name);
  const start = text.indexOf('From here to the');
  assert.notEqual(start, -1, `${name} has no shared part`);
  const stop = end === '' ? text.length : text.indexOf(end, start);
  return text.slice(start, stop).split('\n').slice(3).map((line) => line.trim()).join('\n').trim();
}

// The page writes the device, the worker reads it. If one of them opens the
// database in its own way, browsers lose their registration, and silently.
test('page and worker have their store, lock, hash and key comparison in common', () => {
  const inWorker = shared('sw.js', '  const worker = ');
  assert.ok(inWorker.includes("factory.open('belfry', 1)") && inWorker.includes('function sameKey('));
  assert.equal(shared('belfry.js', ''), inWorker);
});

// Types that are older than the code tell a site's programmer what is not so.
test('the types in kit are what tsc makes of the sources (else: make kit)', () => {
  const out = mkdtempSync(join(tmpdir(), 'belfry-types-'));
  try {
    const tsc = join(here, 'node_modules', '.bin', 'tsc');
    execFileSync(tsc, ['-p', join(here, 'tsconfig.types.json'), '--outDir', out], { stdio: 'pipe' });
    const types = (/** @type {string} */ folder) => readdirSync(folder).filter((name) => name.endsWith('.d.ts')).map((name) => [name, readFileSync(join(folder, name), 'utf8')]);
    assert.deepEqual(types(join(here, 'kit')), types(out));
  } catch (err) {
    if (/** @type {NodeJS.ErrnoException} */ (err).code === 'ENOENT') throw new Error('typescript is missing: run npm ci', { cause: err });
    throw err;
  } finally {
    rmSync(out, { recursive: true });
  }
});

// Browsers ask only within a click, and a person who is asked without one says
// no for good: one place asks, and only subscribe() leads there (BR-05).
test('the permission is asked for in one place only', () => {
  const code = read('belfry.js').replace(/\/\*[\s\S]*?\*\//g, '');
  assert.equal(code.match(/requestPermission\(/g)?.length, 1);
  assert.equal(code.match(/this\.#permission\(/g)?.length, 1);
  assert.match(code, /async subscribe\([^)]*\) \{\n[^\n]*\n\s+await this\.#permission\(\)/);
  for (const name of ['sw.js', 'elements.js']) assert.doesNotMatch(read(name), /requestPermission/);
});
