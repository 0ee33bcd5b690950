/** What went wrong, in the form that the binding has for it: {@link Failure}. */

import { constants } from 'node:os'
import { getSystemErrorMap } from 'node:util'
import { DeepringError } from '../core/errors.ts'
import type { Failure } from '../core/record.ts'

/** What a failure has besides its code, its call and its sentence. */
export type FailureFields = Partial<Omit<Failure, 'code' | 'syscall' | 'message'>>

/** A failure of deepring's own, or of an errno if `code` is empty. */
export function failure(code: string, syscall: string, message: string, fields: FailureFields = {}): Failure {
  return { errno: 0, position: -1, requested: 0, transferred: 0, index: -1, ...fields, code, syscall, message }
}

/** Ends the steps of a request with a failure. */
export class Failed extends Error {
  readonly failure: Failure

  constructor(what: Failure) {
    super(what.message)
    this.failure = what
  }
}

/** Ends a request with a failure of deepring's own. */
export function failed(code: string, syscall: string, message: string, fields?: FailureFields): Failed {
  return new Failed(failure(code, syscall, message, fields))
}

/**
 * The failure that steps have thrown.
 *
 * @param syscall - What was being done, for errors that do not say which call has failed.
 */
export function failureOf(thrown: unknown, syscall: string, fields?: FailureFields): Failure {
  if (thrown instanceof Failed) return thrown.failure
  const { code, errno, message, syscall: own = syscall } = thrown as NodeJS.ErrnoException
  if (typeof errno === 'number') return failure('', own, String(message), { ...fields, errno })
  // The permission model refuses without a number.
  if (code === 'ERR_ACCESS_DENIED')
    return failure('', syscall, `permission denied (Node runs with --permission: ${String(message)})`, {
      ...fields,
      errno: errnoOf('EACCES'),
    })
  return failure('ERR_DEEPRING_INVALID', syscall, String(message ?? thrown), fields)
}

/** The number of an errno on this platform, negative: libuv has its own on Windows. */
export function errnoOf(name: keyof typeof constants.errno): number {
  for (const [number, [known]] of getSystemErrorMap()) if (known === name) return number
  return -(constants.errno[name] ?? 0)
}

/** The failure of a call that the system does not know here. */
export function unsupportedCall(syscall: string): Failed {
  return failed('', syscall, 'operation not supported', { errno: errnoOf('EOPNOTSUPP') })
}

/** The same for a call that throws at once. */
export function refusal(what: string, call: string): DeepringError {
  const { code, syscall, message } = unsupported(what, call).failure
  return new DeepringError(message, { code, syscall })
}

/** What this backend refuses. */
export function unsupported(what: string, syscall: string): Failed {
  const message = `${what} needs the native binding; here deepring runs over node:fs`
  return failed('ERR_DEEPRING_UNSUPPORTED', syscall, message)
}
