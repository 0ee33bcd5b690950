/** What a verb gets, and what it hands back. */

import { Misuse } from './failure.ts'
import { parseSize, quotedOf } from './text.ts'
import type { Screen } from './screen.ts'

/** The options of an invocation: those that were given. */
export class Options {
  readonly #given: ReadonlyMap<string, string | true>

  constructor(given: ReadonlyMap<string, string | true>) {
    this.#given = given
  }

  /** Whether an option was given. */
  has(name: string): boolean {
    return this.#given.has(name)
  }

  /** The words of an option. */
  text(name: string): string | undefined {
    const value = this.#given.get(name)
    return value === true ? undefined : value
  }

  /** A whole number. */
  count(name: string, least = 1): number | undefined {
    const words = this.text(name)
    return words === undefined ? undefined : wholeNumber(words, `--${name}`, least)
  }

  /** A number of bytes. */
  size(name: string): number | undefined {
    const words = this.text(name)
    if (words === undefined) return undefined
    const bytes = parseSize(words)
    if (bytes === undefined || bytes === 0)
      throw new Misuse(`--${name} ${quotedOf(words)} is not a size, such as 1073741824, 64M or 1G`)
    return bytes
  }

  /** One of some words, which the table of verbs has. */
  word<T extends string>(name: string): T | undefined {
    return this.text(name) as T | undefined
  }
}

/** A whole number, from words. */
export function wholeNumber(words: string, what: string, least = 1): number {
  const number = /^\d+$/.test(words) ? Number(words) : NaN
  if (!Number.isSafeInteger(number) || number < least)
    throw new Misuse(`${what} ${quotedOf(words)} is not a whole number from ${least} on`)
  return number
}

/** One run of a verb. */
export interface Invocation {
  /** The positional arguments, as many as the table says. */
  readonly words: readonly string[]
  readonly options: Options
  readonly screen: Screen
  /** Aborted by SIGINT and SIGTERM. */
  readonly signal: AbortSignal
}

/** What a verb has found or done. */
export interface Report {
  /** For `--json`. */
  readonly data: unknown
  /** For people: lines. */
  readonly lines: readonly string[]
  /** False: a check has failed. Default true. */
  readonly ok?: boolean
}

/** A verb. */
export type Action = (invocation: Invocation) => Promise<Report>
