/**
 * One run of the command: words in, an exit code out.
 *
 * Nothing of deepring is loaded before the words are parsed. A verb hands back a report, which is printed as text or JSON. Its
 * errors become one sentence on standard error. SIGINT and SIGTERM abort the verb, which cleans up; a second one ends at once.
 */

import { constants } from 'node:os'
import { EXIT, fieldsOf, Interrupted, Misuse, sentenceOf } from './failure.ts'
import type { Options } from './invocation.ts'
import type { PageFile } from './page/file.ts'
import { parse, type Parsed } from './parse.ts'
import { Screen } from './screen.ts'
import { quotedOf } from './text.ts'

/** Runs the command, and sets the exit code of the process. */
export async function main(words: readonly string[]): Promise<void> {
  const screen = new Screen()
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(EXIT.closedPipe)
    screen.complain(`deepring: the output could not be written: ${error.message}`)
    process.exit(EXIT.failed)
  })
  // There is no place left to say it.
  process.stderr.on('error', () => process.exit(EXIT.failed))
  let parsed: Parsed
  try {
    parsed = parse(words)
  } catch (error) {
    if (!(error instanceof Misuse)) throw error
    screen.complain(`deepring: ${error.message} (deepring --help)`)
    process.exitCode = EXIT.misuse
    return
  }
  const { verb, group, options } = parsed
  if (options.has('help')) {
    const { helpOf, helpOfAll, helpOfGroup } = await import('./help.ts')
    if (verb !== undefined) print(helpOf(verb, screen.paint))
    else print(group === undefined ? helpOfAll(screen.paint) : helpOfGroup(group, screen.paint))
  } else if (options.has('version')) {
    print([(await import('../core/version.ts')).VERSION])
  } else if (verb === undefined) {
    const { helpOfAll } = await import('./help.ts')
    process.stderr.write(`${helpOfAll((_style, text) => text).join('\n')}\n`)
    process.exitCode = EXIT.misuse
  } else {
    process.exitCode = await runVerb(parsed, verb, screen)
  }
}

async function runVerb({ words, options }: Parsed, verb: NonNullable<Parsed['verb']>, screen: Screen): Promise<number> {
  const interruption = new Interruption()
  const { signal } = interruption
  try {
    const page = await pageFor(options)
    const action = await verb.load()
    const { data, lines, ok = true } = await action({ words, options, screen, signal })
    await page?.write(verb.name, data)
    screen.clear()
    const note = page === undefined ? [] : ['', `the page is ${quotedOf(page.path)}`]
    print(options.has('json') ? [JSON.stringify(data, undefined, 2)] : [...lines, ...note])
    return ok ? EXIT.good : EXIT.failed
  } catch (error) {
    if (error instanceof Misuse) {
      screen.complain(`deepring ${verb.name}: ${error.message} (deepring ${verb.name} --help)`)
      return EXIT.misuse
    }
    if (signal.aborted) {
      screen.complain(`deepring ${verb.name}: interrupted${interruption.noteOf(error)}`)
      return interruption.exitCode
    }
    if (options.has('json')) print([JSON.stringify({ error: fieldsOf(error) }, undefined, 2)])
    screen.complain(`deepring ${verb.name}: ${sentenceOf(error)}`)
    return EXIT.failed
  } finally {
    interruption.end()
  }
}

/** Where `--html` puts the page. Looked at before the work, which can take minutes. */
async function pageFor(options: Options): Promise<PageFile | undefined> {
  const path = options.text('html')
  if (path === undefined) return undefined
  const { PageFile } = await import('./page/file.ts')
  return new PageFile(path)
}

function print(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`)
}

/** SIGINT and SIGTERM, as an abort. */
class Interruption {
  readonly #controller = new AbortController()
  #number = 0
  readonly #listener = (name: NodeJS.Signals): void => {
    if (this.#number !== 0) {
      // The second one ends at once: as if nothing listened, because `process.exit` waits for threads of the runtime.
      this.end()
      process.kill(process.pid, name)
      return
    }
    this.#number = constants.signals[name]
    this.#controller.abort()
  }

  constructor() {
    process.on('SIGINT', this.#listener).on('SIGTERM', this.#listener)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** As a shell has it. */
  get exitCode(): number {
    return 128 + this.#number
  }

  noteOf(error: unknown): string {
    return error instanceof Interrupted ? `; ${error.message}` : ''
  }

  end(): void {
    process.off('SIGINT', this.#listener).off('SIGTERM', this.#listener)
  }
}
