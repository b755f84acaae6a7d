export type Page = Window & typeof globalThis;
export type LiveEvent = import('./belfry.js').LiveEvent;
export type LiveReset = import('./belfry.js').LiveReset;
export type Said = Record<string, unknown>;
export type Wish = {
    channels: string[];
    cursor: string;
    token: string;
};
export type Call = {
    way: string;
    hangUp: () => void;
    begun: boolean;
    conn: string;
    ping: number;
    retry?: unknown;
    channels: string[];
    bound: string | null;
};
/**
 * The tabs of a browser that listen together, as one of them sees it. It tells
 * target what comes: `message`, `reset` and `transport`, each with a detail.
 */
export declare class Tabs {
    #private;
    /**
     * @param {Page} page
     * @param {string} server
     * @param {EventTarget} target
     * @param {() => Promise<{ id: string, secret: string } | null>} device which registered browser this is
     * @param {(id: string) => void} shown is told what somebody has before them
     * @param {(() => Promise<string>) | null} [userToken] what the site gives as proof of who the user is; nothing for a stranger
     */
    constructor(page: Page, server: string, target: EventTarget, device: () => Promise<{
        id: string;
        secret: string;
    } | null>, shown: (id: string) => void, userToken?: (() => Promise<string>) | null);
    /**
     * Listens to channels too.
     *
     * @param {string[]} channels
     * @param {(event: LiveEvent) => void} onMessage
     * @param {(reset: LiveReset) => void} [onReset]
     * @returns {() => void} stops that
     */
    join(channels: string[], onMessage: (event: LiveEvent) => void, onReset?: (reset: LiveReset) => void): () => void;
    /** The user may be another one, says this page. Where there is a bus, all tabs hear it there, and so does this one. */
    askAnew(): void;
}
