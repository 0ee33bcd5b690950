/**
 * What to do about a binding that could not be loaded: one piece of advice, from the most specific cause that is known.
 *
 * Nothing is assumed about the causes: each can be any value, with or without a code and a message.
 */

import { existsSync, readFileSync } from 'node:fs'
import { glibcOf } from './libc.ts'
import { environmentVariable, isBundled, VersionMismatch, type LoadAttempt, type LoadFailure } from './load.ts'
import { VERSION } from './version.ts'

/** The platforms that have a binary. */
const TRIPLES = ['linux-x64-gnu', 'linux-arm64-gnu', 'linux-x64-musl', 'linux-arm64-musl']

const BUNDLERS = 'https://github.com/deepring/deepring/blob/main/docs/bundlers.md'

/** What is known of one attempt. */
interface Cause {
  readonly code: string
  readonly message: string
  readonly attempt: LoadAttempt
  readonly triple: string
}

/** Advice for a cause, if it is the rule's. */
type Rule = (cause: Cause) => string | undefined

/** From the most specific to the most general. Each is held against all attempts before the next is. */
const RULES: readonly Rule[] = [
  addonsDisabled,
  denoPermission,
  filePermission,
  versionMismatch,
  olderGlibc,
  otherLibrary,
  noExecution,
  wrongOverride,
  damaged,
  noBinary,
  electron,
  bundled,
  notInstalled,
]

/** Says what to do. */
export function adviceOf({ triple, attempts }: LoadFailure): string {
  const nothing: LoadAttempt = { candidate: `deepring-${triple}`, kind: 'package', file: undefined, cause: undefined }
  const causes = (attempts.length > 0 ? attempts : [nothing]).map((attempt) => causeOf(attempt, triple))
  for (const rule of RULES) {
    for (const cause of causes) {
      const advice = rule(cause)
      if (advice !== undefined) return advice
    }
  }
  const file = causes.at(-1)?.attempt.file ?? `deepring-${triple}`
  return `${file} is there but does not load, for the reason above. Install it again: npm install --force deepring-${triple}`
}

/**
 * Why deepring runs over node:fs instead; `undefined` if the failure is an error: there is a binary, or there should be.
 */
export function reasonForNode({ triple, attempts }: LoadFailure): string | undefined {
  if (attempts.some(({ kind }) => kind === 'override')) return undefined
  const causes = attempts.map((attempt) => causeOf(attempt, triple))
  if (causes.some(({ code }) => code === 'ERR_DLOPEN_DISABLED')) return 'this process must not load native code'
  if (causes.some(({ message }) => 'Deno' in globalThis && /\bffi\b/.test(message)))
    return 'Deno runs without --allow-ffi'
  const isMissing = attempts.every(({ file }) => file === undefined || !existsSync(file))
  return isMissing && !TRIPLES.includes(triple) ? `there is no binary for ${triple}` : undefined
}

/** The first line of what a cause says. */
export function firstLine(cause: unknown): string {
  const message = (cause as { message?: unknown } | null | undefined)?.message
  return String(message ?? cause).split('\n', 1)[0] ?? ''
}

function causeOf(attempt: LoadAttempt, triple: string): Cause {
  const { code, message } = (attempt.cause ?? {}) as { code?: unknown; message?: unknown }
  return { code: String(code ?? ''), message: String(message ?? attempt.cause), attempt, triple }
}

function addonsDisabled({ code }: Cause): string | undefined {
  if (code !== 'ERR_DLOPEN_DISABLED') return undefined
  const flags = [...process.execArgv, environmentVariable('NODE_OPTIONS') ?? ''].join(' ')
  if (flags.includes('--no-addons'))
    return 'Node runs with --no-addons, which forbids all native code: start it without.'
  if (isPermissionModel()) return 'Node runs with --permission: add --allow-addons.'
  return 'This environment forbids native code: start Node, or the worker, without --no-addons; with --permission, add --allow-addons.'
}

function denoPermission({ message, attempt }: Cause): string | undefined {
  const { name } = (attempt.cause ?? {}) as { name?: unknown }
  if (!('Deno' in globalThis)) return undefined
  if (name !== 'NotCapable' && name !== 'PermissionDenied' && !/--allow-|Requires \w+ access/.test(message))
    return undefined
  return 'Deno needs permission for native code: add --allow-ffi and --allow-read, and --allow-write to write files.'
}

function filePermission({ code, attempt, triple }: Cause): string | undefined {
  if (code !== 'ERR_ACCESS_DENIED') return undefined
  const { resource } = attempt.cause as { resource?: unknown }
  const what = typeof resource === 'string' && resource !== '' ? resource : (attempt.file ?? `deepring-${triple}`)
  return `Node runs with --permission: add --allow-addons, and --allow-fs-read for ${what}.`
}

function versionMismatch({ attempt, triple }: Cause): string | undefined {
  if (!(attempt.cause instanceof VersionMismatch)) return undefined
  if (attempt.kind === 'package')
    return `Install both packages at one version: npm install deepring@${VERSION} deepring-${triple}@${VERSION}`
  return `${attempt.candidate} is of another version: build it again (npm run build:native), or take it away.`
}

function olderGlibc({ message, attempt }: Cause): string | undefined {
  const missing = /version [`']?GLIBC_([\d.]+)'? not found/.exec(message)?.[1]
  if (missing === undefined) return undefined
  const needed = attempt.file === undefined ? missing : (glibcOf(attempt.file) ?? missing)
  return (
    `The binary needs glibc ${needed} or newer; this system has glibc ${runningGlibc() ?? 'of an older version'}. ` +
    'Use a newer distribution, or build deepring on this one. Released binaries need glibc 2.17.'
  )
}

function otherLibrary({ message, triple }: Cause): string | undefined {
  if (!/libc\.musl|ld-musl|ld-linux|libc\.so\.6|libm\.so\.6|libgcc_s/.test(message)) return undefined
  const [libc, other] = triple.endsWith('musl') ? ['musl', 'glibc'] : ['glibc', 'musl']
  return (
    `The binary is for ${other} or lacks a library of it, but Node here runs on ${libc}: install for this system, ` +
    `npm install --os=linux --cpu=${process.arch} --libc=${libc} deepring`
  )
}

function noExecution({ message, attempt }: Cause): string | undefined {
  if (!/failed to map segment|Operation not permitted|Permission denied/i.test(message)) return undefined
  const mount = attempt.file === undefined ? undefined : mountOf(attempt.file)
  if (mount?.options.includes('noexec') === true) {
    return (
      `${mount.point} is mounted noexec, so no code can be loaded from it: mount it with exec, or copy ` +
      `${attempt.file} to another file system and name the copy in DEEPRING_NATIVE_PATH.`
    )
  }
  return (
    `The system does not let code be loaded from ${attempt.file ?? attempt.candidate}: look for a mount with noexec, ` +
    'for its permissions, and for a security module (SELinux, AppArmor, fapolicyd) in the log of the kernel.'
  )
}

function wrongOverride({ attempt, code, message }: Cause): string | undefined {
  if (attempt.kind !== 'override' || !/ENOENT|MODULE_NOT_FOUND|No such file|cannot open/.test(`${code} ${message}`))
    return undefined
  return `DEEPRING_NATIVE_PATH names ${attempt.candidate}, which does not exist: name the .node file, or unset the variable.`
}

function damaged({ message, attempt, triple }: Cause): string | undefined {
  if (/wrong ELF class|Exec format|ELF header|file too short|not a valid|invalid ELF/i.test(message)) {
    const again = attempt.kind === 'package' ? `npm install --force deepring-${triple}` : 'build or copy it again'
    return `${attempt.file ?? attempt.candidate} is damaged or for another processor: ${again}.`
  }
  return undefined
}

function noBinary({ triple }: Cause): string | undefined {
  if (TRIPLES.includes(triple)) return undefined
  return `There is no binary for ${triple}; deepring runs on ${TRIPLES.join(', ')}.`
}

function electron({ code, triple }: Cause): string | undefined {
  if (code !== 'MODULE_NOT_FOUND' || process.versions['electron'] === undefined) return undefined
  return (
    `Electron: install deepring-${triple} as a dependency, and keep it out of the asar archive ` +
    `(asarUnpack: "node_modules/deepring*/**"): ${BUNDLERS}`
  )
}

function bundled({ code, triple }: Cause): string | undefined {
  if (code !== 'MODULE_NOT_FOUND' || !isBundled()) return undefined
  return (
    `deepring is in a bundle, which cannot hold its binary: leave deepring external, or install deepring-${triple} where ` +
    `the bundle runs, or put deepring.${triple}.node beside it: ${BUNDLERS}`
  )
}

function notInstalled({ code, triple, attempt }: Cause): string | undefined {
  if (code !== 'MODULE_NOT_FOUND') return undefined
  if (attempt.kind !== 'package') return undefined
  const [os, cpu, libc] = triple.split('-')
  const name = libc === 'gnu' ? 'glibc' : libc
  return (
    `The package deepring-${triple} is not installed. Install for this system: ` +
    `npm install --os=${os} --cpu=${cpu} --libc=${name} deepring. npm loses optional dependencies if node_modules or the ` +
    'lock file came from another system (npm/cli#4828): then remove both, and install without --omit=optional. ' +
    'In a checkout of the repository: npm run build'
  )
}

function isPermissionModel(): boolean {
  return (process as { permission?: unknown }).permission !== undefined
}

function runningGlibc(): string | undefined {
  try {
    const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
    return report.header?.glibcVersionRuntime
  } catch {
    return undefined
  }
}

/** The mount that holds a file: the last of those whose point is the longest beginning of its path. */
function mountOf(file: string): { point: string; options: string[] } | undefined {
  try {
    let found: { point: string; options: string[] } | undefined
    for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
      const [, , , , escaped = '', options = ''] = line.split(' ')
      const point = escaped.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCodePoint(Number.parseInt(octal, 8)))
      const holds = point !== '' && (point === '/' || file === point || file.startsWith(`${point}/`))
      if (holds && point.length >= (found?.point.length ?? 0)) found = { point, options: options.split(',') }
    }
    return found
  } catch {
    return undefined
  }
}
