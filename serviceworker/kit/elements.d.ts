import { connect } from './belfry.js';
/** All that is said, by what it is for. States and codes of errors that are missing are said in belfry.js's own words. */
declare const ENGLISH: {
    title: string;
    question: string;
    promise: string;
    choice: string;
    subscribe: string;
    again: string;
    later: string;
    save: string;
    unsubscribe: string;
    none: string;
    busy: string;
    on: string;
    inbox: string;
    unread: string;
    empty: string;
    away: string;
};
export type Words = Partial<typeof ENGLISH> & Partial<Record<import('./belfry.js').Code | import('./belfry.js').State, string>>;
export type Options = NonNullable<Parameters<typeof connect>[0]>;
export type LiveEvent = import('./belfry.js').LiveEvent;
/**
 * Says in another language what the elements say: in those whose `lang`, or that of what they stand in, is this one
 * or one of its regions. What is missing stays English.
 *
 * @param {string} lang such as `de`
 * @param {Words} words
 */
export declare function translate(lang: string, words: Words): void;
/**
 * The handle that all elements of this page share. The first call makes it; a module that imports this one is in
 * time to say how, with options as `connect` takes them. Else the attributes of the first element do: `server`, `worker`, `scope`.
 *
 * @param {Options} [options]
 * @returns {import('./belfry.js').Belfry}
 */
export declare function shared(options?: Options): import('./belfry.js').Belfry;
/**
 * What both elements are: a panel, in its place on the page or, with the attribute `kind="bell"`, behind a round button.
 * It can be styled by `--belfry-accent`, `-on-accent`, `-surface`, `-text`, `-border`, `-radius`, `-font`, and by its parts.
 */
declare class Placed extends HTMLElement {
    #private;
    panel: any;
    /** @param {string[]} icon paths: a shape, and more */
    constructor(...icon: string[]);
    connectedCallback(): void;
    disconnectedCallback(): void;
    /** What it says in place of its language's words. @param {Words} words */
    set words(words: Words);
    get isBell(): boolean;
    get isOpen(): boolean;
    /** The channels that the attribute names. @returns {string[]} */
    get channels(): string[];
    /** The language in which it stands; empty for the browser's own. @returns {string} */
    get language(): string;
    /**
     * @param {keyof Words} key
     * @returns {string | undefined}
     */
    say(key: keyof Words): string | undefined;
    /** Opens the panel of a bell. @param {boolean} [focus] takes the keyboard there */
    open(focus?: boolean): void;
    /** @param {boolean} [focus] takes the keyboard back to the bell */
    close(focus?: boolean): void;
    /**
     * @param {string} title
     * @param {string} label of the button
     * @param {string} [badge]
     */
    head(title: string, label: string, badge?: string): void;
    /**
     * @param {import('./belfry.js').Belfry} _belfry
     * @param {AbortSignal} _signal
     */
    start(_belfry: import('./belfry.js').Belfry, _signal: AbortSignal): void;
    render(): void;
}
/**
 * `<belfry-subscribe channels="news sport">`: a button, or with `kind="bell"` a bell, for all that a registration can
 * be. Attributes: `channels` to choose from, `chosen` for those that are chosen at first (all by default), `prompt` to ask on the page by itself.
 * `<data value="news">News from us</data>` inside says what a channel is called.
 */
export declare class BelfrySubscribe extends Placed {
    #private;
    constructor();
    /**
     * @param {import('./belfry.js').Belfry} belfry
     * @param {AbortSignal} signal
     */
    start(belfry: import('./belfry.js').Belfry, signal: AbortSignal): void;
    /**
     * Asks, on the page and not yet by the browser, where this browser could be registered and is not, and where nobody
     * said "not now" in the last 30 days. Call it at a good moment; with the attribute `prompt` it does so by itself.
     */
    ask(): void;
    /** To turn away from a bell that asks is a "not now", too. @param {boolean} [focus] */
    close(focus?: boolean): void;
    render(): void;
}
/**
 * `<belfry-inbox channels="news sport">`: the last messages, from the newest on. Attributes: `channels`, `max` (20 by
 * default, at most 50), `kind="bell"` for a button that says how many are new. Which are is known to this browser alone.
 */
export declare class BelfryInbox extends Placed {
    #private;
    constructor();
    /**
     * @param {import('./belfry.js').Belfry} belfry
     * @param {AbortSignal} signal
     */
    start(belfry: import('./belfry.js').Belfry, signal: AbortSignal): void;
    open(focus?: boolean): void;
    render(): void;
}
export {};
