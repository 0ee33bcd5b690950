/**
 * JSON, token by token, which believes nothing: what `JSON.parse` does not say (a key that is there twice, `1.0` for `1`)
 * matters in a header. It accepts what `serde_json` accepts, which reads headers in the native engine.
 */

/** What is wrong with a text. */
export class JsonFault extends Error {
  /** It is not JSON; else, something has another type than it must. */
  readonly isSyntax: boolean

  constructor(message: string, isSyntax: boolean) {
    super(message)
    this.isSyntax = isSyntax
  }
}

/** Arrays and objects in each other: as many as `serde_json` allows. */
const DEPTH_MAX = 127

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y

// Code units of what is looked for most.
const TAB = 9
const NEWLINE = 10
const RETURN = 13
const SPACE = 32
const QUOTE = 34
const ZERO = 48
const NINE = 57
const BACKSLASH = 92

/** A whole number of fewer digits is a safe integer. */
const SAFE_DIGITS = 15

const ESCAPED: Readonly<Record<string, string>> = {
  '"': '"',
  '\\': '\\',
  '/': '/',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
}

const U64_MAX = 2n ** 64n - 1n

export class JsonReader {
  readonly #text: string
  #at = 0
  #depth = 0

  /** @param bytes - UTF-8. */
  constructor(bytes: Uint8Array) {
    try {
      this.#text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    } catch {
      throw new JsonFault('it is not valid UTF-8', true)
    }
  }

  /** An object: calls `value` for each key, which reads the value. */
  object(expected: string, value: (key: string) => void): void {
    this.#open('{', expected)
    if (!this.#skipped('}'))
      do {
        if (this.#next() !== '"') throw this.#wrong('a key')
        const key = this.string()
        if (!this.#skipped(':')) throw this.#wrong('":"')
        value(key)
      } while (this.#more('}'))
    this.#depth -= 1
  }

  /** An array: calls `element` for each, which reads it. */
  array(expected: string, element: () => void): void {
    this.#open('[', expected)
    if (!this.#skipped(']'))
      do {
        element()
      } while (this.#more(']'))
    this.#depth -= 1
  }

  /** A string. */
  string(expected = 'a string'): string {
    this.#expect('"', expected)
    const text = this.#text
    let start = this.#at + 1
    let found = ''
    for (let at = start; ; at += 1) {
      const unit = text.charCodeAt(at)
      if (unit === QUOTE) {
        this.#at = at + 1
        return found + text.slice(start, at)
      }
      if (unit === BACKSLASH) {
        found += text.slice(start, at)
        this.#at = at
        found += this.#escape()
        start = this.#at
        at = start - 1
      } else if (!(unit >= SPACE)) {
        // A control character; or, as no number, the end of the text.
        this.#at = at
        throw this.#wrong('the end of a string')
      }
    }
  }

  /** A whole number below 2^64, written as one: `1.0` and `1e3` are none. A `bigint` if it is not a safe integer. */
  whole(): number | bigint {
    const start = this.#next()
    if (start === undefined || !/[-\d]/.test(start)) throw this.#misplaced('a whole number')
    const short = this.#short()
    if (short !== undefined) return short
    const text = this.#number()
    if (!/^\d+$/.test(text)) throw this.#typed('a whole number')
    const number = Number(text)
    if (Number.isSafeInteger(number)) return number
    const exact = BigInt(text)
    if (exact > U64_MAX) throw this.#typed('a whole number')
    return exact
  }

  /** Whether `null` comes, which is read then. */
  isNull(): boolean {
    this.#next()
    if (!this.#text.startsWith('null', this.#at)) return false
    this.#at += 4
    return true
  }

  /** Reads a value of any type, and drops it. `deep`: at any depth. */
  skip(deep = false): void {
    // Not by recursion: a file can be deeper than the stack of this thread.
    const open: ('}' | ']')[] = []
    const begun = this.#depth
    do {
      const start = this.#next()
      if (start === '{' || start === '[') {
        const end = start === '{' ? '}' : ']'
        if (deep) this.#depth = 0
        this.#open(start, '')
        if (!this.#skipped(end)) {
          open.push(end)
          if (end === '}') this.#key()
          continue
        }
        this.#depth -= 1
      } else if (start === '"') this.string()
      else if (!this.#word()) this.#number()
      for (let end = open.at(-1); end !== undefined && !this.#more(end); end = open.at(-1)) {
        open.pop()
        this.#depth -= 1
      }
      if (open.at(-1) === '}') this.#key()
    } while (open.length > 0)
    this.#depth = begun
  }

  /** Nothing follows. */
  end(): void {
    if (this.#next() !== undefined) throw this.#wrong('the end')
  }

  #key(): void {
    if (this.#next() !== '"') throw this.#wrong('a key')
    this.string()
    if (!this.#skipped(':')) throw this.#wrong('":"')
  }

  #word(): boolean {
    const word = ['true', 'false', 'null'].find((each) => this.#text.startsWith(each, this.#at))
    this.#at += word?.length ?? 0
    return word !== undefined
  }

  /** A whole number of few digits, before what ends a number; else nothing is read. */
  #short(): number | undefined {
    const text = this.#text
    let at = this.#at
    let number = 0
    for (let unit = text.charCodeAt(at); unit >= ZERO && unit <= NINE; unit = text.charCodeAt(at)) {
      number = number * 10 + unit - ZERO
      at += 1
    }
    const digits = at - this.#at
    const isPadded = text.charCodeAt(this.#at) === ZERO && digits > 1
    if (digits === 0 || digits > SAFE_DIGITS || isPadded || !/[,\]} \t\n\r]/.test(text[at] ?? '')) return undefined
    this.#at = at
    return number
  }

  #number(): string {
    NUMBER.lastIndex = this.#at
    const text = NUMBER.exec(this.#text)?.[0] ?? ''
    this.#at += text.length
    if (text === '' || !Number.isFinite(Number(text))) throw this.#wrong('a number')
    // What follows it must not be a part of it, such as a second digit after a 0.
    if (/[\d.eE+-]/.test(this.#text[this.#at] ?? '')) throw this.#wrong('the end of a number')
    return text
  }

  #escape(): string {
    const letter = this.#text[this.#at + 1] ?? ''
    const known = ESCAPED[letter]
    if (known !== undefined) {
      this.#at += 2
      return known
    }
    const unit = this.#unit()
    if (unit < 0xd800 || unit > 0xdfff) return String.fromCharCode(unit)
    if (unit > 0xdbff || this.#text[this.#at] !== '\\') throw this.#wrong('a whole character')
    const second = this.#unit()
    if (second < 0xdc00 || second > 0xdfff) throw this.#wrong('a whole character')
    return String.fromCharCode(unit, second)
  }

  /** `\uXXXX`. */
  #unit(): number {
    const digits = this.#text.slice(this.#at + 2, this.#at + 6)
    if (this.#text[this.#at + 1] !== 'u' || !/^[\da-fA-F]{4}$/.test(digits)) throw this.#wrong('an escape')
    this.#at += 6
    return Number.parseInt(digits, 16)
  }

  #open(bracket: '{' | '[', expected: string): void {
    this.#expect(bracket, expected)
    this.#at += 1
    this.#depth += 1
    if (this.#depth > DEPTH_MAX) throw new JsonFault(`it is deeper than ${DEPTH_MAX} arrays and objects`, true)
  }

  /** Whether another element follows, behind a comma; else the end is read. */
  #more(end: '}' | ']'): boolean {
    if (this.#skipped(',')) return true
    if (!this.#skipped(end)) throw this.#wrong(`"," or "${end}"`)
    return false
  }

  #skipped(character: string): boolean {
    const found = this.#next() === character
    if (found) this.#at += 1
    return found
  }

  /** The next character that is not a space. */
  #next(): string | undefined {
    const text = this.#text
    let at = this.#at
    for (let unit = text.charCodeAt(at); ; unit = text.charCodeAt(at)) {
      if (unit !== SPACE && unit !== NEWLINE && unit !== RETURN && unit !== TAB) break
      at += 1
    }
    this.#at = at
    return text[at]
  }

  #expect(start: string, expected: string): void {
    if (this.#next() !== start) throw this.#misplaced(expected)
  }

  /** Something else than what is expected: it is JSON, or not. */
  #misplaced(expected: string): JsonFault {
    const start = this.#text[this.#at]
    if (start === '{' || start === '[') return this.#typed(expected)
    try {
      if (start === '"') this.string()
      else if (!this.#word()) this.#number()
    } catch (fault) {
      return fault as JsonFault
    }
    return this.#typed(expected)
  }

  #typed(expected: string): JsonFault {
    return new JsonFault(`${expected} is expected, before character ${this.#at}`, false)
  }

  #wrong(expected: string): JsonFault {
    const found = this.#text.length === this.#at ? 'the end' : 'something else'
    return new JsonFault(`${expected} is expected, and ${found} comes, at character ${this.#at}`, true)
  }
}
