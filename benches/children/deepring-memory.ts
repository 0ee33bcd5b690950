/**
 * The peak memory of a process that reads a file into one buffer. With `bytes: 0` it only imports
 * deepring: the idle process whose peak is subtracted.
 */

import { allocate, open } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type FileParameters } from './parameters.ts'
import { ranOf } from './ran.ts'

const { file, bytes, seed, source } = parameters<FileParameters>()
const meter = new Meter()
if (bytes === 0) {
  report(meter.stop(0, 0))
} else {
  const data = allocate(bytes)
  await using handle = await open(file, 'r')
  const { receipt } = await handle.read(data, { position: 0 })
  const outcome = meter.stop(bytes, 1)
  new Tiles(source).check(data, { origin: 0, seed })
  report({ ...outcome, ran: ranOf(receipt) })
}
