/**
 * The package as npm would publish it, for tests that use it as a user does.
 *
 * Installed projects are in the system's temporary directory, outside the checkout, so that nothing is resolved through
 * the checkout's node_modules.
 */

import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

/** The checkout. */
export const root: string = join(import.meta.dirname, '..')

/** The binary that is tested: one that is named, as on musl, or that of the checkout. `undefined` before it was built. */
export function binaryUnderTest(): string | undefined {
  const name = readdirSync(root).find((entry) => /^deepring\..*\.node$/.test(entry))
  return process.env['DEEPRING_NATIVE_PATH'] || (name === undefined ? undefined : join(root, name))
}

/** The tarballs of one packing. */
export interface Tarballs {
  /** The package `deepring`. */
  readonly root: string
  /** The package of this platform's binary. */
  readonly platform: string
  remove(): void
}

/** Packs the checkout as it is now. It must be built. */
export function pack(): Tarballs {
  const name = `pack-test-${process.pid}`
  execFileSync(process.execPath, [join(root, 'scripts/pack.mjs'), '--here', '--out', name])
  const folder = join(root, 'target', name)
  const tarballs = readdirSync(folder).filter((entry) => entry.endsWith('.tgz'))
  const rootTarball = tarballs.find((entry) => /^deepring-\d/.test(entry))
  const platformTarball = tarballs.find((entry) => entry.startsWith(`deepring-${process.platform}-${process.arch}-`))
  if (rootTarball === undefined || platformTarball === undefined)
    throw new Error(`npm run pack made only ${tarballs.join(', ')}`)
  return {
    root: join(folder, rootTarball),
    platform: join(folder, platformTarball),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

/** A new directory outside the checkout, to be removed by the test. */
export function emptyDirectory(): string {
  return mkdtempSync(join(tmpdir(), 'deepring-test-'))
}

/** Installs tarballs into an empty project without a registry or cache, and returns the project's folder. */
export function install(...tarballs: string[]): string {
  const project = emptyDirectory()
  const cache = emptyDirectory()
  writeFileSync(
    join(project, 'package.json'),
    '{ "name": "consumer", "version": "1.0.0", "private": true, "type": "module" }\n',
  )
  execFileSync('npm', ['install', '--offline', '--cache', cache, '--ignore-scripts', '--loglevel=error', ...tarballs], {
    cwd: project,
  })
  rmSync(cache, { recursive: true, force: true })
  return project
}

/** How a program ended. */
export interface Ended {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

/**
 * Flags of Node with which a program that ends by `process.exit` or an uncaught error ends. There Node waits for its own threads, while one that
 * compiles can wait for a collection on the main thread, and both wait for ever (nodejs/node#54918), with deepring's threads all idle. With them
 * Node compiles on the calling thread.
 */
export const NODE_FLAGS: readonly string[] = ['--no-concurrent-sparkplug', '--no-concurrent-recompilation']

/** A program that runs longer hangs. Less than the time after which ava gives up, so that the report names the program. */
const HANG_MS = 480_000

/** Runs a program to its end. Variables that are `undefined` are removed from its environment. */
export async function run(
  command: string,
  parameters: string[],
  cwd: string,
  variables: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  try {
    const { stdout, stderr } = await promisify(execFile)(command, parameters, {
      cwd,
      env: { ...process.env, ...variables },
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    })
    return { status: 0, stdout, stderr }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: unknown; stdout?: string; stderr?: string }
    if (typeof code !== 'number' || stdout === undefined || stderr === undefined) throw error
    return { status: code, stdout, stderr }
  }
}

/** The Nodes that consumers run on, by version: the one that runs the tests, and the system's, if it differs. */
export function nodes(): Map<string, string> {
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const system = folders
    .filter((folder) => !folder.endsWith(join('node_modules', '.bin')))
    .map((folder) => join(folder, 'node'))
    .find((file) => existsSync(file))
  const found = new Map([[process.version, process.execPath]])
  if (system !== undefined) {
    const version = execFileSync(system, ['--version'], { encoding: 'utf8' }).trim()
    if (!found.has(version)) found.set(version, system)
  }
  return found
}

/** A directory that supports direct I/O. */
export function directDirectory(): string {
  return process.env['DEEPRING_TEST_DIR'] ?? join(root, 'target')
}
