// A consumer of the installed package in TypeScript, as an ES module. It is compiled by types.spec.ts and never runs:
// what must be refused stands under @ts-expect-error, which is an error itself where nothing is refused.

import { constants } from 'node:fs'
import type { Readable, Writable } from 'node:stream'
import type { WritableStream } from 'node:stream/web'
import {
  allocate,
  allocateShared,
  allocateTensor,
  allocateUnsafe,
  appendFile,
  type AsyncBuffer,
  type Chunk,
  copyFile,
  type CopyFileResult,
  crc32c,
  crc32cAsync,
  crc32cCombine,
  DeepringError,
  DTYPES,
  Engine,
  type EngineBuffer,
  FileHandle,
  doctor,
  hashFile,
  inFlight,
  info,
  type IoTrace,
  open,
  type OpenFlags,
  type PipeResult,
  readFile,
  type ReadResult,
  type Receipt,
  type SharedFile,
  stats,
  type Tensor,
  writeFile,
} from 'deepring'
import { AioHandle, aioRead, aioReadSync, aioWrite, aioWriteSync } from 'deepring/aio'
import {
  type Checkpoint,
  type CheckpointSave,
  type CheckpointStore,
  type CheckpointWriter,
  type Generation,
  openCheckpoints,
  type Reused,
  type Skipped,
} from 'deepring/checkpoint'
import {
  type AnyTensor,
  convertTensor,
  type FileTensor,
  openSafetensors,
  saveSafetensors,
  SafetensorsWriter,
  tensorTable,
} from 'deepring/safetensors'
import {
  type AnySwapLease,
  type GroupLease,
  openOptimizerSwapper,
  type OpenOptimizerOptions,
  openSwap,
  type OptimizerGroup,
  type OptimizerStats,
  type OptimizerSwapper,
  type Slice,
  type SwapGetOptions,
  type SwapInfo,
  type SwapLease,
  type SwapPutOptions,
  SwapStore,
} from 'deepring/swap'

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
declare function holds<_Claim extends true>(): void

export async function files(signal: AbortSignal): Promise<void> {
  const weights = allocate(1 << 20)
  holds<Same<typeof weights, EngineBuffer>>()
  const bytes: Uint8Array<ArrayBuffer> = weights
  const floats = new Float32Array(weights.buffer, weights.byteOffset, 256)

  const file = await open(new URL('file:///weights.bin'), 'w+', {
    direct: 'prefer',
    mode: 0o600,
    syncDirectory: true,
    signal,
  })
  holds<Same<typeof file, FileHandle>>()
  holds<Same<typeof file.backend, 'uring' | 'threads' | 'node'>>()

  const written = await file.write(bytes, { position: 0, signal })
  holds<Same<typeof written.receipt, Receipt>>()
  const read = await file.read(floats, { position: 0n, offset: 0, length: 4, exact: false })
  holds<Same<typeof read, ReadResult<typeof floats>>>()
  const summed = await file.read(bytes, { position: 0, checksum: 'crc32c', expect: 0 })
  holds<Same<typeof summed.receipt.checksum, number | undefined>>()
  const sums: [number, Uint32Array, number] = [
    await file.checksum(),
    await file.checksum({ position: 0n, length: 8, chunk: 4, signal }),
    crc32cCombine(crc32c(floats, 0), await crc32cAsync(bytes), 8n),
  ]
  console.log(sums)
  // @ts-expect-error unknown algorithm
  await file.read(bytes, { position: 0, checksum: 'md5' })
  const count: number = read.bytesRead + written.bytesWritten + read.receipt.blocks
  await file.truncate(count)
  await file.sync({ signal })
  await file.datasync()
  const { size }: { size: number } = await file.stat()
  const { ino }: { ino: bigint } = await file.stat({ bigint: true, signal })
  const { dev }: { dev: number } = await file.stat({ bigint: false })
  console.log(ino, dev)
  await file.close()

  const called = [
    await file.read(floats, 0, 16, 0n),
    await file.read({ buffer: floats, position: 0, signal }),
    await file.write(floats, null, undefined, 5),
    await file.write('text', 5, 'utf8'),
    await file.readv([floats, bytes], 0, { signal }),
    await file.writev([floats, bytes], 0),
  ] as const
  holds<Same<(typeof called)[0], ReadResult<typeof floats>>>()
  holds<Same<(typeof called)[1], ReadResult<typeof floats>>>()
  const times: Date[] = [(await file.stat()).mtime, (await file.stat({ bigint: true })).birthtime]
  console.log(called[4].bytesRead + called[5].bytesWritten, file.fd, times)
  await open('weights.bin', constants.O_RDWR | constants.O_CREAT, { mode: '0644' })
  // @ts-expect-error the position is required in this shape, too
  await file.read(floats, 0, 16)
  // @ts-expect-error and in this one
  await file.read({ buffer: floats })

  // An option that is `undefined` counts as absent, under exactOptionalPropertyTypes too.
  const options: { position: number; signal?: AbortSignal | undefined } = { position: size, signal: undefined }
  await file.read(weights, options)
  const flags: OpenFlags = 'r'
  await open(Buffer.from('weights.bin'), flags, { direct: undefined })

  // @ts-expect-error a handle has no cursor: the position is required
  await file.read(weights, {})
  await (await open('events.log', 'a')).append(Buffer.from('line'), { offset: 1, signal })
  ;(await (await open('events.log', 'a')).append('line', { signal })).buffer.toString('hex')
  // @ts-expect-error unknown flags
  await open('weights.bin', 'b')
  // @ts-expect-error unknown option
  await open('weights.bin', 'r', { directt: 'require' })
  // @ts-expect-error text is no memory
  await file.write({ data: 'text', dtype: 'U8', shape: [4] }, { position: 0 })
  // @ts-expect-error what has data, but no shape, is no tensor
  await file.write(new MessageEvent('message'), { position: 0 })
  // @ts-expect-error an array of numbers is no memory
  await file.write([1, 2, 3], { position: 0 })
  // @ts-expect-error read-only
  file.direct = true
}

export async function threads(worker: { postMessage(value: unknown): void }): Promise<void> {
  const memory = allocateShared(1 << 20)
  holds<Same<typeof memory, Uint8Array<SharedArrayBuffer>>>()
  const file = await open('weights.bin')
  const token: SharedFile = file.share()
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
  worker.postMessage({ token, memory })
  const other: FileHandle = FileHandle.from(token)
  const { bytesRead } = await other.read(memory, { position: 0 })
  const engine = new Engine({ backend: 'threads', threads: 32 })
  console.log(bytesRead, engine)
  // @ts-expect-error a path is no token
  FileHandle.from('weights.bin')
}

export async function observing(): Promise<void> {
  const { classes } = stats()
  const buckets: [readonly number[], readonly number[]] = [classes.latency.upToUs, classes.background.counts]
  const [oldest] = inFlight()
  const age: number | undefined = oldest?.ageMs
  const advice: string[] = await doctor('.')
  const trace: Pick<IoTrace, 'call' | 'path' | 'error'> = { call: 'read', path: undefined }
  console.log(buckets, age, advice, trace, (await info()).threads)
}

export async function wholeFiles(signal: AbortSignal): Promise<void> {
  const bytes = await readFile('weights.bin', {
    signal,
    onProgress: ({ bytes: done, total }) => console.log(done / total),
  })
  holds<Same<typeof bytes, EngineBuffer>>()
  const view: Uint8Array = await readFile('weights.bin', { into: new Float32Array(4) })
  await writeFile('copy.bin', [view, 'text', new DataView(new ArrayBuffer(1))], { replace: true, durable: undefined })
  const { cloned, copied }: CopyFileResult = await copyFile('weights.bin', 'copy.bin', { clone: 'never' })
  const hash: string = await hashFile('weights.bin', 'sha256')
  await appendFile('events.log', `${hash} ${cloned} ${copied}`, { mode: 0o600 })
  // @ts-expect-error unknown option
  await readFile('weights.bin', { encoding: 'utf8' })
  // @ts-expect-error a number is no data
  await writeFile('weights.bin', 7)
}

export async function streams(sink: Writable, web: WritableStream<Uint8Array>): Promise<void> {
  const file = await open('weights.bin')
  for await (const chunk of file.chunks({ start: 0n, end: 99, chunkSize: 4096 })) {
    using held: Chunk = chunk
    const bytes: Uint8Array<ArrayBuffer> = held.bytes
    console.log(bytes, held.position)
  }
  const { lent }: PipeResult = await file.pipeTo(sink, { preventClose: true })
  await file.pipeTo(web, { readAhead: 0 })
  const readable: Readable = file.createReadStream({ highWaterMark: 65_536, encoding: 'hex', autoClose: lent })
  const reader = file.readableWebStream({ autoClose: true }).getReader({ mode: 'byob' })
  await reader.read(new Uint8Array(16))
  const writable: Writable = file.createWriteStream({ start: 5, flush: true })
  readable.pipe(writable)
  const { byteLength, slice }: AsyncBuffer = await file.asyncBuffer()
  const part: ArrayBuffer = await slice(-8, byteLength)
  console.log(part)
  // @ts-expect-error text is no number
  file.chunks({ chunkSize: '1M' })
}

export async function disposal(): Promise<void> {
  using memory = allocateUnsafe(4096n)
  await using engine = new Engine({
    backend: 'threads',
    queueDepth: 32,
    blockSize: 1 << 20,
    inFlightBytes: 1 << 25,
    maxQueued: undefined,
  })
  await using file = await engine.open('weights.bin')
  await file.read(memory, { position: 0 })
  // @ts-expect-error unknown backend
  await new Engine({ backend: 'io_uring' }).close()
}

export async function tensors(): Promise<void> {
  const tensor = allocateTensor('F32', [2, 3])
  holds<Same<typeof tensor, Tensor<'F32'>>>()
  const elsewhere: { type: string; dims: readonly number[]; location: 'cpu' } = tensor
  console.log(elsewhere)
  const first: number | undefined = tensor.data[0]
  const wide: bigint | undefined = allocateTensor('I64', []).data[0]
  const elementBytes: number = DTYPES.BF16.bytes
  const foreign = { type: 'float32', dims: [2, 3], data: new Float32Array(6), location: 'cpu' as const }
  const file = await open('weights.bin', 'r+')
  await file.read(tensor, { position: 0 })
  await file.write(foreign, { position: Number(first) + Number(wide) + elementBytes })
  // @ts-expect-error unknown element type
  allocateTensor('FLOAT', [1])
}

export async function models(signal: AbortSignal): Promise<void> {
  await using model = await openSafetensors(['a.safetensors', new URL('file:///b.safetensors')], {
    direct: 'prefer',
    strict: false,
    maxHeaderBytes: 1n << 20n,
    signal,
  })
  const metadata: ReadonlyMap<string, string> = model.metadata
  const chosen = model.select(({ dtype, byteLength }) => dtype === 'F32' && byteLength > 0)
  const names: Iterable<string> = model.names()
  const map: ReadonlyMap<string, AnyTensor> = await model.load(chosen, {
    slices: new Map([['a', [[0, 1], null] as const]]),
    into: new Map([['b', new Float32Array(4)]]),
    onProgress: ({ bytes, total }) => console.log(bytes / total),
  })
  const tensor = map.get('a')
  if (tensor?.dtype === 'F32') {
    holds<Same<typeof tensor, FileTensor<'F32'>>>()
    const floats: Float32Array<ArrayBuffer> = tensor.data
    console.log(floats)
  }
  if (tensor?.dtype === 'I64') console.log(tensor.data[0] === 0n)
  for await (const each of model.stream(/weight/, { memory: 1 << 28, order: 'given', verify: true })) {
    const kept: AnyTensor = await each.keep()
    console.log(kept.name, kept.bytes.length)
  }
  const { ok, damaged } = await model.verify()
  const receipt = await saveSafetensors('c.safetensors', map, { metadata: { step: '7' }, checksum: 'crc32c' })
  await saveSafetensors('shards', { a: allocateTensor('F32', [2]) }, { shardBytes: 5e9, order: 'reference' })
  const writer = await SafetensorsWriter.create('d.safetensors', [{ name: 'a', dtype: 'BF16', shape: [2] }])
  await writer.write('a', new Uint16Array(2), { start: 0n })
  const half = await convertTensor({ dtype: 'F32', shape: [1], data: new Float32Array(1) }, 'BF16')
  holds<Same<typeof half, Tensor<'BF16'>>>()
  const row = { name: 'x', dtype: 'Q4_K', shape: [256], path: 'm.gguf', position: 0n, length: 144 }
  await (await tensorTable([row])).close()
  console.log(metadata, names, ok, damaged[0]?.tensor, receipt.bytes, (await writer.finish()).files)
  // @ts-expect-error the names of slices are in a map
  await model.load(undefined, { slices: { a: [[0, 1]] } })
  // @ts-expect-error a selection is no text
  model.select(7)
  // @ts-expect-error narrower types need a scale
  await convertTensor(half, 'F8_E4M3')
  // @ts-expect-error a tensor has an element type
  await saveSafetensors('e.safetensors', { a: new Uint8Array(1) })
}

export async function swapping(signal: AbortSignal): Promise<void> {
  await using store = await openSwap(new URL('file:///swap'), {
    memory: 1n << 20n,
    create: true,
    durable: true,
    signal,
  })
  holds<Same<typeof store, SwapStore>>()
  await store.put('weight', allocateTensor('F32', [2, 2]), { signal })
  await store.putMany(new Map([['other', allocateTensor('BF16', [2])]]), { adopt: true, pin: true })
  const options: SwapPutOptions = { convert: 'BF16', pin: undefined }
  await store.put('half', allocateTensor('F32', [2]), options)
  // @ts-expect-error nothing is narrowed to fewer than 16 bits
  await store.put('half', allocateTensor('F32', [2]), { convert: 'F8_E4M3' })
  const slice: Slice = [[0, 1], null]
  const slicing: SwapGetOptions = { slice, signal }
  const part: AnySwapLease = await store.get('weight', slicing)
  // @ts-expect-error a slice only reads
  await store.getMut('weight', { slice })
  using lease = await store.get('weight')
  holds<Same<typeof lease, AnySwapLease>>()
  if (lease.dtype === 'F32') holds<Same<typeof lease.data, Float32Array<ArrayBuffer>>>()
  const fresh: SwapLease<'I64'> = await store.lease('new', 'I64', [7])
  fresh.data[0] = 1n
  await fresh.close({ write: true })
  const [one]: AnySwapLease[] = await store.getMany(new Set(['weight']))
  await store.getInto('weight', new Float32Array(4))
  store.plan(['weight'], { repeat: true })
  store.prefetch(['weight'], { expiresMs: 100 })
  const known: SwapInfo | undefined = store.info('weight')
  const { used, hits }: { readonly used: number; readonly hits: number } = store.stats()
  await using over = SwapStore.over(await openSafetensors('model.safetensors'), { memory: 1 << 20 })
  const directory: string | undefined = over.directory
  console.log(one, part, known, used, hits, directory)
  // @ts-expect-error a store has a budget
  await openSwap('swap', { create: true })
}

export async function optimizing(signal: AbortSignal, options: OpenOptimizerOptions): Promise<void> {
  await using swapper = await openOptimizerSwapper('optimizer', {
    groups: [
      { name: 'a', numel: 10, states: ['m', 'v'], gradient: 'BF16' },
      { name: 'b', numel: 10, states: ['m'], gradient: 'BF16' },
    ],
    depth: 'auto',
    memory: 1n << 20n,
    signal,
  })
  await swapper.initialize('a', { param: new Float32Array(10) })
  await swapper.initializeFrom('a', await openSafetensors('model.safetensors'), new Map([['m', 'x']]), {
    convert: true,
  })
  await swapper.putGradient('a', 0, new Uint16Array(10), { signal })
  swapper.reset('a', ['m'])
  for await (const { name, param, states, gradient } of swapper.step({ order: ['a'], signal })) {
    holds<Same<typeof param, Float32Array<ArrayBuffer>>>()
    holds<Same<typeof gradient, Uint16Array<ArrayBuffer>>>()
    const { m }: { readonly m: Float32Array<ArrayBuffer> } = states
    console.log(name, m)
    // @ts-expect-error no group has such a state
    console.log(states.exp_avg)
  }
  const store = await openCheckpoints('run-1')
  await using writer = await store.begin()
  await swapper.snapshot(writer)
  const counted: OptimizerStats = swapper.stats()

  const any: OptimizerSwapper = await openOptimizerSwapper('other', options)
  const groups: readonly Readonly<OptimizerGroup>[] = any.groups
  for await (const group of any.step()) {
    holds<Same<typeof group, GroupLease>>()
    const length: number | undefined = group.states['m']?.length
    await group.close({ write: ['param'] })
    console.log(length)
  }
  console.log(counted, groups)
}

export async function checkpoints(signal: AbortSignal): Promise<void> {
  await using store = await openCheckpoints(new URL('file:///run-1'), {
    create: true,
    keep: { last: 3, every: undefined },
    signal,
  })
  holds<Same<typeof store, CheckpointStore>>()
  const weight = allocateTensor('F32', [2, 2])
  const save = store.save(
    { weight },
    {
      step: 1000,
      meta: { loss: 0.25 },
      staging: 1n << 26n,
      onProgress: ({ bytes, total }) => console.log(bytes / total),
    },
  )
  holds<Same<typeof save, CheckpointSave>>()
  const captured: void = await save.captured
  const generation = await save
  holds<Same<typeof generation, Generation>>()
  const same: Promise<Generation> = save.committed
  const { linked, cloned, copied }: Reused = generation.reused

  await using first = await store.begin({
    writers: 2,
    reference: 'latest',
    patienceMs: 1000,
    direct: 'require',
    signal,
  })
  const second: CheckpointWriter = await store.join(first.token, 1, { staging: 1 << 20 })
  await second.put('weight', weight, { shape: [4, 2], start: [2, 0], group: 'main', signal })
  await second.putAll(new Map([['other', weight]]), { group: 'rest' })
  await second.commit({ signal })
  first.meta = [1, 'two', null]
  const taken: Reused[] = [await first.reference('frozen.0'), await first.referenceGroup('frozen')]
  const { number, bytes }: Generation = await first.commit()

  const { checkpoint, skipped } = await store.latest({ verify: 'all', signal })
  holds<Same<typeof checkpoint, Checkpoint | undefined>>()
  holds<Same<typeof skipped, readonly Skipped[]>>()
  const reasons: (string | undefined)[] = skipped.map(({ reason }: { reason: DeepringError }) => reason.reason)
  await using opened = await store.open(number)
  const step: number | undefined = opened.step
  const created: Date = opened.created
  const meta: unknown = opened.meta
  const map: ReadonlyMap<string, AnyTensor> = await opened.load(/^weight/, { verify: false })
  await opened.copyTo('backup', { signal })
  const numbers: readonly number[] = await store.list()
  await store.pin(number)
  await store.unpin(number)
  const pinned: boolean = await store.isPinned(number)
  const { generations, temporaries } = await store.collect()
  await store.remove(number)
  const { generation: lost, writers }: { generation?: number | undefined; writers?: readonly number[] | undefined } =
    new DeepringError('why', { code: 'ERR_DEEPRING_INCOMPLETE', generation: 7, writers: [1] })
  console.log(captured, same, linked, cloned, copied, taken, bytes, reasons, step, created, meta, map, numbers)
  console.log(pinned, generations, temporaries, lost, writers)
  // @ts-expect-error a generation has a number
  await store.open('latest')
  // @ts-expect-error a reference is a number or 'latest'
  await store.begin({ reference: 'newest' })
  // @ts-expect-error a tensor has an element type
  await first.put('raw', new Uint8Array(1))
  // @ts-expect-error unknown option
  store.save({ weight }, { writers: 2 })
  // @ts-expect-error read-only
  save.captured = Promise.resolve()
}

export async function aio(): Promise<void> {
  const tensor = allocate(4096)
  const options = { blockSize: 1 << 20, queueDepth: 128, singleSubmit: false, overlapEvents: true, validate: true }
  const zero: 0 = await aioWrite(tensor, 'tensor.bin', options)
  const alsoZero: 0 = await aioRead(tensor, 'tensor.bin')
  const blocking: 0 = aioWriteSync(tensor, 'tensor.bin') || aioReadSync(tensor, 'tensor.bin', { validate: true })
  const handle = new AioHandle({ blockSize: 1 << 20, queueDepth: 32, overlapEvents: true, intraOpParallelism: 2 })
  const queued: number = handle.asyncPwrite(tensor, 'tensor.bin') + handle.asyncPread(tensor, 'tensor.bin', 4096)
  const settled: number = await handle.wait()
  const pinned: boolean = handle.isPinned(handle.newCpuLockedTensor(settled, new Float32Array(0)))
  console.log(zero, alsoZero, blocking, queued, pinned, handle.getBlockSize(), handle.getAlignment())
}

export async function reporting(): Promise<string> {
  const { backend, reason, path } = await info('.')
  const { latency, bouncedBytes } = stats()
  try {
    await open('missing')
  } catch (error) {
    if (!(error instanceof DeepringError)) throw error
    const errno: number | undefined = error.errno
    return `${error.code} ${errno} ${error.syscall} ${error.path} ${error.position} ${error.requested} ${error.transferred}`
  }
  return `${backend} ${reason} ${path?.direct} ${latency.p99Us} ${bouncedBytes}`
}
