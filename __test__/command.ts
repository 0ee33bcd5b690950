/** The command `deepring` as a process: in a pipe, and in a terminal whose screen is read back. */

import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { join } from 'node:path'
import headless from '@xterm/headless'
import type { ExecutionContext } from 'ava'
import { root, run, type Ended } from './packed.ts'

const MAIN = join(root, 'lib/command/main.ts')

/** The size of the terminal. */
const [COLUMNS, ROWS] = [120, 50]

/** Runs the command with its output in pipes. */
export function deepring(...words: string[]): Promise<Ended> {
  return deepringIn(root, {}, ...words)
}

/** As {@link deepring}, in a directory, with variables. */
export function deepringIn(cwd: string, variables: NodeJS.ProcessEnv, ...words: string[]): Promise<Ended> {
  return run(process.execPath, [MAIN, ...words], cwd, variables)
}

/** One sentence on standard error, the exit code, and nothing on standard output. */
export function refused(t: ExecutionContext, { status, stdout, stderr }: Ended, code: number, words: RegExp): void {
  t.is(status, code, stderr)
  t.is(stdout, '')
  t.is(stderr.trimEnd().split('\n').length, 1, stderr)
  t.regex(stderr, words)
}

/** The document of `--json`. */
export async function documentOf<T>(...words: string[]): Promise<T> {
  const { stdout } = await deepring(...words, '--json')
  return JSON.parse(stdout) as T
}

/** Runs the command, and sends it signals as soon as `when` is true. */
export async function interrupted(
  words: readonly string[],
  when: () => boolean,
  signals: readonly NodeJS.Signals[] = ['SIGINT'],
): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, ...words], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const poll = setInterval(() => {
    if (!when()) return
    clearInterval(poll)
    for (const signal of signals) child.kill(signal)
  }, 1)
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      clearInterval(poll)
      resolve({ status: code ?? 128 + (signal === null ? 0 : constants.signals[signal]), stdout, stderr })
    })
  })
}

/** What a terminal has shown. */
export interface Shown {
  readonly status: number
  /** Everything that was written to it. */
  readonly raw: string
  /** Its lines at the end, without empty ones. */
  readonly lines: readonly string[]
  /** The lines that the cursor has stood in while they were erased: the pictures of a bar. */
  readonly bars: readonly string[]
}

/** Runs the command in a terminal. */
export async function onTerminal(words: readonly string[], variables: NodeJS.ProcessEnv = {}): Promise<Shown> {
  const quoted = [process.execPath, MAIN, ...words].map((word) => `'${word}'`).join(' ')
  const environment = {
    TERM: 'xterm-256color',
    NO_COLOR: undefined,
    FORCE_COLOR: undefined,
    CI: undefined,
    ...variables,
  }
  const line = `stty cols ${COLUMNS} rows ${ROWS}; exec ${quoted}`
  const { status, stdout: raw } = await run('script', ['-qefc', line, '/dev/null'], root, environment)
  const bars: string[] = []
  const terminal = new headless.Terminal({ cols: COLUMNS, rows: ROWS, allowProposedApi: true, scrollback: 10_000 })
  const buffer = terminal.buffer.active
  const write = (text: string): Promise<void> => new Promise((resolve) => terminal.write(text, resolve))
  const lineAt = (row: number): string => buffer.getLine(row)?.translateToString(true) ?? ''
  const pieces = raw.split('\r\u001B[K')
  for (const [nth, piece] of pieces.entries()) {
    await write(piece)
    if (nth < pieces.length - 1) {
      bars.push(lineAt(buffer.baseY + buffer.cursorY))
      await write('\r\u001B[K')
    }
  }
  const lines = Array.from({ length: buffer.length }, (_, row) => lineAt(row)).filter((text) => text !== '')
  terminal.dispose()
  return { status, raw, lines, bars: bars.filter((text) => text !== '') }
}
