// Calls every public function, property and method once and checks its result. The list of public names comes from the
// modules: an export or method without a check here fails the program, and so does a check without an export.

import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { createWriteStream, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import process from 'node:process'
import * as deepring from 'deepring'
import * as aio from 'deepring/aio'
import * as checkpoint from 'deepring/checkpoint'
import * as tensors from 'deepring/safetensors'
import * as swap from 'deepring/swap'
import { code, coded, misplaced } from './coded.mjs'
import { expect, parameters, report } from './host.mjs'
import { surfaceOf, unevenness } from './surface.mjs'

const { folder } = parameters
const LENGTH = 100_008
const path = `${folder}/smoke`
const content = coded(6, 0, 0, LENGTH)
const { AioHandle, aioRead, aioReadSync, aioWrite, aioWriteSync } = aio
const { BigIntFileStat, DeepringError, DTYPES, Engine, FileHandle, FileStat } = deepring
const text = new TextEncoder().encode('123456789')

writeFileSync(path, content)
const engine = new Engine({ queueDepth: 4 })
const file = await deepring.open(path, 'r+')
const own = await engine.open(pathToFileURL(path), 'r', { direct: 'never' })
const handle = new AioHandle({ blockSize: 5000, queueDepth: 2, intraOpParallelism: 3, engine })

const { SafetensorsFile, SafetensorsWriter, TensorTable } = tensors
const modelPath = `${folder}/smoke.safetensors`
const layout = [{ name: 'content', dtype: 'U8', shape: [LENGTH] }]
const bytesTensor = { dtype: 'U8', shape: [LENGTH], data: content }
await tensors.saveSafetensors(modelPath, { content: bytesTensor }, { checksum: 'crc32c' })
const model = await tensors.openSafetensors(modelPath)
const table = await tensors.tensorTable([
  { name: 'middle', dtype: 'U8', shape: [160], path, position: 80, length: 160 },
])

const { Checkpoint, CheckpointStore, CheckpointWriter, openCheckpoints } = checkpoint
const storePath = `${folder}/smoke-store`
const store = await openCheckpoints(storePath, { create: true, keep: 'all' })
await store.save({ content: bytesTensor }, { step: 7, meta: ['any'], group: 'frozen' })
const generation = await store.open(1)

const { GroupLease, openOptimizerSwapper, openSwap, OptimizerSwapper, SwapLease, SwapStore } = swap
const swapPath = `${folder}/smoke-swap`
const swapped = await openSwap(swapPath, { memory: 1 << 20, create: true })
await swapped.put('content', bytesTensor)

const optimizerPath = `${folder}/smoke-optimizer`
const optimizerGroups = [{ name: 'a', numel: 1000, states: ['m'], gradient: 'F32' }]
const optimizer = await openOptimizerSwapper(optimizerPath, { groups: optimizerGroups, create: true })

/** The answer of a function that gets the group of a step. */
async function withGroup(use) {
  for await (const group of optimizer.step()) return await use(group)
}

/** The answer of a function that gets a lease, which is closed then. */
async function withLease(use, made = () => swapped.get('content')) {
  const lease = await made()
  try {
    return await use(lease)
  } finally {
    await lease.close({ write: false })
  }
}

/** The answer of a function that gets a writer, which is aborted then. */
async function withWriter(use) {
  const writer = await store.begin({ step: 8, reference: 'latest' })
  try {
    return await use(writer)
  } finally {
    await writer.abort()
  }
}

/** Whether a class can be instantiated by the package only. */
function cannotBeMade(made) {
  try {
    return Reflect.construct(made, []) === undefined
  } catch (error) {
    return error.code === 'ERR_DEEPRING_INVALID_ARG_TYPE'
  }
}

function right(memory, what, position = 0) {
  const fault = misplaced(memory, 6, [0], position)
  expect(fault === undefined, `${what}: ${fault}`)
}

/** Whether a class has the mark by which other copies of the package recognize it. */
function marked({ name, prototype }) {
  return typeof prototype[Symbol.for(`deepring.${name}`)] === 'string'
}

function empty() {
  return new Uint8Array(LENGTH)
}

/** The bytes that `write` wrote to a new file. */
async function written(write) {
  const target = `${folder}/smoke-written`
  const answer = await write(target)
  right(readFileSync(target), String(write))
  expect(readFileSync(target).length === LENGTH, 'the whole file, and no more')
  rmSync(target)
  return answer
}

/** One check for each public name: true, or a promise of true, if it works. */
const checks = {
  'deepring.open': () => file instanceof FileHandle,
  'deepring.readMany': async () => {
    const memory = new Uint8Array(96)
    const [result] = await deepring.readMany([{ file, buffer: memory, positions: [160], lengths: 96 }])
    right(memory, 'readMany of files', 160)
    return result.bytesRead === 96
  },
  'deepring.readManyBatches': async () => {
    const [memory, came] = [new Uint8Array(96), []]
    const request = { file, buffer: memory, positions: [160, 208], lengths: 48 }
    for await (const batch of deepring.readManyBatches([request])) came.push(...batch)
    right(memory, 'readManyBatches', 160)
    return came.length === 2
  },
  'deepring.readFile': async () => {
    const bytes = await deepring.readFile(path)
    right(bytes, 'readFile')
    return bytes.byteLength === LENGTH
  },
  'deepring.writeFile': async () => {
    await written((target) => deepring.writeFile(target, content, { replace: true }))
    return true
  },
  'deepring.appendFile': async () => {
    await written(async (target) => {
      await deepring.appendFile(target, content.subarray(0, 5001))
      await deepring.appendFile(target, content.subarray(5001))
    })
    return true
  },
  'deepring.copyFile': async () => {
    const { bytes } = await written((target) => deepring.copyFile(path, target))
    return bytes === LENGTH
  },
  'deepring.hashFile': async () => {
    const hash = createHash('sha256').update(content).digest('hex')
    return (await deepring.hashFile(path, 'sha256')) === hash
  },
  'deepring.allocate': () => deepring.allocate(5000).every((byte) => byte === 0),
  'deepring.allocateUnsafe': () => deepring.allocateUnsafe(5000n).byteLength === 5000,
  'deepring.allocateTensor': () => deepring.allocateTensor('I64', [2, 3]).data.length === 6,
  'deepring.info': async () => (await deepring.info(folder)).path.offsetAlignment >= 1,
  'deepring.stats': () => deepring.stats().submitted >= 0 && deepring.stats().latency.count >= 0,
  'deepring.trim': () => deepring.trim() === undefined && deepring.stats().pooledBytes === 0,
  'deepring.crc32c': () => deepring.crc32c(text) === 0xe3069283 && deepring.crc32c(new Uint8Array()) === 0,
  'deepring.crc32cAsync': async () => (await deepring.crc32cAsync(text)) === 0xe3069283,
  'deepring.crc32cCombine': () =>
    deepring.crc32cCombine(deepring.crc32c(text.subarray(0, 4)), deepring.crc32c(text.subarray(4)), 5) === 0xe3069283,
  'deepring.DTYPES': () => DTYPES.F32.View === Float32Array && DTYPES.BF16.bytes === 2,

  'deepring.DeepringError': async () => {
    const error = await deepring.open(`${folder}/none/x`).catch((reason) => reason)
    return error instanceof DeepringError && error.code === 'ENOENT' && error.errno === -2 && error.syscall === 'open'
  },
  'deepring.DeepringError.@@hasInstance': () => !(new Error('why') instanceof DeepringError),
  'deepring.DeepringError.prototype.@@deepring.DeepringError': () => marked(DeepringError),
  'deepring.DeepringError.prototype.name': () => new DeepringError('why', { code: 'EIO' }).name === 'DeepringError',

  'deepring.Engine': () => engine instanceof Engine,
  'deepring.Engine.default': () => Engine.default === file.engine,
  'deepring.Engine.prototype.open': async () => {
    const memory = empty()
    const { bytesRead, receipt } = await own.read(memory, { position: 0 })
    right(memory, 'Engine.open')
    return bytesRead === LENGTH && receipt.direct === false
  },
  'deepring.Engine.prototype.allocate': () => engine.allocate(1).length === 1,
  'deepring.Engine.prototype.allocateUnsafe': () => engine.allocateUnsafe(2).length === 2,
  'deepring.Engine.prototype.allocateTensor': () => engine.allocateTensor('U8', [3]).data.length === 3,
  'deepring.Engine.prototype.info': async () => (await engine.info()).queueDepth === 4,
  'deepring.Engine.prototype.stats': () => engine.stats().readBytes >= 0,
  'deepring.Engine.prototype.trim': () => engine.trim() === undefined && engine.stats().pooledBytes === 0,
  'deepring.Engine.prototype.close': async () => {
    const brief = new Engine()
    await brief.close()
    return brief.open(path).catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'deepring.Engine.prototype.@@deepring.Engine': () => marked(Engine),
  'deepring.Engine.prototype.@@util.inspect.custom': () => inspect(engine).startsWith('Engine {'),
  'deepring.Engine.prototype.@@asyncDispose': async () => {
    const brief = new Engine()
    await brief[Symbol.asyncDispose]()
    return brief.info().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },

  'deepring.FileHandle': () => {
    try {
      return Reflect.construct(FileHandle, []) === undefined
    } catch (error) {
      return error.code === 'ERR_DEEPRING_INVALID_ARG_TYPE'
    }
  },
  'deepring.FileHandle.prototype.path': () => file.path === path,
  'deepring.FileHandle.prototype.engine': () => own.engine === engine,
  'deepring.FileHandle.prototype.direct': () => typeof file.direct === 'boolean' && own.direct === false,
  'deepring.FileHandle.prototype.directReason': () => file.directReason !== '',
  'deepring.FileHandle.prototype.locks': () => typeof file.locks === 'boolean',
  'deepring.FileHandle.prototype.locksReason': () => file.locksReason !== '',
  'deepring.FileHandle.prototype.backend': () => ['uring', 'threads'].includes(file.backend),
  'deepring.FileHandle.prototype.alignment': () => file.alignment.offset >= 1 && file.alignment.memory >= 1,
  'deepring.FileHandle.prototype.read': async () => {
    const memory = deepring.allocate(LENGTH)
    const { bytesRead, buffer } = await file.read(memory, { position: 0 })
    right(memory, 'read')
    return bytesRead === LENGTH && buffer === memory
  },
  'deepring.FileHandle.prototype.write': async () => {
    const other = await deepring.open(`${folder}/smoke-write`, 'wx+')
    const memory = engine.allocate(LENGTH)
    code(memory, 6, 0, 0)
    const { bytesWritten } = await other.write(memory, { position: 0 })
    await other.close()
    right(readFileSync(`${folder}/smoke-write`), 'write')
    return bytesWritten === LENGTH
  },
  'deepring.FileHandle.prototype.readv': async () => {
    const buffers = [new Uint8Array(96), new Uint8Array(48)]
    const { bytesRead } = await file.readv(buffers, 160)
    right(Buffer.concat(buffers), 'readv', 160)
    return bytesRead === 144
  },
  'deepring.FileHandle.prototype.writev': async () => {
    const parts = [content.subarray(160, 256), content.subarray(256, 304)]
    return (await file.writev(parts, 160)).bytesWritten === 144
  },
  'deepring.FileHandle.from': async () => {
    const other = deepring.FileHandle.from(file.share())
    const { fd } = other
    await other.close()
    return fd === file.fd && file.closed === false
  },
  'deepring.FileHandle.prototype.share': () => structuredClone(file.share()).path === path,
  'deepring.FileHandle.prototype.toString': () => String(file).startsWith('FileHandle '),
  'deepring.FileHandle.prototype.@@toStringTag': () => Object.prototype.toString.call(file).includes('share()'),
  'deepring.allocateShared': async () => {
    const memory = deepring.allocateShared(4096)
    await file.read(memory, { position: 160 })
    right(memory, 'allocateShared', 160)
    return memory.buffer instanceof SharedArrayBuffer
  },
  'deepring.inFlight': async () => {
    const reading = file.read(new Uint8Array(48), { position: 160 })
    const [{ call, position }] = deepring.inFlight()
    await reading
    return call === 'read' && position === 160 && deepring.inFlight().length === 0
  },
  'deepring.doctor': async () => (await deepring.doctor(folder)).every((advice) => typeof advice === 'string'),
  'deepring.Engine.prototype.doctor': async () => Array.isArray(await engine.doctor()),
  'deepring.FileHandle.prototype.fd': () => file.fd > 2,
  'deepring.FileHandle.prototype.append': async () => {
    await written(async (target) => {
      const log = await deepring.open(target, 'ax')
      await log.append(content, { length: 5001 })
      await log.append(content, { offset: 5001 })
      await log.close()
    })
    return true
  },
  'deepring.FileHandle.prototype.chunks': async () => {
    let position = 0
    for await (const chunk of file.chunks({ chunkSize: 4096 })) {
      right(chunk.bytes, 'chunks', position)
      position += chunk.byteLength
      chunk.dispose()
    }
    return position === LENGTH
  },
  'deepring.FileHandle.prototype.pipeTo': async () => {
    await written((target) => file.pipeTo(createWriteStream(target)))
    return true
  },
  'deepring.FileHandle.prototype.createReadStream': async () => {
    const parts = []
    for await (const part of file.createReadStream({ autoClose: false })) parts.push(part)
    right(Buffer.concat(parts), 'createReadStream')
    return Buffer.concat(parts).length === LENGTH
  },
  'deepring.FileHandle.prototype.readableWebStream': async () => {
    const bytes = new Uint8Array(await new Response(file.readableWebStream()).arrayBuffer())
    right(bytes, 'readableWebStream')
    return bytes.length === LENGTH
  },
  'deepring.FileHandle.prototype.createWriteStream': async () => {
    await written(async (target) => {
      const stream = (await deepring.open(target, 'wx')).createWriteStream()
      await pipeline(Readable.from([content.subarray(0, 7), content.subarray(7)]), stream)
    })
    return true
  },
  'deepring.FileHandle.prototype.asyncBuffer': async () => {
    const buffer = await file.asyncBuffer()
    right(new Uint8Array(await buffer.slice(800, 1600)), 'asyncBuffer', 800)
    return buffer.byteLength === LENGTH
  },
  'deepring.FileHandle.prototype.checksum': async () => {
    const memory = deepring.allocate(LENGTH)
    const { receipt } = await file.read(memory, { position: 0, checksum: 'crc32c' })
    const chunks = await file.checksum({ chunk: LENGTH })
    return receipt.checksum === deepring.crc32c(memory) && chunks[0] === (await file.checksum())
  },
  'deepring.FileHandle.prototype.readMany': async () => {
    const memory = new Uint8Array(200)
    const { bytesRead } = await file.readMany(memory, { positions: [800, 16], lengths: [96, 104] })
    right(memory.subarray(0, 96), 'readMany', 800)
    right(memory.subarray(96), 'readMany', 16)
    return bytesRead === 200
  },
  'deepring.FileHandle.prototype.writeMany': async () => {
    const other = await deepring.open(`${folder}/smoke-many`, 'wx')
    const ranges = { positions: [50_000, 0], lengths: [LENGTH - 50_000, 50_000], offsets: [50_000, 0] }
    const { bytesWritten } = await other.writeMany(content, ranges)
    await other.close()
    right(readFileSync(`${folder}/smoke-many`), 'writeMany')
    return bytesWritten === LENGTH
  },
  'deepring.FileHandle.prototype.sync': async () => (await file.sync()) === undefined,
  'deepring.FileHandle.prototype.datasync': async () => (await file.datasync()) === undefined,
  'deepring.FileHandle.prototype.stat': async () => (await file.stat()).size === LENGTH,
  'deepring.FileHandle.prototype.truncate': async () => {
    const other = await deepring.open(`${folder}/smoke-write`, 'r+')
    await other.truncate(4104)
    const { size } = await other.stat()
    await other.close()
    right(readFileSync(`${folder}/smoke-write`), 'truncate')
    return size === 4104
  },
  'deepring.FileHandle.prototype.close': async () => {
    const other = await deepring.open(path)
    await other.close()
    return other.stat().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'deepring.FileHandle.prototype.closed': () => file.closed === false,
  'deepring.FileHandle.prototype.@@deepring.FileHandle': () => marked(FileHandle),
  'deepring.FileHandle.prototype.@@util.inspect.custom': () => inspect(file).startsWith('FileHandle {'),
  'deepring.FileHandle.prototype.@@asyncDispose': async () => {
    const other = await deepring.open(path)
    await other[Symbol.asyncDispose]()
    return other.stat().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },

  'deepring.BigIntFileStat': async () => {
    const stat = await file.stat({ bigint: true })
    return stat instanceof BigIntFileStat && stat.isFile() && !stat.isDirectory() && stat.mtime.getTime() > 0
  },
  'deepring.FileStat': async () => {
    const stat = await file.stat()
    return stat instanceof FileStat && stat.isFile() && !stat.isDirectory() && stat.mtime.getTime() > 0
  },

  'EngineBuffer.@@dispose': () => {
    const memory = deepring.allocate(4096)
    memory[Symbol.dispose]()
    return memory.byteLength === 0
  },
  'Tensor.@@util.inspect.custom': () => inspect(deepring.allocateTensor('F16', [10])).startsWith('Tensor {'),
  'Tensor.@@dispose': () => {
    const tensor = deepring.allocateTensor('F16', [10])
    tensor[Symbol.dispose]()
    return tensor.data.length === 0
  },

  'safetensors.openSafetensors': () => model instanceof SafetensorsFile,
  'safetensors.saveSafetensors': async () => {
    const { files } = await tensors.saveSafetensors(`${folder}/smoke-saved`, { content: bytesTensor })
    rmSync(`${folder}/smoke-saved`)
    return files === 1
  },
  'safetensors.tensorTable': () => table instanceof TensorTable && !(table instanceof SafetensorsFile),
  'safetensors.convertTensor': async () => {
    const half = { dtype: 'BF16', shape: [1], data: new Uint16Array([0x3fc0]) }
    return (await tensors.convertTensor(half, 'F32')).data[0] === 1.5
  },
  'safetensors.SafetensorsFile': () => cannotBeMade(SafetensorsFile),
  'safetensors.SafetensorsFile.prototype.metadata': () => model.metadata.get('format') === 'pt',
  'safetensors.SafetensorsFile.prototype.unindexed': () => model.unindexed.length === 0,
  'safetensors.SafetensorsFile.prototype.missing': () => model.missing.length === 0,
  'safetensors.SafetensorsFile.prototype.trailing': () => model.trailing === 0,
  'safetensors.SafetensorsFile.prototype.table': () => model.table().size === 1,
  'safetensors.SafetensorsFile.prototype.@@deepring.SafetensorsFile': () => marked(SafetensorsFile),
  'safetensors.SafetensorsFile.prototype.@@util.inspect.custom': () => inspect(model).startsWith('SafetensorsFile {'),
  'safetensors.TensorTable': () => cannotBeMade(TensorTable),
  'safetensors.TensorTable.prototype.size': () => model.size === 1 && table.size === 1,
  'safetensors.TensorTable.prototype.bytes': () => model.bytes === LENGTH,
  'safetensors.TensorTable.prototype.largest': () => model.largest === LENGTH,
  'safetensors.TensorTable.prototype.files': () => model.files[0] === modelPath,
  'safetensors.TensorTable.prototype.has': () => model.has('content') && !model.has('none'),
  'safetensors.TensorTable.prototype.info': () => model.info('content').byteLength === LENGTH,
  'safetensors.TensorTable.prototype.names': () => [...model.names()].join() === 'content',
  'safetensors.TensorTable.prototype.select': () => model.select(/tent/).count === 1,
  'safetensors.TensorTable.prototype.tensor': async () => {
    const tensor = await table.tensor('middle')
    right(tensor.data, 'TensorTable.tensor', 80)
    return tensor.byteLength === 160
  },
  'safetensors.TensorTable.prototype.load': async () => {
    const loaded = await model.load()
    right(loaded.get('content').data, 'TensorTable.load')
    loaded[Symbol.dispose]()
    return loaded.size === 1
  },
  'safetensors.TensorTable.prototype.stream': async () => {
    let count = 0
    for await (const { data } of model.stream()) {
      right(data, 'TensorTable.stream')
      count += 1
    }
    return count === 1
  },
  'safetensors.TensorTable.prototype.verify': async () => (await model.verify()).ok === true,
  'safetensors.TensorTable.prototype.close': async () => {
    const other = await tensors.openSafetensors(modelPath)
    await other.close()
    return other.load().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'safetensors.TensorTable.prototype.@@asyncDispose': async () => {
    const other = await tensors.openSafetensors(modelPath)
    await other[Symbol.asyncDispose]()
    return other.load().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'safetensors.TensorTable.prototype.@@deepring.TensorTable': () => marked(TensorTable),
  'safetensors.TensorTable.prototype.@@util.inspect.custom': () => inspect(table).startsWith('TensorTable {'),
  'safetensors.Selection': () => model.select(['content']) instanceof tensors.Selection,
  'safetensors.TensorMap': async () => (await model.load()) instanceof tensors.TensorMap,
  'safetensors.TensorMap.prototype.size': async () => (await model.load()).size === 1,
  'safetensors.TensorMap.prototype.has': async () => (await model.load()).has('content'),
  'safetensors.TensorMap.prototype.get': async () => (await model.load()).get('none') === undefined,
  'safetensors.TensorMap.prototype.keys': async () => [...(await model.load()).keys()].join() === 'content',
  'safetensors.TensorMap.prototype.values': async () => [...(await model.load()).values()][0].dtype === 'U8',
  'safetensors.TensorMap.prototype.entries': async () => [...(await model.load()).entries()][0][0] === 'content',
  'safetensors.TensorMap.prototype.forEach': async () => {
    const seen = []
    const loaded = await model.load()
    loaded.forEach((tensor, name, map) => seen.push(tensor.name === name && map === loaded))
    return seen.join() === 'true'
  },
  'safetensors.TensorMap.prototype.@@iterator': async () => new Map(await model.load()).has('content'),
  'safetensors.TensorMap.prototype.@@dispose': async () => {
    const loaded = await model.load()
    loaded[Symbol.dispose]()
    return loaded.get('content').released
  },
  'safetensors.FileTensor': async () => (await model.tensor('content')) instanceof tensors.FileTensor,
  'safetensors.FileTensor.prototype.type': async () => (await model.tensor('content')).type === 'uint8',
  'safetensors.FileTensor.prototype.dims': async () => (await model.tensor('content')).dims[0] === LENGTH,
  'safetensors.FileTensor.prototype.location': async () => (await model.tensor('content')).location === 'cpu',
  'safetensors.FileTensor.prototype.@@util.inspect.custom': async () =>
    inspect(await model.tensor('content')).startsWith('FileTensor {'),
  'safetensors.FileTensor.prototype.data': async () => (await model.tensor('content')).data instanceof Uint8Array,
  'safetensors.FileTensor.prototype.releasedError': async () => {
    const tensor = await model.tensor('content')
    tensor[Symbol.dispose]()
    try {
      return tensor.data
    } catch (error) {
      return error.code === 'ERR_DEEPRING_RELEASED' && error.tensor === 'content'
    }
  },
  'safetensors.SafetensorsWriter': () => cannotBeMade(SafetensorsWriter),
  'safetensors.SafetensorsWriter.create': async () => {
    const writer = await SafetensorsWriter.create(`${folder}/smoke-created`, layout)
    await writer.abort()
    return writer instanceof SafetensorsWriter
  },
  'safetensors.SafetensorsWriter.prototype.write': async () => {
    const writer = await SafetensorsWriter.create(`${folder}/smoke-written`, layout)
    await writer.write('content', content.subarray(8), { start: 8 })
    await writer.write('content', content.subarray(0, 8))
    await writer.finish()
    const result = await tensors.openSafetensors(`${folder}/smoke-written`)
    right((await result.tensor('content')).data, 'SafetensorsWriter.write')
    await result.close()
    return true
  },
  'safetensors.SafetensorsWriter.prototype.finish': async () => {
    const writer = await SafetensorsWriter.create(`${folder}/smoke-finished`, layout)
    return writer.finish().catch((error) => error.code === 'ERR_DEEPRING_INVALID')
  },
  'safetensors.SafetensorsWriter.prototype.abort': async () => {
    const writer = await SafetensorsWriter.create(`${folder}/smoke-aborted`, layout)
    await writer.abort()
    return writer.finish().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'safetensors.SafetensorsWriter.prototype.@@asyncDispose': async () => {
    const writer = await SafetensorsWriter.create(`${folder}/smoke-disposed`, layout)
    await writer[Symbol.asyncDispose]()
    return writer.finish().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'safetensors.SafetensorsWriter.prototype.@@deepring.SafetensorsWriter': () => marked(SafetensorsWriter),
  'safetensors.SafetensorsWriter.prototype.@@util.inspect.custom': async () => {
    const writer = await SafetensorsWriter.create(`${folder}/smoke-shown`, layout)
    await writer.abort()
    return inspect(writer).startsWith('SafetensorsWriter {')
  },
  'checkpoint.openCheckpoints': () => store instanceof CheckpointStore,
  'checkpoint.CheckpointStore': () => cannotBeMade(CheckpointStore),
  'checkpoint.CheckpointStore.prototype.directory': () => store.directory === storePath,
  'checkpoint.CheckpointStore.prototype.save': async () => {
    const saving = store.save({ content: bytesTensor }, { staging: 1 << 20 })
    await saving.captured
    const { number, files } = await saving
    await store.remove(number)
    return saving.committed === saving && files === 1
  },
  'checkpoint.CheckpointStore.prototype.begin': () => withWriter((writer) => writer instanceof CheckpointWriter),
  'checkpoint.CheckpointStore.prototype.join': async () => {
    const first = await store.begin({ writers: 2 })
    const second = await store.join(first.token, 1)
    await second.put('content', bytesTensor)
    await second.commit()
    const { number } = await first.commit()
    await store.remove(number)
    return second.writer === 1
  },
  'checkpoint.CheckpointStore.prototype.open': () => generation instanceof Checkpoint,
  'checkpoint.CheckpointStore.prototype.latest': async () => {
    const { checkpoint: found, skipped } = await store.latest({ verify: 'all' })
    await found.close()
    return found.number === 1 && skipped.length === 0
  },
  'checkpoint.CheckpointStore.prototype.list': async () => (await store.list()).join() === '1',
  'checkpoint.CheckpointStore.prototype.pin': async () => {
    await store.pin(1)
    const pinned = await store.isPinned(1)
    await store.unpin(1)
    return pinned
  },
  'checkpoint.CheckpointStore.prototype.unpin': async () => {
    await store.unpin(1)
    return !(await store.isPinned(1))
  },
  'checkpoint.CheckpointStore.prototype.isPinned': async () => (await store.isPinned(1)) === false,
  'checkpoint.CheckpointStore.prototype.remove': () =>
    store.remove(1).catch((error) => error.code === 'ERR_DEEPRING_CONFLICT' && error.generation === 1),
  'checkpoint.CheckpointStore.prototype.collect': async () => (await store.collect()).generations.length === 0,
  'checkpoint.CheckpointStore.prototype.close': async () => {
    const other = await openCheckpoints(storePath)
    await other.close()
    return other.list().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'checkpoint.CheckpointStore.prototype.@@asyncDispose': async () => {
    const other = await openCheckpoints(storePath)
    await other[Symbol.asyncDispose]()
    return other.list().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'checkpoint.CheckpointStore.prototype.@@deepring.CheckpointStore': () => marked(CheckpointStore),
  'checkpoint.CheckpointStore.prototype.@@util.inspect.custom': () => inspect(store).startsWith('CheckpointStore {'),
  'checkpoint.CheckpointWriter': () => cannotBeMade(CheckpointWriter),
  'checkpoint.CheckpointWriter.prototype.generation': () => withWriter(({ generation: number }) => number > 1),
  'checkpoint.CheckpointWriter.prototype.token': () => withWriter(({ token }) => typeof token === 'string'),
  'checkpoint.CheckpointWriter.prototype.writer': () => withWriter(({ writer }) => writer === 0),
  'checkpoint.CheckpointWriter.prototype.meta': () =>
    withWriter((writer) => {
      writer.meta = { loss: 0.5 }
      return writer.meta.loss === 0.5
    }),
  'checkpoint.CheckpointWriter.prototype.put': () =>
    withWriter(async (writer) => (await writer.put('content', bytesTensor, { group: 'a' })) === undefined),
  'checkpoint.CheckpointWriter.prototype.putAll': () =>
    withWriter(async (writer) => (await writer.putAll({ content: bytesTensor })) === undefined),
  'checkpoint.CheckpointWriter.prototype.reference': () =>
    withWriter(async (writer) => {
      const { linked, cloned, copied } = await writer.reference('content')
      return linked === 0 && cloned + copied === LENGTH
    }),
  'checkpoint.CheckpointWriter.prototype.referenceGroup': () =>
    withWriter(async (writer) => {
      const { linked, cloned, copied } = await writer.referenceGroup('frozen')
      return linked + cloned + copied > LENGTH
    }),
  'checkpoint.CheckpointWriter.prototype.commit': async () => {
    const writer = await store.begin({ reference: 'latest' })
    await writer.put('content', bytesTensor)
    const { number, bytes } = await writer.commit()
    const opened = await store.open(number)
    right((await opened.tensor('content')).data, 'CheckpointWriter.commit')
    await opened.close()
    await store.remove(number)
    return bytes > LENGTH
  },
  'checkpoint.CheckpointWriter.prototype.abort': () =>
    withWriter(async (writer) => {
      await writer.abort()
      return writer.commit().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
    }),
  'checkpoint.CheckpointWriter.prototype.@@asyncDispose': () =>
    withWriter(async (writer) => {
      await writer[Symbol.asyncDispose]()
      return writer.commit().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
    }),
  'checkpoint.CheckpointWriter.prototype.@@deepring.CheckpointWriter': () => marked(CheckpointWriter),
  'checkpoint.CheckpointWriter.prototype.@@util.inspect.custom': () =>
    withWriter((writer) => inspect(writer).startsWith('CheckpointWriter {')),
  'checkpoint.Checkpoint': () => cannotBeMade(Checkpoint),
  'checkpoint.Checkpoint.prototype.number': () => generation.number === 1,
  'checkpoint.Checkpoint.prototype.step': () => generation.step === 7,
  'checkpoint.Checkpoint.prototype.meta': () => generation.meta[0] === 'any',
  'checkpoint.Checkpoint.prototype.created': () => generation.created.getTime() > 0,
  'checkpoint.Checkpoint.prototype.copyTo': async () => {
    await generation.copyTo(`${folder}/smoke-copies`)
    const copies = await openCheckpoints(`${folder}/smoke-copies`)
    const numbers = await copies.list()
    await copies.close()
    return numbers.join() === '1'
  },
  'checkpoint.Checkpoint.prototype.@@deepring.Checkpoint': () => marked(Checkpoint),
  'checkpoint.Checkpoint.prototype.@@util.inspect.custom': () => inspect(generation).startsWith('Checkpoint {'),
  'swap.openSwap': () => swapped instanceof SwapStore,
  'swap.SwapStore': () => cannotBeMade(SwapStore),
  'swap.SwapStore.over': async () => {
    const over = SwapStore.over(model, { memory: 1 << 20 })
    await withLease(
      ({ data }) => right(data, 'SwapStore.over'),
      () => over.get('content'),
    )
    await over.close()
    return over.directory === undefined
  },
  'swap.SwapStore.prototype.directory': () => swapped.directory === swapPath,
  'swap.SwapStore.prototype.put': async () => {
    await swapped.put('put', bytesTensor, { pin: true })
    swapped.unpin('put')
    await swapped.put('put', { dtype: 'F32', shape: [1], data: new Float32Array([1]) }, { convert: 'BF16' })
    const data = deepring.allocate(4096)
    const adopting = swapped.put('adopted', { dtype: 'U8', shape: [4096], data }, { adopt: true })
    // A runtime that refuses external memory has none of the engine's.
    return adopting.then(
      () => data.length === 0 && swapped.stats().adopted === 4096,
      (error) => data.length === 4096 && error.code === 'ERR_DEEPRING_INVALID_ARG_VALUE',
    )
  },
  'swap.SwapStore.prototype.putMany': async () => (await swapped.putMany({ put: bytesTensor })) === undefined,
  'swap.SwapStore.prototype.get': async () => {
    const slice = await swapped.get('content', { slice: [[1, 3]] })
    const isPart = slice.data.length === 2
    await slice.close()
    return withLease((lease) => {
      right(lease.data, 'SwapStore.get')
      return isPart && lease.data.length === LENGTH && lease instanceof SwapLease
    })
  },
  'swap.SwapStore.prototype.getMany': async () => {
    const leases = await swapped.getMany(['content', 'content'])
    for (const { data } of leases) right(data, 'SwapStore.getMany')
    await Promise.all(leases.map((lease) => lease.close()))
    return leases.length === 2
  },
  'swap.SwapStore.prototype.getMut': async () => {
    await swapped.put('mut', { dtype: 'U8', shape: [2], data: new Uint8Array(2) })
    const lease = await swapped.getMut('mut')
    lease.data[1] = 7
    await lease.close()
    return withLease(
      ({ data }) => data[1] === 7,
      () => swapped.get('mut'),
    )
  },
  'swap.SwapStore.prototype.lease': () =>
    withLease(
      ({ data, writable }) => writable && data instanceof Float32Array && data.every((value) => value === 0),
      () => swapped.lease('new', 'F32', [3]),
    ),
  'swap.SwapStore.prototype.getInto': async () => {
    const memory = empty()
    await swapped.getInto('content', memory)
    right(memory, 'SwapStore.getInto')
    return true
  },
  'swap.SwapStore.prototype.prefetch': () => swapped.prefetch(['content'], { expiresMs: 1 }) === undefined,
  'swap.SwapStore.prototype.plan': () => swapped.plan(['content'], { repeat: true }) === undefined,
  'swap.SwapStore.prototype.pin': async () => {
    await swapped.pin('content')
    swapped.unpin('content')
    return true
  },
  'swap.SwapStore.prototype.unpin': () => swapped.unpin('content') === undefined,
  'swap.SwapStore.prototype.evict': async () => {
    await swapped.evict('content')
    // The plan brings it back at once.
    return ['reading', 'resident', 'stored'].includes(swapped.info('content').state)
  },
  'swap.SwapStore.prototype.remove': () => swapped.remove('none').catch(({ tensor }) => tensor === 'none'),
  'swap.SwapStore.prototype.flush': async () => (await swapped.flush()) === undefined,
  'swap.SwapStore.prototype.snapshot': async () => {
    const writer = await store.begin()
    await swapped.snapshot(writer)
    const { number, reused } = await writer.commit()
    await store.remove(number)
    return reused.cloned + reused.copied > 0
  },
  'swap.SwapStore.prototype.info': () => swapped.info('content').byteLength === LENGTH,
  'swap.SwapStore.prototype.names': () => swapped.names().includes('content'),
  'swap.SwapStore.prototype.stats': () => swapped.stats().memory === 1 << 20,
  'swap.SwapStore.prototype.close': async () => {
    const other = await openSwap(`${swapPath}-2`, { memory: 4096, create: true })
    await other.close()
    return other.get('content').catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'swap.SwapStore.prototype.@@asyncDispose': async () => {
    const other = await openSwap(`${swapPath}-2`, { memory: 4096, create: true })
    await other[Symbol.asyncDispose]()
    return other.get('content').catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'swap.SwapStore.prototype.@@deepring.SwapStore': () => marked(SwapStore),
  'swap.SwapStore.prototype.@@util.inspect.custom': () => inspect(swapped).startsWith('SwapStore {'),
  'swap.SwapLease': () => withLease((lease) => lease instanceof SwapLease && lease instanceof tensors.FileTensor),
  'swap.SwapLease.prototype.close': async () => {
    const lease = await swapped.get('content')
    const { data } = lease
    await lease.close()
    return data.length === 0 && lease.released
  },
  'swap.SwapLease.prototype.@@util.inspect.custom': () =>
    withLease((lease) => inspect(lease).startsWith('SwapLease {')),
  'swap.openOptimizerSwapper': () => optimizer instanceof OptimizerSwapper,
  'swap.OptimizerSwapper': () => cannotBeMade(OptimizerSwapper),
  'swap.OptimizerSwapper.prototype.directory': () => optimizer.directory === optimizerPath,
  'swap.OptimizerSwapper.prototype.groups': () => optimizer.groups[0].dtype === 'F32',
  'swap.OptimizerSwapper.prototype.initialize': async () => {
    await optimizer.initialize('a', { param: new Float32Array(1000).fill(3), m: new Float32Array(1000) })
    return withGroup(({ param }) => param[999] === 3)
  },
  'swap.OptimizerSwapper.prototype.initializeFrom': () =>
    optimizer.initializeFrom('a', model, { param: 'content' }).catch(({ code: why }) => why === 'ERR_DEEPRING_INVALID'),
  'swap.OptimizerSwapper.prototype.putGradient': async () => {
    await optimizer.putGradient('a', 10, new Float32Array(10).fill(0.5))
    for await (const { gradient } of optimizer.step()) expect(gradient[9] === 0 && gradient[19] === 0.5, 'a gradient')
    return true
  },
  'swap.OptimizerSwapper.prototype.flushGradients': async () => (await optimizer.flushGradients()) === undefined,
  'swap.OptimizerSwapper.prototype.reset': () => optimizer.reset('a', ['m']) === undefined,
  'swap.OptimizerSwapper.prototype.step': async () => {
    for await (const { states } of optimizer.step({ order: ['a'] })) states.m[0] = 7
    return withGroup(({ states }) => states.m[0] === 7)
  },
  'swap.OptimizerSwapper.prototype.flush': async () => (await optimizer.flush()) === undefined,
  'swap.OptimizerSwapper.prototype.snapshot': async () => {
    const writer = await store.begin()
    await optimizer.snapshot(writer)
    const { number } = await writer.commit()
    const opened = await store.open(number)
    await optimizer.restore(opened)
    await opened.close()
    await store.remove(number)
    return opened.size === 2
  },
  'swap.OptimizerSwapper.prototype.restore': () =>
    optimizer.restore(model).catch(({ code: why }) => why === 'ERR_DEEPRING_NOT_FOUND'),
  'swap.OptimizerSwapper.prototype.stats': () => optimizer.stats().memory === 256 << 20,
  'swap.OptimizerSwapper.prototype.close': async () => {
    const other = await openOptimizerSwapper(`${optimizerPath}-2`, { groups: optimizerGroups, create: true })
    await other.close()
    return other.flush().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'swap.OptimizerSwapper.prototype.@@asyncDispose': async () => {
    const other = await openOptimizerSwapper(`${optimizerPath}-2`, { groups: optimizerGroups, create: true })
    await other[Symbol.asyncDispose]()
    return other.flush().catch((error) => error.code === 'ERR_DEEPRING_CLOSED')
  },
  'swap.OptimizerSwapper.prototype.@@deepring.OptimizerSwapper': () => marked(OptimizerSwapper),
  'swap.OptimizerSwapper.prototype.@@util.inspect.custom': () => inspect(optimizer).startsWith('OptimizerSwapper {'),
  'swap.GroupLease': () => withGroup((group) => group instanceof GroupLease),
  'swap.GroupLease.prototype.name': () => withGroup(({ name }) => name === 'a'),
  'swap.GroupLease.prototype.numel': () => withGroup(({ numel }) => numel === 1000),
  'swap.GroupLease.prototype.dtype': () => withGroup(({ dtype }) => dtype === 'F32'),
  'swap.GroupLease.prototype.param': () => withGroup(({ param }) => param.length === 1000),
  'swap.GroupLease.prototype.states': () => withGroup(({ states }) => states.m.length === 1000),
  'swap.GroupLease.prototype.gradient': () => withGroup(({ gradient }) => gradient.length === 1000),
  'swap.GroupLease.prototype.released': () => withGroup(({ released }) => released === false),
  'swap.GroupLease.prototype.close': () =>
    withGroup(async (group) => {
      const { param } = group
      await group.close({ write: ['m'] })
      return param.length === 0 && group.released
    }),
  'swap.GroupLease.prototype.@@dispose': () =>
    withGroup((group) => {
      group[Symbol.dispose]()
      return group.released
    }),
  'swap.GroupLease.prototype.@@util.inspect.custom': () =>
    withGroup((group) => inspect(group).startsWith('GroupLease {')),

  'Lease.bytes': async () => (await model.tensor('content')).bytes.length === LENGTH,
  'Lease.released': async () => (await model.tensor('content')).released === false,
  'Lease.keep': async () => {
    for await (const tensor of model.stream()) await tensor.keep()
    const kept = await model.tensor('content')
    return (await kept.keep()) === kept
  },
  'Lease.@@dispose': async () => {
    const tensor = await model.tensor('content')
    tensor[Symbol.dispose]()
    return tensor.released
  },

  'aio.aioRead': async () => {
    const memory = empty()
    const answer = await aioRead(memory, path, { validate: true })
    right(memory, 'aioRead')
    return answer === 0
  },
  'aio.aioWrite': async () => (await written((target) => aioWrite(content, target, { validate: true }))) === 0,
  'aio.aioReadSync': () => {
    const memory = empty()
    const answer = aioReadSync(memory, path)
    right(memory, 'aioReadSync')
    return answer === 0
  },
  'aio.aioWriteSync': async () => (await written((target) => aioWriteSync(content, target))) === 0,

  'aio.AioHandle': () => handle instanceof AioHandle,
  'aio.AioHandle.prototype.read': async () => {
    const memory = empty()
    const answer = await handle.read(memory, path)
    right(memory, 'AioHandle.read')
    return answer === 0
  },
  'aio.AioHandle.prototype.write': async () => (await written((target) => handle.write(content, target))) === 0,
  'aio.AioHandle.prototype.pread': async () => {
    const memory = new Uint8Array(800)
    const answer = await handle.pread(memory, own, { fileOffset: 16 })
    right(memory, 'AioHandle.pread', 16)
    return answer === 1
  },
  'aio.AioHandle.prototype.pwrite': async () => (await written((target) => handle.pwrite(content, target))) === 1,
  'aio.AioHandle.prototype.syncPread': () => {
    const memory = new Uint8Array(80)
    const answer = handle.syncPread(memory, path, 24)
    right(memory, 'AioHandle.syncPread', 24)
    return answer === 1
  },
  'aio.AioHandle.prototype.syncPwrite': async () =>
    (await written((target) => handle.syncPwrite(content, target, { validate: true }))) === 1,
  'aio.AioHandle.prototype.asyncPread': async () => {
    const memory = empty()
    const answer = handle.asyncPread(memory, path)
    const count = await handle.wait()
    right(memory, 'AioHandle.asyncPread')
    return answer === 0 && count === 1
  },
  'aio.AioHandle.prototype.asyncPwrite': async () => {
    const answer = await written(async (target) => {
      const queued = handle.asyncPwrite(content, target)
      return queued === 0 && (await handle.wait())
    })
    return answer === 1
  },
  'aio.AioHandle.prototype.wait': async () => {
    handle.asyncPread(empty(), `${folder}/none`)
    const error = await handle.wait().catch((reason) => reason)
    return error.code === 'ENOENT' && error.errors.length === 1 && (await handle.wait()) === 0
  },
  'aio.AioHandle.prototype.getBlockSize': () => handle.getBlockSize() === 8192,
  'aio.AioHandle.prototype.getQueueDepth': () => handle.getQueueDepth() === 2,
  'aio.AioHandle.prototype.getSingleSubmit': () => handle.getSingleSubmit() === false,
  'aio.AioHandle.prototype.getOverlapEvents': () => handle.getOverlapEvents() === true,
  'aio.AioHandle.prototype.getIntraOpParallelism': () => handle.getIntraOpParallelism() === 3,
  'aio.AioHandle.prototype.getAlignment': () =>
    handle.getAlignment() === 4096 && handle.getAlignment(file) === file.alignment.offset,
  'aio.AioHandle.prototype.newCpuLockedTensor': () =>
    handle.newCpuLockedTensor(7, new Float64Array()).data.length === 7,
  'aio.AioHandle.prototype.freeCpuLockedTensor': () => {
    const tensor = handle.newCpuLockedTensor(7, new Float32Array())
    return handle.freeCpuLockedTensor(tensor) === true && handle.freeCpuLockedTensor(tensor) === false
  },
  'aio.AioHandle.prototype.@@deepring.AioHandle': () => marked(AioHandle),
  'aio.AioHandle.prototype.@@util.inspect.custom': () => inspect(handle).startsWith('AioHandle {'),
  'aio.AioHandle.prototype.isPinned': () =>
    handle.isPinned(engine.allocate(9)) === (parameters.refused !== true) &&
    handle.isPinned(new Uint8Array(9)) === false,
}

const TENSOR_FIELDS = { dtype: 0, shape: 0, data: 0, type: 0, dims: 0, location: 0, byteLength: 0 }
const surface = [
  ...surfaceOf('deepring', deepring),
  ...surfaceOf('aio', aio),
  ...surfaceOf('safetensors', tensors),
  ...surfaceOf('checkpoint', checkpoint),
  ...surfaceOf('swap', swap),
  ...surfaceOf('Lease', Object.getPrototypeOf(tensors.FileTensor.prototype), { constructor: 0, releasedError: 0 }),
  ...surfaceOf('EngineBuffer', deepring.allocate(1), Uint8Array.prototype),
  ...surfaceOf('Tensor', deepring.allocateTensor('U8', [1]), TENSOR_FIELDS),
]
const uneven = unevenness(surface, Object.keys(checks))
expect(uneven.length === 0, uneven.join('; '))

const failed = []
for (const [name, check] of Object.entries(checks)) {
  const answer = await Promise.resolve()
    .then(check)
    .catch((error) => error)
  if (answer !== true) failed.push(`${name}: ${answer}`)
}
expect(failed.length === 0, failed.join('; '))
await Promise.all([file.close(), own.close(), model.close(), table.close(), generation.close(), store.close()])
await Promise.all([swapped.close(), optimizer.close()])
await engine.close()
const { backend, reason } = await deepring.info()
report({ checked: surface.length, backend, reason, runtime: process.version })
