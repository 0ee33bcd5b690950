/** `deepring info`. */

// Of the public API only what it needs: every module takes time at the start.
import { Engine } from '../engine/engine.ts'
import { factsOf, type Fact } from './facts.ts'
import type { Invocation, Report } from './invocation.ts'
import { machineOf } from './machine.ts'
import { grid } from './text.ts'

const EMPTY: Fact = ['', '']

/** What moves the bytes at a path, and why. */
export async function info({ words, screen, signal }: Invocation): Promise<Report> {
  const path = words[0] ?? '.'
  const machine = machineOf(await Engine.default.info(path, { signal }), path)
  const rows: Fact[] = []
  for (const facts of factsOf(machine, screen.paint)) rows.push(...(rows.length === 0 ? [] : [EMPTY]), ...facts.rows)
  return { data: machine, lines: grid(rows, '<<') }
}
