/** HTML whose values are escaped: {@link html}. */

import { printable } from '../text.ts'

/** Text that is HTML. */
export class Html {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** What can stand in a template. Lists are joined; `undefined` is nothing. */
export type Content = string | number | Html | undefined | readonly Content[]

/** A template. Values that are not HTML are escaped: names of files and devices can have any character. */
export function html(pieces: TemplateStringsArray, ...values: readonly Content[]): Html {
  return new Html(pieces.map((piece, nth) => (nth === 0 ? '' : textOf(values[nth - 1])) + piece).join(''))
}

function textOf(value: Content): string {
  if (value instanceof Html) return value.text
  if (Array.isArray(value)) return value.map(textOf).join('')
  return value === undefined ? '' : escape(printable(String(value)))
}

/** Words in which no line ends between a number and what it counts. */
export function prose(words: string): string {
  return words.replaceAll(/(\d) (?=[\p{L}%])/gu, '$1\u00a0')
}

/** Lines, as they are. */
export function lines(text: string): Html {
  return new Html(
    text
      .split('\n')
      .map((line) => escape(printable(line)))
      .join('\n'),
  )
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
