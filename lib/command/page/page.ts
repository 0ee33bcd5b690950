/**
 * The page of a verb, from what the verb prints with `--json`: {@link pageOf}.
 *
 * ```text
 *   document ──► verb's parts: figures, sections of charts and tables ──► one file: no script, no network, the document inside
 * ```
 *
 * The policy in its head forbids the page to load anything. Charts are set by hand as SVG.
 */

import type { BenchDocument } from '../bench/document.ts'
import type { Machine } from '../machine.ts'
import { quotedOf } from '../text.ts'
import type { TuneDocument } from '../tune/document.ts'
import { benchParts } from './bench.ts'
import { html, Html, lines, prose } from './html.ts'
import { infoParts } from './info.ts'
import type { Parts } from './parts.ts'
import { STYLE } from './style.ts'
import { tuneParts } from './tune.ts'

const PARTS = {
  bench: (document: unknown): Parts => benchParts(document as BenchDocument),
  info: (document: unknown): Parts => infoParts(document as Machine),
  tune: (document: unknown): Parts => tuneParts(document as TuneDocument),
} as const

/** Verbs that have a page. */
export type PageVerb = keyof typeof PARTS

/** The whole page, as text. */
export function pageOf(verb: PageVerb, document: unknown): string {
  const { title: given, words, when, notes = [], figures, sections, footer } = PARTS[verb](document)
  // A directory can have a name that is not seen.
  const title = given.trim() === '' ? quotedOf(given) : given
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'" />
        <title>deepring ${verb}: ${title}</title>
        <style>
          ${new Html(STYLE)}
        </style>
      </head>
      <body>
        <main>
          <header>
            <p class="verb">deepring ${verb}</p>
            <h1>${title}</h1>
            ${when === undefined ? undefined : html`<p class="when">${when}</p>`}
            ${words.map((paragraph) => html`<p class="words">${prose(paragraph)}</p> `)}${
              notes.length === 0
                ? undefined
                : html`<ul class="notes">
                    ${notes.map((note) => html`<li>${prose(note)}</li>`)}
                  </ul>`
            }
            ${figures}
          </header>
          ${sections}
          <footer>
            ${footer === undefined ? undefined : html`<p>${prose(footer)}</p>`}
            <details class="raw">
              <summary>The document of <code>deepring ${verb} --json</code></summary>
              <pre id="document" tabindex="0" role="region" aria-label="JSON document">
${lines(JSON.stringify(document, undefined, 2))}</pre>
            </details>
          </footer>
        </main>
      </body>
    </html> `
  return page.text
}
