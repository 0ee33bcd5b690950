/** `deepring completion`: scripts for shells, made from the table of verbs. */

import { Misuse } from './failure.ts'
import type { Invocation, Report } from './invocation.ts'
import { nearest } from './nearest.ts'
import { quotedOf } from './text.ts'
import { optionsOf, VERBS, type OptionRow, type Verb } from './verbs.ts'

const SHELLS: Readonly<Record<string, () => Iterable<string>>> = { bash, zsh, fish }

/** The script for a shell. */
export async function completion({ words: [shell = ''] }: Invocation): Promise<Report> {
  const make = Object.hasOwn(SHELLS, shell) ? SHELLS[shell] : undefined
  if (make === undefined) {
    const near = nearest(shell, Object.keys(SHELLS))
    throw new Misuse(`there is no script for ${quotedOf(shell)}; did you mean ${quotedOf(near ?? 'bash')}?`)
  }
  const lines = [...make()]
  return { data: { shell, script: lines.join('\n') }, lines }
}

/** First words, and the second words of each. */
function tree(): Map<string, Verb[]> {
  const groups = new Map<string, Verb[]>()
  for (const verb of VERBS) {
    const [first = ''] = verb.name.split(' ')
    groups.set(first, [...(groups.get(first) ?? []), verb])
  }
  return groups
}

/** Of verbs with the same first word. */
function summaryOf(verbs: readonly Verb[]): string {
  const [only] = verbs as [Verb]
  return secondOf(only) === '' ? only.summary : verbs.map(secondOf).join(', ')
}

function secondOf({ name }: Verb): string {
  return name.split(' ')[1] ?? ''
}

/** The options of a verb as words. */
function optionWords(verb: Verb): string {
  const words = Object.entries(optionsOf(verb)).map(([name, { short }]) =>
    short === undefined ? `--${name}` : `--${name} -${short}`,
  )
  return words.join(' ')
}

/** All options that take one of some words, with their verbs. */
function* choices(): Generator<readonly [verb: Verb, name: string, words: readonly string[]]> {
  for (const verb of VERBS)
    for (const [name, { words }] of Object.entries(verb.options)) if (words !== undefined) yield [verb, name, words]
}

function* bash(): Generator<string> {
  const groups = [...tree()]
  yield '# deepring completion bash'
  yield '_deepring() {'
  yield '  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}'
  yield '  COMPREPLY=()'
  yield `  if [ "$COMP_CWORD" = 1 ]; then ${bashWords([...groups.map(([first]) => first), '--help', '--version'])}; return; fi`
  yield '  case $verb in'
  for (const [first, verbs] of groups) {
    if (secondOf(verbs[0] as Verb) === '') continue
    yield `    ${first})`
    yield `      if [ "$COMP_CWORD" = 2 ]; then ${bashWords(verbs.map(secondOf))}; return; fi`
    yield '      verb="$verb ${COMP_WORDS[2]}" ;;'
  }
  yield '  esac'
  yield '  case "$verb $before" in'
  for (const [{ name }, option, words] of choices()) yield `    '${name} --${option}') ${bashWords(words)}; return ;;`
  yield '  esac'
  yield '  case $word in'
  yield '    -*) case $verb in'
  for (const verb of VERBS) yield `      '${verb.name}') ${bashWords([optionWords(verb)])} ;;`
  yield '    esac ;;'
  yield `    *) if [ "$verb" = completion ]; then ${bashWords(Object.keys(SHELLS))}`
  yield '      else compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$word")); fi ;;'
  yield '  esac'
  yield '}'
  yield 'complete -F _deepring deepring'
}

/** Offers words. */
function bashWords(words: readonly string[]): string {
  return `COMPREPLY=($(compgen -W '${words.join(' ')}' -- "$word"))`
}

/** In single quotes, for a shell. */
function quote(words: string): string {
  return `'${words.replaceAll("'", `'\\''`)}'`
}

/** A row of `_arguments`. */
function zshOption(name: string, { value, optional, help, words }: OptionRow): string {
  const text = help.replaceAll(/[[\]:]/g, (character) => `\\${character}`)
  const argument = value === undefined ? '' : `:${value}:${words === undefined ? '_files' : `(${words.join(' ')})`}`
  return quote(optional ? `--${name}=-[${text}]:${argument}` : `--${name}[${text}]${argument}`)
}

function zshVerb(verb: Verb): string {
  const options = Object.entries(optionsOf(verb)).map(([name, row]) => zshOption(name, row))
  const rest = verb.name === 'completion' ? `'*:shell:(${Object.keys(SHELLS).join(' ')})'` : "'*:file:_files'"
  return `_arguments ${options.join(' ')} ${rest}`
}

/** Words with what they mean, for `_describe`. */
function described(words: readonly (readonly [word: string, what: string])[]): string {
  return words.map(([word, what]) => quote(`${word}:${what}`)).join(' ')
}

function* zsh(): Generator<string> {
  const groups = [...tree()]
  const firsts = groups.map(([first, verbs]): readonly [string, string] => [first, summaryOf(verbs)])
  yield '#compdef deepring'
  yield '# deepring completion zsh'
  yield '_deepring() {'
  yield '  local -a verbs'
  yield `  if (( CURRENT == 2 )); then verbs=(${described(firsts)}); _describe verb verbs; return; fi`
  yield '  case $words[2] in'
  for (const [first, verbs] of groups) {
    const [only] = verbs as [Verb]
    if (secondOf(only) === '') {
      yield `    ${first}) ${zshVerb(only)} ;;`
      continue
    }
    const seconds = verbs.map((verb): readonly [string, string] => [secondOf(verb), verb.summary])
    yield `    ${first})`
    yield `      if (( CURRENT == 3 )); then verbs=(${described(seconds)}); _describe verb verbs; return; fi`
    yield '      case $words[3] in'
    for (const verb of verbs) yield `        ${secondOf(verb)}) ${zshVerb(verb)} ;;`
    yield '      esac ;;'
  }
  yield '  esac'
  yield '}'
  yield 'compdef _deepring deepring'
}

function* fish(): Generator<string> {
  yield '# deepring completion fish'
  yield 'complete -c deepring -e'
  for (const [first, verbs] of tree()) {
    yield `complete -c deepring -n __fish_use_subcommand -f -a ${first} -d ${fishQuote(summaryOf(verbs))}`
    for (const verb of verbs) yield* fishVerb(first, secondOf(verb), verb, verbs.map(secondOf))
  }
  const shells = fishQuote(Object.keys(SHELLS).join(' '))
  yield `complete -c deepring -n '__fish_seen_subcommand_from completion' -f -a ${shells}`
}

function* fishVerb(first: string, second: string, verb: Verb, seconds: readonly string[]): Generator<string> {
  let when = `__fish_seen_subcommand_from ${first}`
  if (second !== '') {
    const none = `${when}; and not __fish_seen_subcommand_from ${seconds.join(' ')}`
    yield `complete -c deepring -n ${fishQuote(none)} -f -a ${second} -d ${fishQuote(verb.summary)}`
    when += `; and __fish_seen_subcommand_from ${second}`
  }
  for (const [name, { short, value, optional, help, words }] of Object.entries(optionsOf(verb))) {
    const argument =
      value === undefined || optional ? '' : words === undefined ? ' -r' : ` -x -a ${fishQuote(words.join(' '))}`
    const letter = short === undefined ? '' : ` -s ${short}`
    yield `complete -c deepring -n ${fishQuote(when)} -l ${name}${letter}${argument} -d ${fishQuote(help)}`
  }
}

function fishQuote(words: string): string {
  return `'${words.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
