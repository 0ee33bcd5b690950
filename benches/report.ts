/**
 * The bench's output files: a JSON file with figures and raw rounds, and the charts.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { chart } from './chart.ts'
import type { Figure } from './figure.ts'
import { machineLine, type Machine } from './machine.ts'
import type { Options } from './options.ts'
import type { Result } from './bench-context.ts'
import { missing } from './summary.ts'

/** Writes the charts, and returns their paths. */
export function writeCharts(results: readonly Result[], machine: Machine, folder: string): string[] {
  mkdirSync(folder, { recursive: true })
  return results.flatMap((result) => {
    const svg = chart(result, machine.idleNoise, machineLine(machine))
    if (svg === null) return []
    const path = join(folder, `${result.name}.svg`)
    writeFileSync(path, svg)
    return [path]
  })
}

/** Writes the JSON file. */
export function writeReport(
  path: string,
  results: readonly Result[],
  figures: readonly Figure[],
  machine: Machine,
  fio: string,
  options: Options,
  started: Date,
): void {
  const benchmarks = results.map((result) => ({
    name: result.name,
    title: result.title,
    sweeps: result.sweeps,
    missing: missing(result),
    // Other programs read this key, so it keeps its name.
    heats: result.comparisons.map(({ contenders, rounds }) => ({
      contenders: contenders.map(({ name, configuration }) => ({ name, configuration })),
      rounds: rounds.map((round) => Object.fromEntries(round)),
    })),
  }))
  const report = {
    started: started.toISOString(),
    seconds: Math.round((Date.now() - started.getTime()) / 1e3),
    options: { bytes: options.bytes, rounds: options.rounds, only: options.only },
    machine: { ...machine, fio },
    figures,
    benchmarks,
  }
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `${JSON.stringify(report, null, 2)}\n`)
}
