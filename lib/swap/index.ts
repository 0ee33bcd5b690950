/// <reference types="node" preserve="true" />
/**
 * More tensors than fit in memory: `deepring/swap`.
 *
 * A {@link SwapStore} has tensors by name, in a file of its own or in those of a model, and a budget of memory that is never
 * exceeded: what does not fit waits. An {@link OptimizerSwapper} has the groups of an optimizer in one file, and goes through them in
 * steps. docs/swap.md is the guide.
 *
 * @packageDocumentation
 */

export { GroupLease, type CloseGroupOptions } from './group.ts'
export { SwapLease, type AnySwapLease, type CloseLeaseOptions } from './lease.ts'
export type {
  DTypeOf,
  GradientOf,
  InitializeFromOptions,
  OpenOptimizerOptions,
  OptimizerGroup,
  StateOf,
  StepOptions,
} from './optimizer-options.ts'
export { openOptimizerSwapper, OptimizerSwapper, type NamedParts, type OptimizerStats } from './optimizer.ts'
export type {
  OpenSwapOptions,
  PlanOptions,
  PrefetchOptions,
  SwapGetOptions,
  SwapOverOptions,
  SwapPutOptions,
} from './options.ts'
export { openSwap, SwapStore, type SwapInfo, type SwapStats } from './store.ts'
export type { ConvertedDType } from '../safetensors/convert.ts'
export type { NamedTensors } from '../safetensors/save.ts'
export type { Slice } from '../safetensors/slices.ts'
