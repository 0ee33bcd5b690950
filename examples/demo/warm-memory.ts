/**
 * Touches memory and ends: `node warm-memory.ts BYTES`.
 *
 * In a virtual machine, the first use of a page costs a fault of the host, many times that of the guest. Whichever
 * contender runs first would pay for all. What this process frees is what the next one gets.
 */

import process from 'node:process'
import { allocateUnsafe } from '../../index.ts'

/** Leaves memory for the rest of the machine. */
const SHARE = 0.8

const wanted = Number(process.argv[2])
allocateUnsafe(Math.floor(Math.min(wanted, SHARE * process.availableMemory()))).fill(1)
