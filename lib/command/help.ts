/** The help, from the table of verbs. */

import { groupOf } from './parse.ts'
import type { Paint } from './screen.ts'
import { grid } from './text.ts'
import { COMMON, VERBS, type OptionRow, type Verb } from './verbs.ts'

const CODES = 'Exit codes: 0 good, 1 a check has failed or the work could not be done, 2 wrong usage, 130 interrupted.'

/** From a machine that is not known to one that is tuned, and a report on it. */
const BEGINNING: Verb['examples'] = [
  ['deepring doctor /mnt/nvme', 'what is slow or unsafe there, and what to change'],
  ['deepring tune /mnt/nvme', 'half a minute; programs use its profile by themselves'],
  ['deepring bench /mnt/nvme --html bench.html', 'some minutes; what the drive gives, as a page with charts'],
]

/** What `deepring --help` prints. */
export function helpOfAll(paint: Paint): string[] {
  return [
    'Moves tensors and other large files at the speed of the drive.',
    '',
    `${paint('bold', 'Usage:')} deepring VERB [OPTION...] [ARGUMENT...]`,
    '',
    ...listOf(VERBS),
    '',
    paint('bold', 'To begin with:'),
    ...examplesOf(BEGINNING),
    '',
    ...rowsOf({ ...COMMON, version: { help: 'print the version' } }),
    '',
    'deepring VERB --help has the options of a verb, and examples.',
    CODES,
  ]
}

/** What `deepring checkpoint --help` prints. */
export function helpOfGroup(group: string, paint: Paint): string[] {
  return [`${paint('bold', 'Usage:')} deepring ${group} VERB [OPTION...] [ARGUMENT...]`, '', ...listOf(groupOf(group))]
}

/** What `deepring VERB --help` prints. */
export function helpOf({ name, usage, summary, details, options, examples }: Verb, paint: Paint): string[] {
  return [
    `deepring ${name}: ${summary}`,
    ...(details.length === 0 ? [] : ['', ...details]),
    '',
    `${paint('bold', 'Usage:')} deepring ${name} [OPTION...] ${usage}`,
    '',
    ...rowsOf({ ...options, ...COMMON }),
    '',
    paint('bold', 'Examples:'),
    ...examplesOf(examples),
    '',
    CODES,
  ]
}

function examplesOf(examples: Verb['examples']): string[] {
  return grid(
    examples.map(([command, what]) => [`  ${command}`, what === '' ? '' : `# ${what}`]),
    '<<',
  )
}

function listOf(verbs: readonly Verb[]): string[] {
  return grid(
    verbs.map(({ name, usage, summary }) => [`  ${name} ${usage}`, summary]),
    '<<',
  )
}

function rowsOf(options: Readonly<Record<string, OptionRow>>): string[] {
  const rows = Object.entries(options).map(([name, { value, optional, short, help, words }]) => [
    `  ${short === undefined ? '   ' : `-${short},`} --${name}${value === undefined ? '' : optional ? `[=${value}]` : ` ${value}`}`,
    words === undefined ? help : `${help}: ${words.join(', ')}`,
  ])
  return grid(rows, '<<')
}
