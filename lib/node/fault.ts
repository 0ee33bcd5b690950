/** What is wrong with a file of tensors: {@link Fault}. */

import { quotedName } from '../core/errors.ts'
import { failed, type Failed } from './failure.ts'

/** A finding in a file, by code that does not know which file it is. */
export class Fault extends Error {
  /** A stable name, such as `hole`: see docs/safetensors.md. */
  readonly reason: string
  readonly tensor: string | undefined

  constructor(reason: string, detail: string, tensor?: string) {
    super(detail)
    this.reason = reason
    this.tensor = tensor
  }

  /** The failure, in this file. */
  at(path: string): Failed {
    const { reason, tensor, message } = this
    return failed('ERR_DEEPRING_FORMAT', '', message, { path, reason, ...(tensor === undefined ? {} : { tensor }) })
  }
}

/** A name in a message. */
export const quoted: (name: string) => string = quotedName
