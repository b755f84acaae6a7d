// What other people's libraries do, for the tests beside this file. One verb a
// run: `node others.mjs VERB` reads JSON from standard input and writes JSON to
// standard output. Octets travel as base64, as encoding/json writes them.
import { createECDH, randomBytes } from 'node:crypto';
import { Agent } from 'node:https';
import { json } from 'node:stream/consumers';

import ece from 'http_ece';
import webpush from 'web-push';

const curve = 'prime256v1';

const verbs = {
  // Lines as people keep them who send with web-push: what PushSubscription
  // gives, with the keys as a browser writes them, and as btoa() did in older code of
  // pages did. Some have expirationTime and some not.
  subscribe: ({ endpoints }) => endpoints.map((endpoint, i) => {
    const write = (octets) => octets.toString(i % 2 ? 'base64' : 'base64url');
    const keys = { p256dh: write(createECDH(curve).generateKeys()), auth: write(randomBytes(16)) };
    webpush.encrypt(keys.p256dh, keys.auth, 'hi', 'aes128gcm'); // throws if web-push itself could not use them
    return JSON.stringify({ endpoint, expirationTime: [null, 1893456000000, undefined][i % 3], keys });
  }),

  open({ privateKey, auth, bodies }) {
    const browser = createECDH(curve);
    browser.setPrivateKey(privateKey, 'base64');
    const params = { version: 'aes128gcm', privateKey: browser, authSecret: auth };
    return bodies.map((body) => ece.decrypt(Buffer.from(body, 'base64'), params).toString('base64'));
  },

  seal: ({ keys, coding, texts }) =>
    texts.map((text) => webpush.encrypt(keys.p256dh, keys.auth, text, coding).cipherText.toString('base64')),

  async send({ ca, letters }) {
    const agent = new Agent({ ca });
    const answers = [];
    for (const { subscription, text, options } of letters) {
      try {
        answers.push(await webpush.sendNotification(subscription, text, { ...options, agent }));
      } catch (error) {
        if (!(error instanceof webpush.WebPushError)) throw error;
        answers.push(error);
      }
    }
    return answers.map(({ statusCode, body }) => ({ status: statusCode, body }));
  },
};

process.stdout.write(JSON.stringify(await verbs[process.argv[2]](await json(process.stdin))));
