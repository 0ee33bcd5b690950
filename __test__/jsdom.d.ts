/** What the tests use of jsdom, which has no declarations of its own. */
declare module 'jsdom' {
  interface Element {
    readonly textContent: string
  }
  interface Document {
    readonly body: Element
    querySelector(selector: string): Element | null
    querySelectorAll(selector: string): ArrayLike<Element>
  }
  export class JSDOM {
    constructor(html: string, options?: { url: string; runScripts: 'outside-only' })
    readonly window: { AbortController: typeof AbortController; URL: typeof URL; document: Document }
  }
}
