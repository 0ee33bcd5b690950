/**
 * Node moves one large file. If the method accepts the caller's memory, that memory is touched or
 * filled before the region.
 */

import { constants } from 'node:fs'
import { open, readFile, writeFile, type FileHandle } from 'node:fs/promises'
import type { NodeMethod } from '../contenders/node.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { pageAligned } from '../page-aligned.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type FileParameters } from './parameters.ts'

const PIECE_BYTES = 8 * 2 ** 20

const { method, file, bytes, seed, source } = parameters<FileParameters & { method: NodeMethod }>()

if (method === 'writeFile' || method === 'writeFileFlushed') await write(method === 'writeFileFlushed')
else if (method === 'readFile') await readWhole()
else if (method === 'handles') await readPieces(4, constants.O_RDONLY, Buffer.allocUnsafeSlow(bytes).fill(0x5a))
else if (method === 'freshHandles') await readPieces(4, constants.O_RDONLY, Buffer.allocUnsafeSlow(bytes))
else await readPieces(64, constants.O_RDONLY | constants.O_DIRECT, pageAligned(bytes).fill(0x5a))

async function readWhole(): Promise<void> {
  const meter = new Meter()
  const data = await readFile(file)
  const outcome = meter.stop(bytes, 1)
  new Tiles(source).check(data, { origin: 0, seed })
  report({ ...outcome, ran: 'buffered' })
}

/** Each lane has its own handle and takes the next piece when its last one is done. */
async function readPieces(lanes: number, flags: number, data: Uint8Array): Promise<void> {
  const handles = await Promise.all(Array.from({ length: lanes }, () => open(file, flags)))
  let next = 0
  const lane = async (handle: FileHandle): Promise<void> => {
    while (next < bytes) {
      const position = next
      next += PIECE_BYTES
      const length = Math.min(PIECE_BYTES, bytes - position)
      // oxlint-disable-next-line no-await-in-loop -- a lane has one piece in flight; the lanes are the parallelism
      const { bytesRead } = await handle.read(data, position, length, position)
      if (bytesRead !== length) throw new Error(`read ${bytesRead} of ${length} bytes at ${position}`)
    }
  }
  const meter = new Meter()
  await Promise.all(handles.map(lane))
  const outcome = meter.stop(bytes, Math.ceil(bytes / PIECE_BYTES))
  await Promise.all(handles.map((handle) => handle.close()))
  new Tiles(source).check(data, { origin: 0, seed })
  report({ ...outcome, ran: (flags & constants.O_DIRECT) === 0 ? 'buffered' : 'direct' })
}

async function write(flush: boolean): Promise<void> {
  const data = Buffer.allocUnsafeSlow(bytes)
  new Tiles(source).fill(data, { origin: 0, seed })
  const meter = new Meter()
  await writeFile(file, data, { flush })
  report({ ...meter.stop(bytes, 1), ran: 'buffered' })
}
