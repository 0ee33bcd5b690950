/**
 * Touches as much memory as a contender uses, on huge pages, and ends: the host has backed it then,
 * whichever contender gets it next.
 */

import { allocate } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { parameters, type FileParameters } from './parameters.ts'

/** What a contender uses beside its buffer and as much of the page cache. */
const BESIDE_BYTES = 256 * 2 ** 20

/** Leaves memory for the rest of the machine. */
const SHARE = 0.8

const { bytes } = parameters<FileParameters>()
const meter = new Meter()
allocate(Math.floor(Math.min(2 * bytes + BESIDE_BYTES, SHARE * process.availableMemory()))).fill(0x5a)
report(meter.stop(0, 0))
