// Takes memory away in the middle of requests, in every way JavaScript has: structuredClone with transfer,
// ArrayBuffer.prototype.transfer, a message to another thread, disposal. None of them can lose engine memory. For
// memory of the program, the contract is that of node:fs: do not. If the new owner keeps it, the request fails and no
// other memory is touched.

import { MessageChannel } from 'node:worker_threads'
import { Engine, DeepringError } from 'deepring'
import { code, misplaced } from './coded.mjs'
import { collect, expect, host, parameters, report } from './host.mjs'
import { Victims } from './victims.mjs'

const { path, out, rounds } = parameters

/** Whole blocks, which the device reads into page-aligned memory itself; and some with edges. */
const LENGTHS = [1 << 20, 700_008]

const engine = new Engine({ queueDepth: 1, blockSize: 65_536 })
const file = await engine.open(path)
const target = await engine.open(out, 'r+')
const victims = new Victims()

/** The ways to take a buffer away. Each returns the new owner, or throws if it is refused. */
const ways = {
  structuredClone: (buffer) => structuredClone(buffer, { transfer: [buffer] }),
  transfer: (buffer) => buffer.transfer(),
  shorten: (buffer) => buffer.transfer(buffer.byteLength - 8),
  postMessage: (buffer) => {
    const { port1, port2 } = new MessageChannel()
    port1.postMessage(buffer, [buffer])
    port1.close()
    port2.close()
    return undefined
  },
}

/** The effect of each way on each kind of memory, for the table. */
const outcomes = {}
let writes = 0

function note(what, outcome) {
  outcomes[what] ??= {}
  outcomes[what][outcome] = (outcomes[what][outcome] ?? 0) + 1
}

/** Whether the memory was taken, and who has it. */
function take(way, buffer) {
  if (typeof buffer.transfer !== 'function' && (way === 'transfer' || way === 'shorten'))
    return { taken: false, why: 'absent' }
  try {
    const owner = ways[way](buffer)
    return buffer.byteLength === 0 ? { taken: true, owner } : { taken: false, why: 'copied' }
  } catch (error) {
    return { taken: false, why: error.name }
  }
}

async function readAndTake(kind, way, length, position, keep) {
  const memory = kind === 'engine' ? engine.allocate(length) : new Uint8Array(length)
  const reading = file.read(memory, { position })
  let { taken, owner, why } = take(way, memory.buffer)
  note(`read ${kind} ${way}`, taken ? 'taken' : why)
  if (!keep) {
    // The new owner drops the memory at once, and another one gets it.
    owner = undefined
    collect()
    victims.take(3, length)
    victims.take(3, length, (size) => engine.allocateUnsafe(size))
  }
  const result = await reading.catch((error) => error)
  if (!taken) {
    expect(!(result instanceof Error), `a read goes well if its memory stays: ${result}`)
    expect(misplaced(memory, 1, [0], position) === undefined, `${misplaced(memory, 1, [0], position)}`)
    return
  }
  expect(result instanceof DeepringError, `a read says that its memory was taken: ${result}`)
  expect(result.code === 'ERR_DEEPRING_DETACHED', `as detached: ${result.code}`)
  // The same bytes at a new owner. A shortened buffer is a copy with undefined contents.
  if (owner !== undefined && way !== 'shorten') {
    const bytes = new Uint8Array(owner, 0, length)
    expect(misplaced(bytes, 1, [0], position) === undefined, `${misplaced(bytes, 1, [0], position)}`)
  }
}

async function writeAndTake(way, length) {
  const place = writes * LENGTHS[0]
  writes += 1
  const memory = engine.allocate(length)
  code(memory, 2, 1, place)
  const writing = target.write(memory, { position: place })
  const { taken, why } = take(way, memory.buffer)
  note(`write engine ${way}`, taken ? 'taken' : why)
  collect()
  victims.take(2, length, (size) => engine.allocateUnsafe(size))
  expect((await writing).bytesWritten === length, 'a write from memory of the engine goes out as it was')
}

async function readAndDispose(length, position) {
  const memory = engine.allocate(length)
  const reading = file.read(memory, { position })
  memory[Symbol.dispose]()
  victims.take(3, length, (size) => engine.allocateUnsafe(size))
  const error = await reading.catch((reason) => reason)
  expect(error instanceof DeepringError && error.code === 'ERR_DEEPRING_DETACHED', `disposed: ${error}`)
}

let position = 0
for (let round = 0; round < rounds; round += 1) {
  for (const length of LENGTHS) {
    for (const way of Object.keys(ways)) {
      await readAndTake('engine', way, length, (position += 4096), true)
      await readAndTake('engine', way, length, (position += 4104), false)
      // A message without a receiver drops its memory. For memory of the program, that breaks the contract. So does
      // shortening.
      if (way === 'structuredClone' || way === 'transfer')
        await readAndTake('own', way, length, (position += 4096), true)
      await writeAndTake(way, length)
    }
    await readAndDispose(length, position)
  }
  const disturbed = victims.disturbed()
  expect(disturbed.length === 0, disturbed.join('; '))
  victims.release()
  collect()
  position %= 65_536
}
await target.close()
await file.close()

// Memory that could be taken away unnoticed is refused.
const buffer = new ArrayBuffer(4096, { maxByteLength: 8192 })
if (buffer.resizable === true) {
  const again = await engine.open(path)
  const error = await again.read(new Uint8Array(buffer), { position: 0 }).catch((reason) => reason)
  expect(error.code === 'ERR_DEEPRING_INVALID_ARG_VALUE', `resizable memory is refused: ${error}`)
  await again.close()
}
await engine.close()

// External memory is not transferred; Deno moves it. Nowhere is it copied silently.
const cloned = outcomes['read engine structuredClone']
const known = {
  node: ['DataCloneError'],
  bun: ['DataCloneError'],
  deno: ['taken', 'DataCloneError'],
}[host]
expect(
  Object.keys(cloned).every((outcome) => known.includes(outcome)),
  `structuredClone of engine memory: ${Object.keys(cloned)}`,
)
report({ writes, outcomes })
