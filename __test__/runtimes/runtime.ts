/** Runs the scenarios on one runtime, each program in a separate process, and returns their outcomes. */

import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { NODE_FLAGS } from '../packed.ts'
import type { Host, Runtime } from './host.ts'
import type { Extent, Run, Scenario } from './scenarios.ts'

/** How a scenario ended. */
export interface Outcome {
  readonly state: 'passed' | 'failed' | 'skipped'
  /** The output of the last run; or why it failed; or why it was skipped. */
  readonly output: string
  readonly seconds: number
}

/** The flags of a runtime with which programs can load native code, call the garbage collector and end at any time. */
const FLAGS: Readonly<Record<Host, readonly string[]>> = {
  node: ['--expose-gc', ...NODE_FLAGS],
  bun: [],
  deno: ['run', '--allow-all', '--no-lock', '--v8-flags=--expose-gc'],
}

/** A program that runs longer hangs. Terminations take about 0.1 s each. */
const HANG_MS = 120_000
const HANG_MS_PER_TERMINATION = 500

/** The time in which a process must end, with any requests in flight. */
const END_MS_MAX = 20_000

/** Runs one scenario in a separate directory under `scratch`; the programs are in `programs`. */
export async function runScenario(
  scenario: Scenario,
  runtime: Runtime,
  { programs, scratch, extent }: { programs: string; scratch: string; extent: Extent },
): Promise<Outcome> {
  const started = performance.now()
  const seconds = (): number => (performance.now() - started) / 1000
  const reason = scenario.skip?.(runtime.host)
  if (reason !== undefined) return { state: 'skipped', output: reason, seconds: 0 }
  const folder = join(scratch, `${runtime.name}-${scenario.program.replace('.mjs', '')}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const environment = scenario.environment?.(folder)
  if (typeof environment === 'string') return { state: 'skipped', output: environment, seconds: 0 }
  const flags = scenario.flags?.(runtime) ?? []
  const hangMs = HANG_MS + extent.terminations * HANG_MS_PER_TERMINATION
  try {
    let output = ''
    for (const run of scenario.runs(folder, extent)) {
      const program = { path: join(programs, scenario.program), flags, environment }
      const ended = await start(runtime, program, run, hangMs)
      const fault = faultOf(run, ended) ?? run.verify?.()
      if (fault !== undefined) return { state: 'failed', output: fault, seconds: seconds() }
      output = ended.output
      const skipped = (JSON.parse(output) as { skipped?: string }).skipped
      if (skipped !== undefined) return { state: 'skipped', output: skipped, seconds: seconds() }
    }
    return { state: 'passed', output, seconds: seconds() }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** How a process ended. */
interface Ended {
  readonly status: number | null
  readonly signal: NodeJS.Signals | null
  /** The last line of its output. */
  readonly output: string
  readonly stderr: string
  /** From the last line of its output to its end. */
  readonly endMs: number
  /** What each of its threads waited for, if it hung. */
  readonly hung: string | undefined
}

/** What a process runs. */
interface Program {
  readonly path: string
  readonly flags: readonly string[]
  readonly environment: NodeJS.ProcessEnv | undefined
}

function start({ command, host }: Runtime, program: Program, run: Run, hangMs: number): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, [...FLAGS[host], ...program.flags, program.path, JSON.stringify(run.parameters)], {
      cwd: join(program.path, '..'),
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', ...program.environment },
    })
    let stdout = ''
    let stderr = ''
    let printedAt = performance.now()
    let hung: string | undefined
    let signalDue = run.signal !== undefined
    const hang = setTimeout(() => {
      hung = threadsOf(child.pid ?? 0)
      child.kill('SIGKILL')
    }, hangMs)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      printedAt = performance.now()
      if (!signalDue || !stdout.includes('\n')) return
      signalDue = false
      setTimeout(() => child.kill(run.signal?.name), run.signal?.afterMs)
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearTimeout(hang)
      const output = stdout.trim().split('\n').at(-1) ?? ''
      resolve({ status, signal, output, stderr: stderr.trim(), endMs: performance.now() - printedAt, hung })
    })
  })
}

/** The threads of a process: their names, states and what they wait for in the kernel; with their stacks where there is gdb. */
function threadsOf(pid: number): string {
  const folder = `/proc/${pid}/task`
  const of = (thread: string, file: string): string => readFileSync(join(folder, thread, file), 'utf8').trim()
  try {
    const threads = readdirSync(folder).map((thread) => {
      const state = /^State:\s+(.*)$/m.exec(of(thread, 'status'))?.[1]
      return `${thread} ${of(thread, 'comm')}: ${state}, ${of(thread, 'wchan')}`
    })
    const stacks = spawnSync('gdb', ['-p', String(pid), '-batch', '-ex', 'thread apply all bt 25'], {
      encoding: 'utf8',
    })
    return [...threads, stacks.stdout ?? ''].join('\n')
  } catch (error) {
    return `its threads cannot be read: ${String(error)}`
  }
}

/** What is wrong with how a process ended; `undefined` if it ended correctly. */
function faultOf(run: Run, { status, signal, output, stderr, endMs, hung }: Ended): string | undefined {
  const found = signal === null ? `status ${status}` : `signal ${signal}`
  const expected = run.signal === undefined ? `status ${run.status ?? 0}` : `signal ${run.signal.name}`
  const all = `${output} ${stderr}`.trim()
  if (hung !== undefined) return `it hangs; so far: ${all}\n${hung}`
  if (found !== expected) return `it ended with ${found}, not ${expected}: ${all}`
  if (!output.startsWith('{')) return `it printed no result: ${all}`
  if (endMs > END_MS_MAX) return `it took ${Math.round(endMs)} ms to end`
  if (run.complaint === undefined ? complaints(stderr, run.noise) !== '' : !run.complaint.test(stderr))
    return `its error output is: ${stderr}`
  return undefined
}

/** Error output without the warnings of the runtime, and without deepring's intended ones. */
function complaints(stderr: string, noise: RegExp | undefined): string {
  return stderr
    .split('\n')
    .filter((line) => !/DeepringWarning|--trace-warnings|trace-deprecation/.test(line) && !noise?.test(line))
    .join('\n')
    .trim()
}
