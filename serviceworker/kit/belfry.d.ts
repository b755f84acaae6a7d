export type State = 'unsupported' | 'insecure' | 'needs-install' | 'private-mode' | 'denied' | 'dismissed' | 'off' | 'on' | 'stale';
export type Code = 'unsupported' | 'insecure' | 'needs-install' | 'private-mode' | 'denied' | 'dismissed' | 'worker' | 'push-service' | 'timeout' | 'unreachable' | 'busy' | 'refused' | 'storage' | 'not-subscribed' | 'user-token';
export type LiveEvent = {
    id: string;
    channels: string[];
    time: string;
    cursor: string;
    message: {
        title: string;
        body?: string;
        url?: string;
        lang?: string;
        variants?: Record<string, object>;
        [member: string]: unknown;
    };
};
export type LiveReset = {
    reason: string;
    requested: string;
    earliest: string;
    latest: string;
};
/** An error with a code that a program can act on, and words that a person can. */
export declare class BelfryError extends Error {
    /**
     * One of a closed list. The first six are states; then
     * `worker`: the service worker's file could not be started.
     * `push-service`: the browser could not reach its push service, or was refused by it. `timeout`: that one never answered.
     * `unreachable`: the Belfry server gave no answer. `busy`: it asks to come back later. `refused`: it said no.
     * `storage`: this browser keeps nothing for this site. `not-subscribed`: subscribe first. `user-token`: the site gave none.
     */
    code: Code;
    /** The way out. */
    hint: string;
    /** The server's HTTP status; 0 where there was no answer. */
    status: number;
    /** The server's own code for what is wrong; may be empty. */
    problem: string;
    /** Seconds to wait before trying again, if the server said so. */
    retryAfter: number | null;
    /**
     * @param {Code} code
     * @param {{ message?: string, hint?: string, status?: number, problem?: string, retryAfter?: number | null, cause?: unknown }} [more]
     */
    constructor(code: Code, more?: {
        message?: string;
        hint?: string;
        status?: number;
        problem?: string;
        retryAfter?: number | null;
        cause?: unknown;
    });
}
export type UserToken = () => string | null | Promise<string | null>;
/**
 * Gives a token of who is signed in, as the site's backend signs them, or null or '' where nobody is. It is asked
 * whenever a fresh one is needed.
 *
 * @typedef {() => string | null | Promise<string | null>} UserToken
 */
/**
 * Finds out where this browser stands, repairs what can be repaired without
 * asking, and returns the handle. It never asks for permission.
 *
 * @param {object} [options]
 * @param {string} [options.server] the Belfry server; by default the one that this file came from
 * @param {string} [options.worker] the worker's file, on this very origin
 * @param {string} [options.scope] the worker's scope; by default the folder of its file
 * @param {UserToken} [options.userToken] says who is signed in; without it everybody is a stranger
 * @returns {Belfry}
 */
export declare function connect({ server, worker, scope, userToken }?: {
    server?: string;
    worker?: string;
    scope?: string;
    userToken?: UserToken;
}): Belfry;
/**
 * A live message as it reads in a language, which is the browser's unless the page has another: with the variant that a
 * push would have, found by lookup (RFC 4647 §3.4), or as it is.
 *
 * @param {LiveEvent['message']} message
 * @param {string} [language] its tag
 * @returns {LiveEvent['message']}
 */
export declare function worded(message: LiveEvent['message'], language?: string): LiveEvent['message'];
/**
 * This browser's registration, and its ear. Made by {@link connect}; fires `state` when it
 * has looked, and whenever state, reason, channels or device may have changed.
 *
 * While the page listens, it fires `message` with a {@link LiveEvent} as its detail, `reset` with a {@link LiveReset}, and
 * `transport` with `{ transport, reason? }`: how messages come now, one of `sse`, `fetch`, `websocket`, `long-poll`,
 * `short-poll`, or empty while they do not.
 */
export declare class Belfry extends EventTarget {
    #private;
    /**
     * @param {string} server
     * @param {string} worker
     * @param {string} [scope]
     * @param {UserToken} [userToken]
     */
    constructor(server: string, worker: string, scope?: string, userToken?: UserToken);
    /**
     * Where this browser stands, also when another tab or the browser's settings have changed that.
     * `unsupported`, `insecure`, `needs-install`, `private-mode`: it cannot be rung here, and {@link reason} says why.
     * `denied`: the person said no, and only the browser's settings can change that.
     * `dismissed`: the browser's question was closed without an answer in the last 30 days.
     * `off`: not registered, or not yet looked. `on`: registered.
     * `stale`: registered, but something broke that could not be repaired yet; the next page load tries again.
     *
     * @returns {State}
     */
    get state(): State;
    /** Why, and the way out, in a sentence that can be shown; empty for `off` and `on`. */
    get reason(): string;
    /** The channels that this browser is registered for. @returns {string[]} */
    get channels(): string[];
    /** The id under which the server knows this browser, or null. @returns {string | null} */
    get device(): string | null;
    /**
     * Registers this browser for channels. Call it from a click, and before
     * anything that waits: browsers ask for permission only then.
     *
     * @param {string[]} [channels]
     * @returns {Promise<void>} rejects with a {@link BelfryError}; never hangs
     */
    subscribe(channels?: string[]): Promise<void>;
    /**
     * Chooses other channels.
     *
     * @param {string[]} channels
     * @returns {Promise<void>}
     */
    setChannels(channels: string[]): Promise<void>;
    /**
     * Ends the registration: at the server first, so that nobody rings a browser
     * that no longer listens. If the server is down, the next page load tells it (BR-14).
     *
     * @returns {Promise<void>}
     */
    unsubscribe(): Promise<void>;
    /**
     * Checks the registration against browser and server, and repairs it without
     * asking. Call it when somebody signs in or out, too: the registration is theirs then, or nobody's, and so is what all
     * tabs hear. It runs by itself on every page load, and asks the server then at most every 6 h in one tab, unless
     * something is plainly wrong; called by hand it always does.
     *
     * @returns {Promise<State>}
     */
    reconcile(): Promise<State>;
    /**
     * Hears live what is broadcast to channels, and what is for all, while this page is open. It needs neither registration
     * nor permission, never gives up, and goes on where it was when the connection is back. Each message is given once.
     * Where a user token is given, what is for that user is heard, too, and private channels that it opens.
     *
     * @param {string[]} channels
     * @param {(event: LiveEvent) => void} onMessage
     * @param {{ onReset?: (reset: LiveReset) => void }} [options] onReset is told when messages were missed for good
     * @returns {() => void} stops listening
     */
    listen(channels: string[], onMessage: (event: LiveEvent) => void, { onReset }?: {
        onReset?: (reset: LiveReset) => void;
    }): () => void;
}
export type Tabs = {
    join: (channels: string[], onMessage: (event: LiveEvent) => void, onReset?: (reset: LiveReset) => void) => () => void;
    askAnew: () => void;
};
/**
 * @param {string | null} token
 * @returns {unknown[]} the private channels that it opens, as it says itself
 */
export declare function opens(token: string | null): unknown[];
export type Device = {
    id: string;
    secret: string;
    server: string;
    hash: string;
    keyId: string;
    channels: string[];
    receipts?: string[];
    stale: boolean;
};
