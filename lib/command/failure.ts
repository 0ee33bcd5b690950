/** How the command fails: exit codes, and one sentence for each error. */

import { quotedOf } from './text.ts'

/** Exit codes. */
export const EXIT = {
  good: 0,
  /** A check has failed, a threshold was not reached, or the work could not be done. */
  failed: 1,
  /** The words of the command are wrong. */
  misuse: 2,
  /** What reads the output has closed it: 128 and the number of SIGPIPE. */
  closedPipe: 141,
} as const

/** The words of the command are wrong. */
export class Misuse extends Error {
  override readonly name: string = 'Misuse'
}

/** The work can not be done, for a reason that this command has found. */
export class Refusal extends Error {
  override readonly name: string = 'Refusal'
}

/** The work was interrupted, and there is more to say of it than that. */
export class Interrupted extends Error {
  override readonly name: string = 'Interrupted'
}

/** What is known of an error. */
interface Known {
  readonly code?: unknown
  readonly syscall?: unknown
  readonly path?: unknown
  readonly dest?: unknown
  readonly message?: unknown
}

/** What to say of errors of the system about a path. */
const SENTENCES: Readonly<Record<string, (path: string) => string>> = {
  ENOENT: (path) => `there is no ${path}`,
  ENOTDIR: (path) => `a part of ${path} is not a directory`,
  EISDIR: (path) => `${path} is a directory`,
  EACCES: (path) => `there is no permission for ${path}`,
  EPERM: (path) => `${path} does not permit it`,
  EROFS: (path) => `${path} is on a read-only file system`,
  ENOSPC: (path) => `no space is left for ${path}`,
  EDQUOT: (path) => `the quota leaves no space for ${path}`,
  ELOOP: (path) => `${path} leads through too many symbolic links`,
  ENAMETOOLONG: (path) => `a name in ${path} is too long`,
  EMFILE: (path) => `the limit on open files of this process is reached at ${path}: see ulimit -n`,
}

/** One sentence, without a point, for any error. */
export function sentenceOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { code, path, dest, message } = error as Known
  const about = typeof dest === 'string' && code !== 'ENOENT' ? dest : path
  const words = typeof code === 'string' ? SENTENCES[code] : undefined
  if (words !== undefined && typeof about === 'string') return words(quotedOf(about))
  return String(message).trimEnd().replace(/\.$/, '')
}

/** An error for programs: the fields of `DeepringError` and of Node's errors, as far as it has them. */
export function fieldsOf(error: unknown): Record<string, unknown> {
  const { name } = error instanceof Error ? error : { name: 'Error' }
  return { name, message: sentenceOf(error), ...(error as object) }
}
