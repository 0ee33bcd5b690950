/**
 * All tensors of a file into memory, or the same bytes by one read.
 *
 * The file is open before the region, and its header read, as for every contender that loads. A load brings its own memory;
 * only the read has memory that was touched before.
 */

import { PAGE_BYTES } from '../../lib/measure/positions.ts'
import { readFile } from 'node:fs/promises'
import { allocate, open } from '../../index.ts'
import { openSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type TensorsLoadParameters } from './parameters.ts'
import { ranByEngine, ranOf } from './ran.ts'
import { checkTensors } from './tensors-check.ts'

const given = parameters<TensorsLoadParameters>()
const { file, bytes, start, tensorBytes, source, origin, seed, method, touched, original } = given
/** Where the page begins that has the first byte of the tensors. */
const from = start - (start % PAGE_BYTES)

if (method === 'raw') await readRaw()
else if (method === 'subarray') await readSubarrays()
else await loadTensors()

async function readRaw(): Promise<void> {
  const memory = touched ? allocate(bytes - from).fill(0x5a) : null
  await using handle = await open(file, 'r')
  const meter = new Meter()
  const data = memory ?? allocate(bytes - from)
  const { bytesRead, receipt } = await handle.read(data, { position: from })
  const outcome = meter.stop(bytesRead, 1)
  if (bytesRead !== bytes - from) throw new Error(`${bytesRead} bytes were read, not ${bytes - from}`)
  new Tiles(source).checkPart(data.subarray(start - from), { origin, seed }, start)
  report({ ...outcome, ran: ranOf(receipt) })
}

async function loadTensors(): Promise<void> {
  await using model = await openSafetensors(file)
  const meter = new Meter()
  const tensors = await model.load()
  const outcome = meter.stop(tensorBytes, model.size)
  const { receipt } = tensors
  if (receipt.bytes !== tensorBytes) throw new Error(`${receipt.bytes} bytes were loaded, not ${tensorBytes}`)
  await checkTensors(given, original ?? file, tensors.values())
  const { overread, bounced, realigned } = receipt
  report({ ...outcome, ran: await ranByEngine(), extra: { overread, bounced, realigned } })
}

/** What programs without a library do. It checks nothing, and ends at 2 GiB. */
async function readSubarrays(): Promise<void> {
  const meter = new Meter()
  const data = await readFile(file)
  const begin = 8 + Number(data.readBigUInt64LE(0))
  const header = JSON.parse(data.toString('utf8', 8, begin)) as Record<string, { data_offsets: [number, number] }>
  delete header['__metadata__']
  const tensors = new Map<string, Uint8Array>()
  for (const name in header) {
    const [one, end] = header[name]!.data_offsets
    tensors.set(name, data.subarray(begin + one, begin + end))
  }
  const outcome = meter.stop(tensorBytes, tensors.size)
  await checkTensors(
    given,
    file,
    Array.from(tensors, ([name, view]) => ({ name, bytes: view })),
  )
  report({ ...outcome, ran: 'buffered' })
}
