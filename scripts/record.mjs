// Records in docs/platforms.md what a command found, and where and when: one row for each command and machine, between two marks.

import { readFileSync, writeFileSync } from 'node:fs'
import { arch, release, type } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

const page = join(import.meta.dirname, '..', 'docs', 'platforms.md')
const [BEGIN, END] = ['<!-- what ran: begin -->', '<!-- what ran: end -->']

/** The machine that this runs on, such as `Linux 6.18, x64, glibc 2.36`. */
export function thisMachine() {
  const { glibcVersionRuntime } = process.report.getReport().header
  const [kernel] = /^\d+\.\d+/.exec(release()) ?? []
  const libc = glibcVersionRuntime === undefined ? [] : [`glibc ${glibcVersionRuntime}`]
  return [`${type()} ${kernel}`, arch(), ...libc].join(', ')
}

/** Writes the row of a command of package.json, with the arguments of this process; `result` is its last line. */
export function record(name, machine, result) {
  const words = process.argv.slice(2).filter((word) => word !== '--record')
  const command = [`npm run ${name}`, ...(words.length > 0 ? ['--', ...words] : [])].join(' ')
  const text = readFileSync(page, 'utf8')
  const [before, rest = ''] = text.split(BEGIN)
  const [table, after] = rest.split(END)
  if (after === undefined) throw new Error(`${page} lacks the marks for what ran`)
  const rows = table.split('\n').filter((line) => line.startsWith('| `'))
  const start = `| \`${command}\` | ${machine} |`
  const row = `${start} ${result.replace(/^[\w-]+: /, '')} | ${new Date().toISOString().slice(0, 10)} |`
  const all = [...rows.filter((line) => !line.startsWith(start)), row].toSorted()
  const head = ['| command | machine | result | date |', '|---|---|---|---|']
  writeFileSync(page, `${before}${BEGIN}\n\n${[...head, ...all].join('\n')}\n\n${END}${after}`)
}
