/// <reference types="node" preserve="true" />
/**
 * Many tensors that become visible together, or not at all: `deepring/checkpoint`.
 *
 * A store is a directory of generations; each is a directory of ordinary safetensors files and one manifest. One writer or
 * several make one, in threads or processes. Whatever happens to the process or the machine, a generation is whole or absent,
 * and the one before still loads. docs/checkpoint.md is the guide.
 *
 * @packageDocumentation
 */

export { Checkpoint, type CopyOptions } from './checkpoint.ts'
export type { Generation, Reused } from './generation.ts'
export type {
  BeginOptions,
  JoinOptions,
  KeepOptions,
  OpenCheckpointsOptions,
  PutAllOptions,
  PutOptions,
  SaveCheckpointOptions,
} from './options.ts'
export type { CheckpointSave } from './save.ts'
export {
  CheckpointStore,
  openCheckpoints,
  type Collected,
  type Latest,
  type LatestOptions,
  type Skipped,
} from './store.ts'
export { CheckpointWriter } from './writer.ts'
export type { NamedTensors } from '../safetensors/save.ts'
export type { OnProgress, Progress } from '../core/progress.ts'
