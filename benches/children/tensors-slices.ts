/** An eighth of the rows of every matrix of a file. */

import { readFileSync } from 'node:fs'
import { DTYPES } from '../../index.ts'
import { openSafetensors, type Slice, type TensorMap } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type TensorsPartParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'

const PARTS = 8

/** Neither is an end of the matrix. */
const MEASURED_PART = 2
const WARMING_PART = 6

const { file, source, origin, seed, verifies } = parameters<TensorsPartParameters>()
await using model = await openSafetensors(file)
const selection = model.select(({ shape: [rows = 0, columns] }) => columns !== undefined && rows >= PARTS)
const [warming, slices] = [slicesOf(WARMING_PART), slicesOf(MEASURED_PART)]

// The functions are compiled, the drive is awake, and the memory that comes back was touched.
const first = await model.load(selection, { slices: warming })
first[Symbol.dispose]()
const readBefore = readBytes()
const meter = new Meter()
using tensors = await model.load(selection, { slices })
const outcome = meter.stop(tensors.receipt.bytes, slices.size)
const deviceBytes = readBytes() - readBefore
if (verifies) check(tensors)
const { overread, bounced } = tensors.receipt
report({ ...outcome, ran: await ranByEngine(), extra: { overread, bounced, deviceBytes } })

/** One of the eighths of each matrix. */
function slicesOf(part: number): Map<string, Slice> {
  const found = new Map<string, Slice>()
  for (const name of model.names()) {
    const [rows = 0, columns] = model.info(name).shape
    if (columns === undefined || rows < PARTS) continue
    const count = Math.floor(rows / PARTS)
    found.set(name, [[part * count, (part + 1) * count]])
  }
  return found
}

function check(loaded: TensorMap): void {
  const tiles = new Tiles(source)
  for (const [name, { bytes }] of loaded) {
    const { position, shape, dtype } = model.info(name)
    const [rows = 0, ...others] = shape
    const rowBytes = others.reduce((product, extent) => product * extent, DTYPES[dtype as 'F32'].bytes)
    const skipped = MEASURED_PART * Math.floor(rows / PARTS) * rowBytes
    tiles.checkPart(bytes, { origin, seed }, position + skipped)
  }
}

/** What this process has read from devices so far, as the kernel counts it. */
function readBytes(): number {
  const match = /^read_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))
  if (match === null) throw new Error('/proc/self/io has no read_bytes')
  return Number(match[1])
}
