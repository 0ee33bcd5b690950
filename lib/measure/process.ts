/** Runs a program to its end: {@link execute}. One that hangs is killed after a deadline and counts as failed. */

import { spawn } from 'node:child_process'

/** Long enough for the slowest program on a slow disk, short enough that an overnight run ends. */
const DEADLINE_MS = 600_000

/** The output of a process that exited with code 0. */
export interface Output {
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end. Rejects with its error line if it fails. A signal that is aborted ends it. */
export function execute(
  program: string,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
  signal?: AbortSignal,
): Promise<Output> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, words, {
      env: { ...process.env, ...environment },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const deadline = setTimeout(() => child.kill('SIGKILL'), DEADLINE_MS)
    child.on('error', (error) => {
      clearTimeout(deadline)
      reject(error)
    })
    child.on('close', (code, killed) => {
      clearTimeout(deadline)
      if (code === 0) resolve({ stdout, stderr })
      else reject(new Error(errorLine(stderr) ?? `${program} ended with ${killed ?? `code ${code}`}`))
    })
  })
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
