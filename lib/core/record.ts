/** What comes back from the binding for one request: a record of numbers, and for some an object with details. */

/** Numbers per record: id, status, transferred, blocks, bounced, resumed, retried, queueMs, deviceMs, flags. */
export const RECORD = 10

// status: 0 success, 1 failure (its detail is a Failure), 2 success with a detail.
// flags: bit 0, every block ran direct; bit 1, the backend was 'threads', else 'uring'.

/** What went wrong, as the engine tells it. */
export interface Failure {
  /** `ERR_DEEPRING_*`, or `''` if the system failed: then `errno` tells. */
  code: string
  /** Negative; 0 if the system did not fail. */
  errno: number
  syscall: string
  path: string | null
  /** In bytes; -1 if there is none. */
  position: number
  requested: number
  transferred: number
  /** What happened, and what to do about it where that is known. */
  message: string
}

/** A file that was opened. */
export interface Opened {
  file: number
  direct: boolean
  directReason: string
  backend: 'uring' | 'threads'
  offsetAlignment: number
  memoryAlignment: number
  size: number
  blockSize: number
}

/** What `statx` said; times in milliseconds since 1970. */
export interface Stat {
  size: number
  blocks: number
  blockSize: number
  dev: number
  ino: number
  mode: number
  nlink: number
  uid: number
  gid: number
  atimeMs: number
  mtimeMs: number
  ctimeMs: number
  birthtimeMs: number
}
