/** What optimizer swappers are asked for. */

import { invalidType, invalidValue } from '../core/errors.ts'
import { booleanOf, bytesOf, checkKeys, integerOf, type SignalOptions } from '../core/options.ts'
import type { SwapperRequest } from '../core/swaps.ts'
import type { Engine } from '../engine/engine.ts'
import { bytesOfElements, checkDtype, type DType, type DTypeViews } from '../memory/dtype.ts'
import { checkTensorName } from '../safetensors/columns.ts'

/** Parameters that are updated together: an optimizer reads, computes and writes them at once. */
export interface OptimizerGroup {
  /** A name that no other group has. */
  name: string
  /** How many parameters it has. */
  numel: number
  /**
   * The names of its states, such as `exp_avg` and `exp_avg_sq` of Adam, each with as many elements as there are parameters. All
   * are zero at first. Default: none.
   */
  states?: readonly string[] | undefined
  /** The type of parameters and states. Default `'F32'`. */
  dtype?: DType | undefined
  /** The type of its gradient, if the swapper is to keep one. Default: it does not. */
  gradient?: DType | undefined
  /**
   * True: it stays in memory, for groups so small that reading them costs more than their memory. `flush` writes it. Default false.
   */
  resident?: boolean | undefined
}

/** The element type of parameters and states of a group. */
export type DTypeOf<G> = G extends { readonly dtype?: infer D } ? (D extends DType ? D : 'F32') : 'F32'

/** The names of the states of a group. */
export type StateOf<G> = G extends { readonly states?: infer S }
  ? S extends readonly (infer N)[]
    ? N & string
    : never
  : never

/** The view of the gradient of a group. */
export type GradientOf<G> = G extends { readonly gradient?: infer D }
  ? D extends DType
    ? DTypeViews[D]
    : undefined
  : undefined

/** Options of `openOptimizerSwapper`. */
export interface OpenOptimizerOptions<G extends OptimizerGroup = OptimizerGroup> extends SignalOptions {
  /** The groups, in the order of a step. A swapper that is opened again has the same. */
  groups: readonly G[]
  /**
   * How many groups are read ahead of the one that is computed, and how many are written behind it. `'auto'`: what the memory
   * allows, at most 4. Default `'auto'`.
   */
  depth?: number | 'auto' | undefined
  /**
   * Bytes in memory at once, for all groups and gradients together. A depth of d needs those of 2 d + 1 of the largest group, or of
   * all groups if there are fewer, and those of all resident groups. Default 256 MiB.
   */
  memory?: number | bigint | undefined
  /**
   * True: the state of the last flush outlives a process or machine that stops in the middle of a step. It takes the space of
   * parameters and states twice. Default false.
   */
  durable?: boolean | undefined
  /**
   * True: a missing directory is created, and a swapper that is torn begins anew, with all parts zero. Default false.
   */
  create?: boolean | undefined
  /** The engine that reads and writes. Default: that of the process. */
  engine?: Engine | undefined
}

/** Options of `step`. */
export interface StepOptions extends SignalOptions {
  /** The names of the groups, in the order of the step. Default: all, in their order. */
  order?: readonly string[] | undefined
}

/** Options of `initializeFrom`. */
export interface InitializeFromOptions extends SignalOptions {
  /**
   * True: tensors of other floating-point types are converted to that of the group, on threads of the engine. Default false.
   */
  convert?: boolean | undefined
}

/** The name of the parameters among the parts of a group. */
export const PARAM = 'param'
/** The name of the gradient. */
export const GRADIENT = 'gradient'

export const OPEN_OPTIMIZER_KEYS: ReadonlySet<string> = new Set([
  'groups',
  'depth',
  'memory',
  'durable',
  'create',
  'engine',
  'signal',
])
export const STEP_KEYS: ReadonlySet<string> = new Set(['order', 'signal'])
export const INITIALIZE_FROM_KEYS: ReadonlySet<string> = new Set(['convert', 'signal'])

const GROUP_KEYS: ReadonlySet<string> = new Set(['name', 'numel', 'states', 'dtype', 'gradient', 'resident'])

/** A group whose options have been checked. */
export interface Group {
  readonly name: string
  readonly numel: number
  readonly states: readonly string[]
  readonly dtype: DType
  readonly gradient: DType | undefined
  readonly resident: boolean
}

/** The groups of a swapper. */
export function groupsOf(value: unknown): Group[] {
  if (!Array.isArray(value)) throw invalidType('options.groups', 'an array', value)
  return value.map((group: unknown, nth) => groupOf(group, `options.groups[${nth}]`))
}

function groupOf(value: unknown, argument: string): Group {
  if (typeof value !== 'object' || value === null) throw invalidType(argument, 'of type object', value)
  checkKeys(value, GROUP_KEYS, argument)
  const { name, numel, states = [], dtype = 'F32', gradient, resident } = value as OptimizerGroup
  checkTensorName(name, `${argument}.name`)
  integerOf(numel, `${argument}.numel`, 0, Number.MAX_SAFE_INTEGER)
  if (!Array.isArray(states)) throw invalidType(`${argument}.states`, 'an array', states)
  for (const state of states as unknown[]) checkTensorName(state, `${argument}.states`)
  checkDtype(dtype, `${argument}.dtype`)
  for (const type of gradient === undefined ? [dtype] : [dtype, checkDtype(gradient, `${argument}.gradient`)]) {
    if (Number.isSafeInteger(bytesOfElements(type, numel))) continue
    throw invalidValue(`${argument}.numel`, `So many elements of ${type} do not fill whole bytes below 2^53.`, numel)
  }
  return Object.freeze({
    name,
    numel,
    states: Object.freeze([...(states as string[])]),
    dtype,
    gradient,
    resident: booleanOf(resident, `${argument}.resident`, false),
  })
}

/** The request of a swapper. */
export function swapperRequestOf(
  groups: readonly Group[],
  options: Readonly<Partial<OpenOptimizerOptions>>,
): SwapperRequest {
  const { depth = 'auto', memory, durable, create } = options
  if (depth !== 'auto' && typeof depth !== 'number')
    throw invalidType('options.depth', "of type number, or 'auto'", depth)
  return {
    groups: groups.map(({ name, numel, states, dtype, gradient, resident }) => ({
      name,
      numel,
      states: [...states],
      dtype,
      ...(gradient === undefined ? {} : { gradient }),
      resident,
    })),
    depth: depth === 'auto' ? 0 : integerOf(depth, 'options.depth', 1, 2 ** 31 - 1),
    ...(memory === undefined ? {} : { memory: bytesOf(memory, 'options.memory') }),
    durable: booleanOf(durable, 'options.durable', false),
    create: booleanOf(create, 'options.create', false),
  }
}

/** Values by the names of parts, as two lists: an object, a `Map`, or any iterable of pairs. */
export function partsOf<T>(parts: unknown, argument: string): { readonly names: string[]; readonly values: T[] } {
  if (typeof parts !== 'object' || parts === null)
    throw invalidType(argument, 'an object, or an iterable of names and values', parts)
  const pairs: Iterable<unknown> = Symbol.iterator in parts ? (parts as Iterable<unknown>) : Object.entries(parts)
  const [names, values]: [string[], T[]] = [[], []]
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2) throw invalidType(argument, 'an iterable of [name, value]', pair)
    names.push(checkTensorName(pair[0], argument))
    values.push(pair[1] as T)
  }
  return { names, values }
}
