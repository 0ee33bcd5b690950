/** What `deepring tune --json` prints. */

import type { Aim, Found } from './direction.ts'
import type { DeepSpeedAio } from './profile.ts'

/** See the module. */
export interface TuneDocument {
  readonly folder: string
  readonly fileSystem: string
  readonly device: string
  /** What profiles name the device by; `null`: nothing names it. */
  readonly deviceId: string | null
  readonly kernel: string
  /** The version of deepring. */
  readonly version: string
  readonly backend: string
  readonly direct: boolean
  readonly inMemory: boolean
  readonly aim: Aim
  /** Bytes of the file. */
  readonly ioBytes: number
  /** How long all of it took. */
  readonly seconds: number
  /** As ISO 8601. */
  readonly tunedAt: string
  /** CPU seconds per second that other processes used before. */
  readonly idleNoise: number
  /** What a choice has to reach of the best. */
  readonly bar: number
  /** That it does. */
  readonly confidence: number
  readonly read: Found
  readonly write: Found
  /** Where the profile is; `null`: none was written. */
  readonly profile: string | null
  readonly deepSpeed: { readonly aio: DeepSpeedAio }
  readonly notes: readonly string[]
}
