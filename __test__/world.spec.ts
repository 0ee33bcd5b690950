/** docs/world.md: every row names a test that exists. */

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { root } from './packed.ts'

const FOLDERS: Record<string, string> = { tests: 'crates/deepring/tests', trials: 'crates/deepring-trials/tests' }

/** What is wrong with the last column of a row. */
function flawOf(held: string): string | undefined {
  const [, file, title] = /^`([^:`]+)(?:: ([^`]+))?`$/.exec(held) ?? []
  if (file === undefined) return 'names no test'
  const [folder = '', ...rest] = file.split('/')
  const path = join(root, FOLDERS[folder] ?? folder, ...rest)
  if (!existsSync(path)) return `${file} does not exist`
  if (title !== undefined && !readFileSync(path, 'utf8').includes(title)) return `${file} has no test ${title}`
  return undefined
}

test('every row of docs/world.md names a test that exists', (t) => {
  const lines = readFileSync(join(root, 'docs/world.md'), 'utf8').split('\n')
  const rows = lines.filter((line) => line.startsWith('| ') && !line.startsWith('| situation'))
  t.true(rows.length > 40, `${rows.length}`)
  for (const row of rows) {
    const cells = row.split('|').slice(1, -1)
    t.is(cells.length, 4, row)
    t.is(flawOf((cells[3] ?? '').trim()), undefined, row)
  }
})

test('a row without a test, with a missing file, or with a missing title is seen', (t) => {
  t.is(flawOf('somewhere'), 'names no test')
  t.is(flawOf('`tests/absent.rs`'), 'tests/absent.rs does not exist')
  t.is(flawOf('`tests/stuck.rs: nothing_is_called_so`'), 'tests/stuck.rs has no test nothing_is_called_so')
})
