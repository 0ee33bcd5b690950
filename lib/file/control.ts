/** Requests on an open file that move no bytes of the caller: its metadata, its length, its flush. */

import { signalOf } from '../core/abort.ts'
import { connect, nextId, track } from '../core/completions.ts'
import { Operation, type Finish } from '../core/operation.ts'
import { booleanOf, bytesOf, optionsOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { checkFileOpen, checkWritable, finishNothing, type FileState } from './file-state.ts'
import {
  finishBigIntStat,
  finishStat,
  STAT_KEYS,
  type BigIntFileStat,
  type FileStat,
  type StatOptions,
} from './stat.ts'

/** Makes a request, which `stage` stages with its id and the number of the file. */
export function control<T = void>(
  state: FileState,
  owner: object,
  syscall: string,
  options: SignalOptions | undefined,
  stage: (id: number, file: number) => void,
  finish: Finish = finishNothing,
): Promise<T> {
  const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
  checkFileOpen(state, syscall)
  const operation = new Operation(nextId(), syscall, finish, state, null, state.path)
  stage(operation.id, state.number)
  operation.owner = owner
  return track(operation, signal)
}

/** See `FileHandle.sync` and `datasync`. */
export async function sync(state: FileState, owner: object, dataOnly: boolean, options?: SignalOptions): Promise<void> {
  const syscall = dataOnly ? 'fdatasync' : 'fsync'
  return control(state, owner, syscall, options, (id, file) => connect().sync(id, file, dataOnly))
}

/** See `FileHandle.stat`. */
export function stat(state: FileState, owner: object, options?: StatOptions): Promise<FileStat | BigIntFileStat> {
  const { bigint, ...others } = optionsOf(options, STAT_KEYS)
  const finish = booleanOf(bigint, 'options.bigint', false) ? finishBigIntStat : finishStat
  return control(state, owner, 'fstat', others, (id, file) => connect().stat(id, file), finish)
}

/** See `FileHandle.truncate`. */
export function truncate(
  state: FileState,
  owner: object,
  length: number | bigint,
  options?: SignalOptions,
): Promise<void> {
  const size = bytesOf(length, 'length')
  checkWritable(state, 'ftruncate')
  return control(state, owner, 'ftruncate', options, (id, file) => connect().truncate(id, file, size))
}
