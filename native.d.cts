import type * as binding from './binding.cjs'

/** What `deepring-node` exports; `binding.d.cts` is written by `npm run build:native`. */
export type Binding = typeof binding

/** One place where the loader looked, and why it found nothing there. */
export interface LoadAttempt {
  /** The path of the `.node` file, or the name of the package. */
  readonly candidate: string
  /** `override`: `DEEPRING_NATIVE_PATH`; `checkout`: the file beside the loader; `package`: the npm package. */
  readonly kind: 'override' | 'checkout' | 'package'
  /** The error: `MODULE_NOT_FOUND`, `ERR_DLOPEN_FAILED`, `ERR_DLOPEN_DISABLED`, a version that differs. */
  readonly cause: unknown
}

/** The error `load` throws. */
export interface LoadError extends Error {
  readonly code: 'ERR_DEEPRING_LOAD'
  /** The platform as the napi CLI names it, such as `linux-x64-gnu`. */
  readonly triple: string
  /** In the order they were made; never empty. */
  readonly attempts: readonly LoadAttempt[]
}

/** Returns the binding, loading it at the first call, or throws a {@link LoadError}. */
export function load(): Binding
