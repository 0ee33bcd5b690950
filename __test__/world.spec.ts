/** Tables whose last column names what holds a row: each names a test, or a command, that exists. */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { root } from './packed.ts'

const FOLDERS: Record<string, string> = { tests: 'crates/deepring/tests', trials: 'crates/deepring-trials/tests' }

/** The pages with such tables, and how many rows they have at least. */
const PAGES: readonly (readonly [string, number])[] = [
  ['world', 40],
  ['bundlers', 10],
  ['expectations', 24],
]

/** The commands of this checkout. */
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: Record<string, string> }

/** What is wrong with the last column of a row. */
function flawOf(held: string): string | undefined {
  const names = Array.from(held.matchAll(/`([^`]+)`/g), ([, name = '']) => name)
  if (names.length === 0) return held.startsWith('not run; ') ? undefined : 'names no test'
  return names.map(flawOfName).find((flaw) => flaw !== undefined)
}

function flawOfName(name: string): string | undefined {
  const [, command] = /^npm run ([\w:-]+)/.exec(name) ?? []
  if (command !== undefined) return command in scripts ? undefined : `there is no command ${command}`
  const [, file = '', title] = /^([^:]+)(?:: (.+))?$/.exec(name) ?? []
  const [folder = '', ...rest] = file.split('/')
  const path = join(root, FOLDERS[folder] ?? folder, ...rest)
  if (!existsSync(path)) return `${file} does not exist`
  if (title !== undefined && !readFileSync(path, 'utf8').includes(title)) return `${file} has no test ${title}`
  return undefined
}

for (const [page, least] of PAGES) {
  test(`every row of docs/${page}.md names a test that exists`, (t) => {
    const lines = readFileSync(join(root, `docs/${page}.md`), 'utf8').split('\n')
    let width = 0
    let count = 0
    for (const line of lines) {
      const cells = line.split('|').slice(1, -1)
      if (!line.startsWith('|')) width = 0
      else if (cells.at(-1)?.trim() === 'held by') width = cells.length
      else if (width > 0 && !line.startsWith('|---')) {
        t.is(cells.length, width, line)
        t.is(flawOf((cells.at(-1) ?? '').trim()), undefined, line)
        count += 1
      }
    }
    t.true(count >= least, `${count}`)
  })
}

test('a row without a test, with a missing file, a missing title or a missing command is seen', (t) => {
  t.is(flawOf('somewhere'), 'names no test')
  t.is(flawOf('`tests/absent.rs`'), 'tests/absent.rs does not exist')
  t.is(flawOf('`tests/stuck.rs: nothing_is_called_so`'), 'tests/stuck.rs has no test nothing_is_called_so')
  t.is(flawOf('`tests/stuck.rs`, `npm run nothing`'), 'there is no command nothing')
})
