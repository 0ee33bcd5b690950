/** What a store or a swapper has, put into a checkpoint in progress. */

import { signalOf } from '../core/abort.ts'
import { otherCopy } from '../core/brand.ts'
import { invalidType } from '../core/errors.ts'
import { optionsOf, SIGNAL_KEYS, type SignalOptions } from '../core/options.ts'
import { CheckpointWriter, writerStateOf } from '../checkpoint/writer.ts'
import type { Given } from '../safetensors/save.ts'
import type { SwapState } from './swap-state.ts'

/** A snapshot has no memory of the caller. */
const NO_MEMORY: Given = { declarations: [], views: [], lengths: [] }

/** Puts it. `stage` is given the number of the call, and that of the writer. */
export async function snapshot(
  state: SwapState,
  writer: CheckpointWriter,
  options: SignalOptions | undefined,
  stage: (id: number, into: number) => void,
): Promise<void> {
  if (!(writer instanceof CheckpointWriter))
    throw otherCopy('writer', 'CheckpointWriter', writer) ?? invalidType('writer', 'a CheckpointWriter', writer)
  const signal = signalOf(optionsOf(options, SIGNAL_KEYS).signal)
  const target = writerStateOf(writer)
  state.check('snapshot')
  target.check('write')
  return state.run(target.put(NO_MEMORY, signal, stage).putting)
}
