/**
 * A contender: runs repeatedly, each time in its own process, and returns an outcome.
 *
 * The parent starts one process at a time and sleeps until it exits, so the bench does not compete
 * with what it measures. A process that hangs is killed after a deadline and counts as failed.
 */

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseOutcome, type Outcome } from './outcome.ts'

/** Long enough for the slowest rival on a slow disk, short enough that an overnight run ends. */
const DEADLINE_MS = 600_000

/** One way to move the data, in one configuration. */
export interface Contender {
  /** Its name, the same in every configuration. */
  readonly name: string
  /** How it is set up, in a few words. */
  readonly configuration: string
  /** One run: preparation, the measured process, clean-up. */
  run(): Promise<Outcome>
}

/** The output of a process that exited with code 0. */
export interface Output {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end. Rejects with its error line if it fails. */
export function execute(
  program: string,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<Output> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, { env: { ...process.env, ...environment }, stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const deadline = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS)
    child.on('error', (error) => {
      clearTimeout(deadline)
      reject(error)
    })
    child.on('close', (code, signal) => {
      clearTimeout(deadline)
      if (code === 0) resolve({ stdout, stderr })
      else reject(new Error(errorLine(stderr) ?? `${program} ended with ${signal ?? `code ${code}`}`))
    })
  })
}

/** Runs one of `children/` in its own Node process. */
export async function runChild<Parameters extends object>(
  child: string,
  parameters: Parameters,
  environment: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const script = fileURLToPath(new URL(`./children/${child}.ts`, import.meta.url))
  const { stdout } = await execute(process.execPath, [script, JSON.stringify(parameters)], environment)
  return parseOutcome(stdout)
}

/**
 * The line of standard error that names the error: in a Node stack trace the one above the frames,
 * otherwise the last.
 */
function errorLine(stderr: string): string | undefined {
  const lines = stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
  return lines.find((line) => /^\w*Error\b.*: /.test(line)) ?? lines.findLast((line) => !line.startsWith('Node.js v'))
}
