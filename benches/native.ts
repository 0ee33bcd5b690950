/**
 * The native bench program (`benches/native`), built on demand and called with `key=value`
 * arguments.
 */

import { execute } from '../lib/measure/process.ts'
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { parseOutcome, type Outcome } from '../lib/measure/outcome.ts'

/** The repository's folder. */
export const ROOT: string = fileURLToPath(new URL('..', import.meta.url))

type Arguments = Readonly<Record<string, string | number>>

/** The built program. */
export class NativeProgram {
  readonly program: string

  private constructor(program: string) {
    this.program = program
  }

  /** Builds the program (cargo does nothing if it is up to date) and locates it. */
  static async build(): Promise<NativeProgram> {
    const words = [
      'build',
      '--release',
      '--package',
      'deepring-bench-native',
      '--message-format',
      'json-render-diagnostics',
    ]
    const messages = await cargo(words)
    const artifacts = messages
      .split('\n')
      .flatMap((line) => (line.startsWith('{') ? [JSON.parse(line) as { executable?: string | null }] : []))
    const program = artifacts.findLast(({ executable }) => typeof executable === 'string')?.executable
    if (program === undefined || program === null) throw new Error('cargo built no deepring-bench-native')
    return new NativeProgram(program)
  }

  /** Runs a command that prepares or checks something, and returns its JSON. */
  async run(command: string, words: Arguments): Promise<Record<string, unknown>> {
    const { stdout } = await execute(this.program, [command, ...formatArguments(words)])
    return JSON.parse(stdout) as Record<string, unknown>
  }

  /** Runs a contender's command and returns its outcome. */
  async measure(command: string, words: Arguments): Promise<Outcome> {
    const { stdout } = await execute(this.program, [command, ...formatArguments(words)])
    return parseOutcome(stdout)
  }
}

function formatArguments(words: Arguments): string[] {
  return Object.entries(words).map(([key, value]) => `${key}=${value}`)
}

/** Returns cargo's machine-readable messages. Its diagnostics go straight to the terminal. */
function cargo(words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('cargo', words, { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (piece: string) => (text += piece))
    child.on('error', (error) =>
      reject(new Error('the bench needs cargo to build its rivals (https://rustup.rs)', { cause: error })),
    )
    child.on('close', (code) => (code === 0 ? resolve(text) : reject(new Error(`cargo build ended with code ${code}`))))
  })
}
