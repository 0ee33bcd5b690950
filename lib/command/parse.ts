/** From words to an invocation, held against the table of verbs. */

import { parseArgs } from 'node:util'
import { Misuse } from './failure.ts'
import { Options } from './invocation.ts'
import { nearest } from './nearest.ts'
import { quotedOf } from './text.ts'
import { COMMON, optionsOf, verbOf, VERBS, type Verb } from './verbs.ts'

/** What the words ask for. */
export interface Parsed {
  /** Absent: none was named. */
  readonly verb: Verb | undefined
  /** Whose help is asked for: the first word of several verbs. */
  readonly group: string | undefined
  readonly words: readonly string[]
  readonly options: Options
}

/** The verbs of a group, such as `checkpoint`. */
export function groupOf(word: string): readonly Verb[] {
  return VERBS.filter(({ name }) => name.startsWith(`${word} `))
}

/** What is named, which can stand behind options that all verbs have, and the other words. */
function namedIn(words: readonly string[]): Pick<Parsed, 'verb' | 'group'> & { readonly rest: readonly string[] } {
  const at = words.findIndex((word) => !word.startsWith('-'))
  if (at === -1) return { verb: undefined, group: undefined, rest: words }
  const [first = '', second = ''] = words.slice(at)
  const verb = verbOf([first, second])
  if (verb !== undefined) return { verb, group: undefined, rest: words.toSpliced(at, verb.name.split(' ').length) }
  const asksHelp = words.includes('--help') || words.includes('-h')
  if (asksHelp && groupOf(first).length > 0) return { verb, group: first, rest: words.toSpliced(at, 1) }
  throw unknownVerb(first, second)
}

function unknownVerb(first: string, second: string): Misuse {
  const seconds = groupOf(first).map(({ name }) => name.slice(first.length + 1))
  if (seconds.length === 0) {
    const names = [...new Set(VERBS.map(({ name }) => name.split(' ')[0] as string))]
    return new Misuse(`there is no verb ${quotedOf(first)}${suggestion(first, names, '')}`)
  }
  if (second === '' || second.startsWith('-'))
    return new Misuse(`${quotedOf(first)} needs one of ${seconds.join(', ')}`)
  return new Misuse(`there is no verb ${quotedOf(`${first} ${second}`)}${suggestion(second, seconds, `${first} `)}`)
}

function suggestion(word: string, names: readonly string[], prefix: string): string {
  const name = nearest(word, names)
  return name === undefined ? '' : `; did you mean ${quotedOf(prefix + name)}?`
}

/** Parses. Throws a {@link Misuse} that names the wrong word. */
export function parse(words: readonly string[]): Parsed {
  const { verb, group, rest } = namedIn(words)
  const rows = verb === undefined ? { ...COMMON, version: { help: '' } } : optionsOf(verb)
  const options = Object.fromEntries(
    Object.entries(rows).map(([name, { value, optional, short }]) => [
      name,
      {
        // One whose value can be left out does not take the next word for it.
        type: value === undefined || optional ? ('boolean' as const) : ('string' as const),
        ...(short === undefined ? {} : { short }),
      },
    ]),
  )
  const { tokens } = parseArgs({ args: [...rest], options, strict: false, tokens: true })
  const given = new Map<string, string | true>()
  const positionals: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') positionals.push(token.value)
    if (token.kind !== 'option') continue
    const { name, rawName, value, inlineValue } = token
    const row = Object.hasOwn(rows, name) ? rows[name] : undefined
    if (row === undefined) {
      const near = rawName.startsWith('--') ? suggestion(name, Object.keys(rows), '--') : ''
      throw new Misuse(`there is no option ${quotedOf(rawName)}${near}`)
    }
    if (row.value === undefined && value !== undefined) throw new Misuse(`${rawName} takes no value`)
    if (row.value !== undefined && !row.optional && (!value || (!inlineValue && /^-./.test(value))))
      throw new Misuse(`${rawName} needs a value: ${row.value}`)
    if (row.optional && value === '') throw new Misuse(`${rawName} needs a value behind its =: ${row.value}`)
    if (row.words !== undefined && !row.words.includes(value ?? ''))
      throw new Misuse(`${rawName} must be one of ${row.words.join(', ')}, not ${quotedOf(value ?? '')}`)
    given.set(name, value ?? true)
  }
  if (verb !== undefined && !given.has('help')) checkCount(verb, positionals)
  return { verb, group, words: positionals, options: new Options(given) }
}

function checkCount({ name, usage, count: [least, most] }: Verb, words: readonly string[]): void {
  if (words.length < least) throw new Misuse(`an argument is missing: deepring ${name} ${usage}`)
  if (words.length > most)
    throw new Misuse(`${quotedOf(words[most] ?? '')} is one argument too many: deepring ${name} ${usage}`)
}
