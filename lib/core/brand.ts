/**
 * How objects of another copy of the package are recognized: two versions in one dependency tree, a bundle beside the
 * package, a test runner that loads modules again. Their classes are others, so `instanceof` is false for them, but their
 * prototypes have the same marks.
 */

import { inspect } from 'node:util'
import { DeepringError } from './errors.ts'
import { VERSION } from './version.ts'

/** The classes that have a mark. */
export type Branded =
  | 'FileHandle'
  | 'Engine'
  | 'AioHandle'
  | 'TensorTable'
  | 'SafetensorsFile'
  | 'SafetensorsWriter'
  | 'CheckpointStore'
  | 'CheckpointWriter'
  | 'Checkpoint'
  | 'SwapStore'
  | 'OptimizerSwapper'

/**
 * Marks a class. The value of the mark is the version of its package. `shown` is what `console.log` shows of an instance,
 * which has no properties.
 */
export function brand<T extends object>(name: Branded, prototype: T, shown: (instance: T) => object): void {
  Object.defineProperty(prototype, Symbol.for(`deepring.${name}`), { value: VERSION })
  Object.defineProperty(prototype, inspect.custom, {
    value(this: T, _depth: number, options: object): string {
      return this === prototype ? name : `${name} ${inspect(shown(this), options)}`
    },
  })
}

/** The error for an object of another copy where one of this copy is required; `undefined` if it is none. */
export function otherCopy(argument: string, name: Branded, value: unknown): DeepringError | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const version: unknown = (value as Record<symbol, unknown>)[Symbol.for(`deepring.${name}`)]
  if (typeof version !== 'string') return undefined
  return new DeepringError(
    `The "${argument}" is of another copy of deepring: its ${name} is of version ${version}, and this is a separate copy ` +
      `of version ${VERSION}. Use what one copy made with that copy only, or install one for all dependents (npm dedupe)`,
    { code: 'ERR_DEEPRING_TWO_COPIES' },
  )
}

/**
 * A base for classes whose state is not in their properties. A clone would be an empty object, so that `structuredClone`
 * and `postMessage` must fail for them. Not all runtimes can mark an object as uncloneable, but none can clone a `WeakSet`,
 * whatever its prototype is.
 */
// oxlint-disable-next-line typescript/no-extraneous-class -- it is a base, and its constructor is all it has
export class Uncloneable {
  constructor() {
    // oxlint-disable-next-line no-constructor-return -- the instance is to be of another kind than its class says
    return Object.setPrototypeOf(new WeakSet(), new.target.prototype) as this
  }
}
