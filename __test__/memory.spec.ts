/**
 * The promises **owned** and **quiet** after the fact: memory, threads and files are checked when their owner is gone.
 * The scenarios are those of `npm run runtimes`, in short, on the Node that runs the tests.
 */

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { makeScratch } from './harness.ts'
import { coded } from './runtimes/coded.mjs'
import type { Runtime } from './runtimes/host.ts'
import { runScenario } from './runtimes/runtime.ts'
import { look, scenarios, type Extent, type Scenario } from './runtimes/scenarios.ts'
import { surfaceOf, unevenness } from './runtimes/surface.mjs'

const scratch = makeScratch()
const programs = join(import.meta.dirname, 'runtimes')
const runtime: Runtime = { name: 'this', host: 'node', command: process.execPath, version: process.versions.node }
const seed = Date.now() % 2 ** 32
const extent: Extent = { terminations: 100, workers: 100, rounds: 3, ends: 2, loopMs: 700, appends: 200, seed }

for (const scenario of scenarios) {
  // One after the other: some measure time, and each uses the whole device.
  test.serial(`${scenario.name}: nothing crashes, hangs, leaks or is disturbed`, async (t) => {
    const { state, output } = await runScenario(scenario, runtime, { programs, scratch: scratch.folder, extent })
    t.log(`seed ${seed}: ${output}`)
    t.is(state, 'passed', output)
  })
}

/** A scenario of one run of a program made here. */
function planted(source: string, run: object = {}): Scenario {
  const folder = join(scratch.folder, 'planted')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'planted.mjs'), source)
  return { name: 'planted', program: 'planted.mjs', runs: () => [{ parameters: {}, ...run }] }
}

test.serial('the runner detects a crash, an error, missing output and error output', async (t) => {
  const place = { programs: join(scratch.folder, 'planted'), scratch: scratch.folder, extent }
  const outcome = (source: string, run?: object): ReturnType<typeof runScenario> =>
    runScenario(planted(source, run), runtime, place)
  t.like(await outcome('console.log("{}")'), { state: 'passed', output: '{}' })
  t.like(await outcome('console.log(`{"skipped":"why"}`)'), { state: 'skipped', output: 'why' })
  for (const [source, run, why] of [
    ['console.log("{}"); process.abort()', {}, /ended with signal SIGABRT, not status 0/],
    ['console.log("{}"); process.exit(3)', {}, /ended with status 3/],
    ['throw new Error("wrong")', {}, /ended with status 1, not status 0.*wrong/s],
    ['', {}, /printed no result/],
    ['console.log("{}"); console.error("oh")', {}, /error output is: oh/],
    ['console.log("{}")', { complaint: /oh/ }, /error output is/],
    ['console.log("{}")', { signal: { name: 'SIGTERM', afterMs: 5000 } }, /ended with status 0, not signal SIGTERM/],
    ['console.log("{}")', { verify: () => 'a stray block' }, /a stray block/],
  ] as const) {
    const { state, output } = await outcome(source, run)
    t.is(state, 'failed', source)
    t.regex(output, why)
  }
})

test('the check of a file detects a stray block, an old one, and a wrong length', (t) => {
  const path = scratch.path()
  const bytes = coded(4, 1, 0, 1 << 20)
  const found = (): string | undefined => look(path, 4, [0, 1], 1 << 20)
  writeFileSync(path, bytes)
  t.is(found(), undefined)
  for (const [stray, what] of [
    [coded(4, 1, 8192, 4096), /at position 4096 of file 4 lies position 8192 of file 4, generation 1/],
    [coded(5, 1, 4096, 4096), /position 4096 of file 5, generation 1/],
    [coded(4, 2, 4096, 4096), /position 4096 of file 4, generation 2/],
    [new Uint8Array(8), /lies 0x0000000000000000/],
  ] as const) {
    const wrong = bytes.slice()
    wrong.set(stray, 4096)
    writeFileSync(path, wrong)
    t.regex(found() ?? '', what)
  }
  writeFileSync(path, bytes.subarray(8))
  t.regex(found() ?? '', /has 1048568 bytes/)
  rmSync(path)
})

test('the list of public names detects an export, a method and a property without a check', async (t) => {
  const folder = join(scratch.folder, 'surface')
  mkdirSync(folder)
  const source =
    'export class A { static s() {} m() {} get p() { return 1 } [Symbol.iterator]() {} }\nexport const f = () => 1\n'
  writeFileSync(join(folder, 'module.mjs'), source)
  const surface = surfaceOf('x', (await import(join(folder, 'module.mjs'))) as object)
  t.deepEqual(surface.toSorted(), [
    'x.A',
    'x.A.prototype.@@iterator',
    'x.A.prototype.m',
    'x.A.prototype.p',
    'x.A.s',
    'x.f',
  ])
  t.deepEqual(unevenness(surface, [...surface.slice(1), 'x.gone']), [
    `${surface[0]} is public and not checked`,
    'x.gone is checked and not public',
  ])
})
