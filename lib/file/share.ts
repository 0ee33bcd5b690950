/**
 * Files that several threads have open: {@link SharedFile}. The binding keeps which threads have one, and whose close is the
 * last: `crates/deepring-node/src/shares.rs`.
 */

import { connect } from '../core/completions.ts'
import { DeepringError, invalidType } from '../core/errors.ts'
import type { OpenFlags } from '../core/flags.ts'
import type { OpenedShared } from '../core/record.ts'
import type { FileState } from './file-state.ts'

/** A file for another thread of this process: plain data, to be posted. It does not keep the file open. */
export interface SharedFile {
  /** What it is. */
  readonly kind: 'deepring.FileHandle'
  /** Its number in this process. */
  readonly token: number
  /** As it was named in `open`. */
  readonly path: string
  /** As it was opened. */
  readonly flags: OpenFlags | number
}

const KIND = 'deepring.FileHandle'

/** See `FileHandle.share`. */
export function shareOf({ number, path, flags }: FileState): SharedFile {
  return { kind: KIND, token: connect().shareFile(number), path, flags }
}

/** Opens a shared file here. */
export function openShared(value: unknown): OpenedShared & { readonly shared: SharedFile } {
  const shared = (value ?? {}) as Partial<SharedFile>
  if (shared.kind !== KIND || typeof shared.token !== 'number' || typeof shared.path !== 'string')
    throw invalidType('token', 'what share() of a FileHandle returns', value)
  const opened = connect().openShared(shared.token)
  if (opened === null) {
    const message = `The file is closed: no thread of this process has it open any more, open '${shared.path}'`
    throw new DeepringError(message, { code: 'ERR_DEEPRING_CLOSED', syscall: 'open', path: shared.path })
  }
  return { ...opened, shared: shared as SharedFile }
}
