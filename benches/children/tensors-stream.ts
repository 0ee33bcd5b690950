/**
 * All tensors of a file, one after the other, within a budget. With no bytes, it only imports deepring: the idle process whose
 * peak is subtracted.
 */

import { allocate } from '../../index.ts'
import { openSafetensors } from '../../lib/safetensors/index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type TensorsPartParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'
import { checkOf } from './tensors-check.ts'

const MEMORY_BYTES = 256 * 2 ** 20

const { file, bytes, tensorBytes, source, origin, seed, verifies } = parameters<TensorsPartParameters>()
if (bytes === 0) report(new Meter().stop(0, 0))
else await stream()

async function stream(): Promise<void> {
  await using model = await openSafetensors(file)
  // Returned, it stays present for what comes next: the loads that this is compared with have touched memory, too.
  allocate(MEMORY_BYTES).fill(0x5a)[Symbol.dispose]()
  const check = verifies ? checkOf(model, new Tiles(source), { origin, seed }) : null
  let streamed = 0
  const meter = new Meter()
  for await (const tensor of model.stream(undefined, { memory: MEMORY_BYTES })) {
    check?.(tensor)
    streamed += tensor.bytes.length
  }
  const outcome = meter.stop(streamed, model.size)
  if (streamed !== tensorBytes) throw new Error(`${streamed} bytes were streamed, not ${tensorBytes}`)
  report({ ...outcome, ran: await ranByEngine() })
}
