/**
 * Finds and opens the native binding.
 *
 * Importing this module opens nothing; {@link load} does, at the first use. So importing deepring never throws, on any
 * platform and in any bundle, and a program that uses only the types or the errors needs no binary.
 *
 * Where it looks:
 *
 * 1. `DEEPRING_NATIVE_PATH`, the path of a .node file. If it is set, nothing else is tried: a failed override must not be
 *    hidden by another binary.
 * 2. `deepring.<triple>.node` beside the package, or beside the bundle that holds this module. In a checkout,
 *    `npm run build:native` puts it there.
 * 3. The package `deepring-<triple>` of exactly this version: what npm installs.
 *
 * Bundlers and tracers read this file, too. Tracers (@vercel/nft) find the platform packages by the literal `require`s of
 * {@link openPackage}; bundlers must not, because none can take in a .node file. Both depend on how that `require` is made:
 * by `createRequire` of the default export, which webpack does not look through. __test__/bundlers.spec.ts holds it, and
 * docs/bundlers.md says what each tool does.
 */

import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs'
import module from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type * as binding from '#binding'
import { dynamicLinkerOf } from './libc.ts'
import { VERSION } from './version.ts'

/** What `deepring-node` exports; `binding.d.cts` is written by `npm run build:native`. */
export type Binding = typeof binding

/** One place where the loader looked, and why it found nothing there. */
export interface LoadAttempt {
  /** The path of the `.node` file, or the name of the package. */
  readonly candidate: string
  /** `override`: `DEEPRING_NATIVE_PATH`; `beside`: the file beside the package or bundle; `package`: the npm package. */
  readonly kind: 'override' | 'beside' | 'package'
  /** The path of the file, if one was found. */
  readonly file: string | undefined
  /** The error that ended the attempt. */
  readonly cause: unknown
}

/** No candidate could be opened. */
export class LoadFailure extends Error {
  /** The platform as the napi CLI names it, such as `linux-x64-gnu`. */
  readonly triple: string
  /** In the order they were made. */
  readonly attempts: readonly LoadAttempt[]

  constructor(triple: string, attempts: readonly LoadAttempt[]) {
    super(`No native binding for ${triple}`)
    this.triple = triple
    this.attempts = attempts
  }
}

/** A binary of another version, which has another protocol. */
export class VersionMismatch extends Error {
  constructor(name: string, found: unknown) {
    super(`${name} is version ${String(found)}, but deepring is version ${VERSION}`)
  }
}

/** One place to look in. */
interface Candidate {
  readonly kind: LoadAttempt['kind']
  readonly name: string
  /** The path of its file. Throws if there is none. */
  find(): string
  open(file: string): Binding
}

/** Where this file lies in the package: as a source, or compiled. */
const IN_PACKAGE = /([\\/]dist)?[\\/]lib[\\/]core[\\/]load\.[jt]s$/

/** The bindings that this environment has opened, by file: copies of the package share them. */
const SHARED = Symbol.for('deepring.binding')

let loaded: Binding | undefined
let loadedFrom: string | undefined

/**
 * Returns the binding, opening it at the first call. After a failure, the next call tries again.
 *
 * @throws A {@link LoadFailure}.
 */
export function load(): Binding {
  if (loaded !== undefined) return loaded
  const triple = platformTriple()
  const attempts: LoadAttempt[] = []
  let places: Candidate[] = []
  try {
    places = candidates(triple)
  } catch (cause) {
    // Deno does not let a program look without permission.
    attempts.push({ candidate: `deepring-${triple}`, kind: 'package', file: undefined, cause })
  }
  for (const candidate of places) {
    let file: string | undefined
    try {
      file = candidate.find()
      const path = realPath(file)
      loaded = openShared(path, candidate)
      loadedFrom = path
      return loaded
    } catch (cause) {
      attempts.push({ candidate: candidate.name, kind: candidate.kind, file, cause })
    }
  }
  throw new LoadFailure(triple, attempts)
}

/** The file of the binding; `undefined` before it is opened. */
export function bindingFile(): string | undefined {
  return loadedFrom
}

/**
 * True if this module was bundled, so that its place says nothing of the package's. webpack writes the path of the source
 * into the bundle; that file can be gone.
 */
export function isBundled(): boolean {
  const here = thisFile()
  return here === undefined || !IN_PACKAGE.test(here) || !existsSync(here)
}

/** This file; in a bundle, the bundle. A CommonJS bundle has no `import.meta.url`. */
function thisFile(): string | undefined {
  try {
    return import.meta.url === undefined ? __filename : fileURLToPath(import.meta.url)
  } catch {
    return undefined
  }
}

/** Files from whose places something can be found: this one, and for a bundle the program and the executable. */
function origins(): string[] {
  const here = thisFile()
  const files = isBundled() ? [here, process.argv[1], process.execPath] : [here]
  const found = files.flatMap((file) => (file === undefined || file === '' ? [] : [resolve(file)]))
  return [...new Set(found)]
}

function candidates(triple: string): Candidate[] {
  const override = environmentVariable('DEEPRING_NATIVE_PATH')
  if (override !== undefined && override !== '') {
    const path = resolve(override)
    return [{ kind: 'override', name: path, find: () => path, open: openFile }]
  }
  const found: Candidate[] = []
  for (const origin of origins()) {
    const folder = IN_PACKAGE.test(origin) ? origin.replace(IN_PACKAGE, '') : dirname(origin)
    const path = join(folder, `deepring.${triple}.node`)
    // Outside a checkout, its absence is not worth a word.
    if (existsSync(path) || existsSync(join(folder, 'Cargo.toml')))
      found.push({ kind: 'beside', name: path, find: () => path, open: openFile })
  }
  const name = `deepring-${triple}`
  found.push({ kind: 'package', name, find: () => findPackage(name), open: (file) => openPackage(triple, file) })
  return found
}

/**
 * Opens the file of a candidate, or a copy of it that the process uses already: two copies of one build keep their order
 * and their limits together only if they share one binary.
 */
function openShared(file: string, candidate: Candidate): Binding {
  const shared = ((globalThis as Record<symbol, unknown>)[SHARED] ??= new Map()) as Map<string, Binding>
  for (const [path, opened] of shared) if (isSameFile(path, file)) return opened
  const opened = candidate.open(file)
  if (opened.version?.() !== VERSION) throw new VersionMismatch(candidate.name, opened.version?.())
  const first = opened.copies().find((path) => isSameFile(path, file)) ?? file
  const used = first === file ? opened : openFile(first)
  shared.set(first, used)
  warnOfOthers(used, first)
  return used
}

/** Warns, once in the process, if this is not the first build of deepring in it. */
function warnOfOthers(used: Binding, file: string): void {
  const [first] = used.copies()
  if (first === undefined || isSameFile(first, file) || !used.claimReport()) return
  process.emitWarning(
    `Two copies of deepring run in this process: ${first} and ${file}. They do not share their limits, and they keep ` +
      'order between each other only by file locks. Install one version for all dependents (npm ls deepring; npm dedupe).',
    { type: 'DeepringWarning', code: 'DEEPRING_TWO_COPIES' },
  )
}

/** Whether two paths name equal files: one inode, or the same bytes. */
function isSameFile(a: string, b: string): boolean {
  if (a === b) return true
  try {
    const [one, other] = [statSync(a), statSync(b)]
    if (one.dev === other.dev && one.ino === other.ino) return true
    return one.size === other.size && readFileSync(a).equals(readFileSync(b))
  } catch {
    return false
  }
}

/** The path without links, as the dynamic linker knows an addon that Node has found. */
function realPath(file: string): string {
  return existsSync(file) ? realpathSync(file) : file
}

function openFile(file: string): Binding {
  const addon: { exports: unknown } = { exports: {} }
  process.dlopen(addon, file)
  return addon.exports as Binding
}

/** The path of a platform package's binary, if the package has this version. */
function findPackage(name: string): string {
  let missing: unknown
  for (const origin of origins()) {
    const require = module.createRequire(origin)
    try {
      const manifest = require.resolve(`${name}/package.json`)
      const { version, main } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: unknown; main: unknown }
      if (version !== VERSION) throw new VersionMismatch(name, version)
      return join(dirname(manifest), String(main))
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'MODULE_NOT_FOUND') throw error
      missing ??= error
    }
  }
  throw missing
}

/** Opens a platform package. The names are literal, because tools that trace a program's files look for such calls. */
function openPackage(triple: string, file: string): Binding {
  try {
    const require = module.createRequire(import.meta.url ?? __filename)
    switch (triple) {
      case 'linux-x64-gnu':
        return require('deepring-linux-x64-gnu') as Binding
      case 'linux-arm64-gnu':
        return require('deepring-linux-arm64-gnu') as Binding
      case 'linux-x64-musl':
        return require('deepring-linux-x64-musl') as Binding
      case 'linux-arm64-musl':
        return require('deepring-linux-arm64-musl') as Binding
    }
  } catch {
    // From a bundle, the package was found in another way; if the file is bad, the same error comes again.
  }
  return openFile(file)
}

/** A variable of the environment; `undefined` also where the runtime refuses to show it (Deno). */
export function environmentVariable(name: string): string | undefined {
  try {
    return process.env[name]
  } catch {
    return undefined
  }
}

// `process.report` would take milliseconds, and reading /usr/bin/ldd errs in mixed images. If the executable cannot be read,
// glibc is assumed; the attempts report how that ended.
function platformTriple(): string {
  const base = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux') return base
  return `${base}-${dynamicLinkerOf(process.execPath)?.includes('/ld-musl-') ? 'musl' : 'gnu'}`
}
