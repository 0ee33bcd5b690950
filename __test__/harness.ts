/**
 * What tests of the facade share: a directory on a disk, engines on each backend, bytes that identify their place, and a
 * check of rejections.
 *
 * A spec calls `makeScratch()` once. Everything is removed after its last test.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Engine, type DeepringError, type EngineOptions } from '../index.ts'
import { directDirectory, NODE_FLAGS, run, type Ended } from './packed.ts'

/** Where the tests of one spec file work. */
export interface Scratch {
  readonly folder: string
  /** A path in the folder that no other test has. */
  path(name?: string): string
  /** A file in the folder with these bytes. */
  file(bytes: Uint8Array | string): string
  /** A new directory in the folder. */
  directory(name?: string): string
  /** Registers a function to call before the folder is removed. */
  beforeRemoval(done: () => void): void
}

/** Makes a directory that takes direct I/O, for the tests of one spec file. */
export function makeScratch(): Scratch {
  mkdirSync(directDirectory(), { recursive: true })
  const folder = mkdtempSync(join(directDirectory(), 'spec-'))
  let count = 0
  const path = (name = 'file'): string => join(folder, `${name}-${(count += 1)}`)
  const file = (bytes: Uint8Array | string): string => {
    const made = path()
    writeFileSync(made, bytes)
    return made
  }
  const directory = (name = 'directory'): string => {
    const made = path(name)
    mkdirSync(made)
    return made
  }
  const before: (() => void)[] = []
  test.after.always('the folder is removed', () => {
    for (const done of before) done()
    rmSync(folder, { recursive: true, force: true })
  })
  return { folder, path, file, directory, beforeRemoval: (done) => void before.push(done) }
}

/** The folder of a file system, or why it cannot be mounted here. */
export type Mounted = { readonly folder: string } | { readonly refusal: string }

/** Mounts a file system for the tests of a spec, on a new folder, which `mount` is given. */
export function mounted(scratch: Scratch, name: string, mount: (folder: string) => void): Mounted {
  const folder = scratch.path(name)
  try {
    mkdirSync(folder)
    mount(folder)
  } catch (error) {
    const [command = '', reason = ''] = String((error as Error).message).split('\n')
    return { refusal: `${command} ${reason}` }
  }
  scratch.beforeRemoval(() => void execFileSync('umount', [folder]))
  return { folder }
}

/** Mounts a file system in memory, as {@link mounted} does. */
export function tmpfs(scratch: Scratch, name: string, options: string): Mounted {
  return mounted(scratch, name, (folder) => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'deepring-test', folder], { stdio: 'pipe' })
  })
}

export type Backend = 'uring' | 'threads' | 'node'

const forced = process.env['DEEPRING_BACKEND'] as Backend | undefined

/** The backends to test: the forced one, or both of the native binding. */
export const backends: readonly Backend[] = forced === undefined ? ['uring', 'threads'] : [forced]

/**
 * Declares a test once per backend, on a separate engine with these limits. A backend that does not run here makes a
 * skipped test that says why, because it must not look like a passed one. `declare` is `test.serial` for what needs the event loop
 * to itself.
 */
export function testOnEachBackend(
  title: string,
  body: (t: ExecutionContext, engine: Engine, backend: Backend) => Promise<void>,
  limits: EngineOptions = {},
  declare: (title: string, run: (t: ExecutionContext) => Promise<void>) => void = test,
): void {
  for (const backend of backends) {
    const refusal = refusalOf(backend)
    if (refusal !== undefined) {
      test.skip(`${title} (${backend}: ${refusal})`, () => {})
      continue
    }
    declare(`${title} (${backend})`, async (t) => {
      const engine = engineOn(backend, limits)
      try {
        await body(t, engine, backend)
      } finally {
        await engine.close()
      }
    })
  }
}

/** An engine on a backend. That over node:fs is the only one of its process, and has no name in the options. */
export function engineOn(backend: Backend, limits: EngineOptions = {}): Engine {
  return new Engine(backend === 'node' ? limits : { ...limits, backend })
}

const refusals = new Map<Backend, string | undefined>()

/** Why a backend does not run here; `undefined` if it does. */
export function refusalOf(backend: Backend): string | undefined {
  if (!refusals.has(backend)) {
    try {
      void engineOn(backend).close()
      refusals.set(backend, undefined)
    } catch (error) {
      // A missing binary is a failure, not a reason to skip.
      if ((error as DeepringError).code === 'ERR_DEEPRING_LOAD') throw error
      refusals.set(backend, String(error))
    }
  }
  return refusals.get(backend)
}

/** `length` bytes that depend on `seed` and on their place; no two adjacent ones are equal, and none is zero. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  let state = (seed * 2654435761) >>> 0
  for (let i = 0; i < length; i += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    bytes[i] = 1 + ((state >>> 24) % 255)
  }
  return bytes
}

/** The bytes of a file, read without deepring. */
export function contents(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path))
}

/** True if two views hold the same bytes. `t.deepEqual` on megabytes would take minutes. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/** The error of a promise that must reject with this code; the call must not throw. */
export async function rejected(
  t: ExecutionContext,
  call: () => Promise<unknown>,
  code: string,
): Promise<DeepringError> {
  let promise: Promise<unknown> | undefined
  t.notThrows(() => {
    promise = call()
  }, 'a function that returns a promise does not throw')
  const error = await t.throwsAsync<DeepringError>(promise as Promise<unknown>, { code, name: 'DeepringError' })
  return error as DeepringError
}

/** The number of descriptors of this process that are open on a path. */
export function openDescriptors(path: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path
    } catch {
      return false
    }
  }).length
}

/**
 * Bytes of engine memory that stay in use. A thread of the engine can hold memory for a moment after it has reported that it
 * is done with it.
 */
export async function bytesLeft(engine: Engine): Promise<number> {
  for (let tries = 0; engine.stats().bufferBytes > 0 && tries < 100; tries += 1) await pause(10)
  return engine.stats().bufferBytes
}

/** Runs a program of `programs/` to its end, in a separate process. */
export function runProgram(name: string, ...parameters: string[]): Promise<Ended> {
  const program = join(import.meta.dirname, 'programs', name)
  return run(process.execPath, [...NODE_FLAGS, program, ...parameters], import.meta.dirname)
}

/** Lets the event loop run for a while. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
