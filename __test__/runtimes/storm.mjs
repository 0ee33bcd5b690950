// Appends to several files from many promises at once, and counts threads: the engine's, and those that the kernel
// starts for it.

import { open, info } from 'deepring'
import { coded } from './coded.mjs'
import { ENGINE_THREADS_MAX, expect, parameters, report, threads } from './host.mjs'

const { folder, appends } = parameters
const FILES = 8

/** The kernel's workers for a ring: 4, and one more. */
const KERNEL_MAX = 5

/** An odd number of words, so that every append has edges and ends in the middle of a sector. */
const LENGTH = 1784

const before = threads('').length
const files = await Promise.all(Array.from({ length: FILES }, (_, i) => open(`${folder}/storm-${i}`, 'w')))
let ours = 0
let kernel = 0
let done = 0
const writes = files.flatMap((file, i) =>
  Array.from({ length: appends }, async (_, at) => {
    await file.write(coded(8 + i, 0, at * LENGTH, LENGTH), { position: at * LENGTH })
    done += 1
  }),
)
const all = Promise.all(writes)
while (done < writes.length) {
  ours = Math.max(ours, threads('deepring').length)
  kernel = Math.max(kernel, threads('iou-wrk').length)
  await Promise.race([
    all,
    new Promise((resolve) => {
      setTimeout(resolve, 2)
    }),
  ])
}
await all
const after = threads('').length
await Promise.all(files.map((file) => file.close()))
const { backend } = await info()
expect(ours > 0 && ours <= ENGINE_THREADS_MAX, `threads of ours are few: ${ours} of at most ${ENGINE_THREADS_MAX}`)
expect(kernel <= KERNEL_MAX, `threads of the kernel's are few: ${kernel} of at most ${KERNEL_MAX}`)
report({ backend, ours, kernel, before, after })
