/**
 * Streams of a file, into every kind of consumer: not a byte is wrong or missing, also where a consumer keeps its chunks or
 * takes them late.
 */

import { createWriteStream, statSync } from 'node:fs'
import fs from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import net, { type AddressInfo } from 'node:net'
import { Duplex, PassThrough, Readable, Transform, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'
import tls from 'node:tls'
import { createGunzip, createGzip } from 'node:zlib'
import test, { type ExecutionContext } from 'ava'
import compression from 'compression'
import express from 'express'
import fastify from 'fastify'
import { Engine, open, type Chunk, type FileHandle, type Progress } from '../index.ts'
import { collectUntil } from './collect.ts'
import {
  bytesLeft,
  contents,
  makeScratch,
  openDescriptors,
  pattern,
  rejected,
  same,
  testOnEachBackend,
} from './harness.ts'

const scratch = makeScratch()
const MIB = 1 << 20
const CHUNK = 65_536

/** Many chunks, and a tail. */
const content = pattern(12 * MIB + 12_345)
const path = scratch.file(content)

async function withFile<T>(body: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path)
  try {
    return await body(file)
  } finally {
    await file.close()
  }
}

/** What a program writes first: the bytes of each chunk, which is never disposed. */
async function* bytesOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  for await (const { bytes } of file.chunks({ chunkSize: CHUNK })) yield bytes
}

function whole(chunks: readonly Uint8Array[]): Buffer {
  return Buffer.concat(chunks)
}

/** Keeps its chunks as they are, and calls back at once. */
class Keeper extends Writable {
  readonly chunks: Buffer[] = []

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.chunks.push(chunk)
    done()
  }
}

// ---- chunks

testOnEachBackend('chunks are all the bytes of any part, in their order', async (t, engine) => {
  const file = await engine.open(path)
  for (const [start, end, chunkSize] of [
    [0, undefined, undefined],
    [0, 0, 4096],
    [1, 70_000, 4096],
    [4095, 4096, 4096],
    [5 * MIB + 17, undefined, 100_000],
    [content.length - 1, undefined, MIB],
    [content.length, undefined, MIB],
    [content.length + 5, undefined, MIB],
    [100, content.length + 100, 3 * MIB],
    [7, 6, 4096],
  ] as const) {
    const parts: Uint8Array[] = []
    let position: number = start
    for await (const chunk of file.chunks({ start, end, chunkSize })) {
      t.is(chunk.position, position)
      t.is(chunk.byteLength, chunk.bytes.length)
      parts.push(chunk.bytes.slice())
      position += chunk.byteLength
      chunk.dispose()
    }
    t.true(same(whole(parts), content.subarray(start, end === undefined ? undefined : end + 1)), `${start} to ${end}`)
  }
  await file.close()
})

test('a chunk stays its holder’s after the loop has gone on, and ended; once given back, it says so', (t) =>
  withFile(async (file) => {
    const kept: Chunk[] = []
    for await (const chunk of file.chunks({ chunkSize: CHUNK })) kept.push(chunk)
    t.true(same(whole(kept.map(({ bytes }) => bytes)), content))
    const [first] = kept as [Chunk]
    const view = first.bytes
    t.is(await first.keep(), first)
    first.dispose()
    first.dispose()
    t.true(first.released)
    t.is(view.length, 0)
    const error = t.throws(() => first.bytes, { code: 'ERR_DEEPRING_RELEASED' })
    t.is((error as { position?: number }).position, 0)
    t.true(same((kept[1] as Chunk).bytes, content.subarray(CHUNK, 2 * CHUNK)))
    for (const chunk of kept) chunk[Symbol.dispose]()
  }))

test('chunks that are given back need no more memory than is read ahead', async (t) => {
  const engine = new Engine()
  const file = await engine.open(path)
  let most = 0
  for await (const chunk of file.chunks({ chunkSize: CHUNK, readAhead: 4 * CHUNK })) {
    await turn()
    most = Math.max(most, engine.stats().bufferBytes)
    chunk.dispose()
  }
  t.true(most <= 6 * CHUNK, `${most}`)
  t.is(await bytesLeft(engine), 0)
  for await (const chunk of file.chunks({ chunkSize: CHUNK })) {
    chunk.dispose()
    if (chunk.position > MIB) break
  }
  t.is(await bytesLeft(engine), 0, 'leaving the loop gives back what was read ahead')
  await file.close()
  await engine.close()
})

/** Keeps everything, as `Array.fromAsync`. */
async function keepAll<T>(items: AsyncIterable<T>): Promise<T[]> {
  const kept: T[] = []
  for await (const item of items) kept.push(item)
  return kept
}

test('chunks that nobody gives back are counted, until the garbage collector does', async (t) => {
  const engine = new Engine()
  const file = await engine.open(path)
  const counted = async (keep: () => Promise<Iterable<unknown>>): Promise<number> => {
    const kept = await keep()
    const { bufferBytes } = engine.stats()
    return [...kept].length > 0 ? bufferBytes : 0
  }
  t.true((await counted(() => keepAll(file.chunks({ chunkSize: CHUNK })))) >= content.length)
  t.true(await collectUntil(() => engine.stats().buffers === 0), 'of chunks')
  const options = { highWaterMark: CHUNK, autoClose: false }
  t.true((await counted(() => file.createReadStream(options).toArray())) >= content.length)
  t.true(await collectUntil(() => engine.stats().buffers === 0), 'of a read stream')
  await file.close()
  await engine.close()
})

/** Takes chunks, and does something after the third. */
async function consume(iterator: AsyncIterable<Chunk>, then: () => unknown): Promise<void> {
  let nth = 0
  for await (const chunk of iterator) {
    chunk.dispose()
    if (nth++ === 2) await then()
  }
}

test('chunks reject when they are aborted, when the file is closed, and when it gets shorter', async (t) => {
  const own = scratch.file(content)
  const file = await open(own, 'r+')
  const controller = new AbortController()
  const aborted = file.chunks({ chunkSize: CHUNK, signal: controller.signal })
  const error = await t.throwsAsync(consume(aborted, () => controller.abort('enough')))
  t.deepEqual([error?.name, (error as { cause?: unknown }).cause], ['AbortError', 'enough'])
  await t.throwsAsync(async () => file.chunks({ signal: controller.signal }), { name: 'AbortError' })
  const shortened = file.chunks({ chunkSize: CHUNK, readAhead: 0 })
  await t.throwsAsync(
    consume(shortened, () => file.truncate(5 * CHUNK)),
    { code: 'ERR_DEEPRING_EOF' },
  )
  await t.throwsAsync(
    consume(file.chunks({ chunkSize: 4096, readAhead: 0 }), () => file.close()),
    { code: 'ERR_DEEPRING_CLOSED' },
  )
  t.throws(() => file.chunks(), { code: 'ERR_DEEPRING_CLOSED' })
  t.throws(() => file.chunks({ chunksize: 1 } as never), { code: 'ERR_DEEPRING_INVALID_ARG_VALUE' })
  t.throws(() => file.chunks({ start: 5, end: 3 }), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
  t.throws(() => file.chunks({ chunkSize: 0 }), { code: 'ERR_DEEPRING_OUT_OF_RANGE' })
  const writer = await open(own, 'w')
  t.throws(() => writer.chunks(), { code: 'EBADF' })
  t.throws(() => writer.createReadStream(), { code: 'EBADF' })
  t.throws(() => writer.readableWebStream(), { code: 'EBADF' })
  await rejected(t, () => writer.pipeTo(new PassThrough()), 'EBADF')
  await writer.close()
})

test('a consumer that never waits has two chunks read ahead, one that waits has more', async (t) => {
  const engine = new Engine()
  const file = await engine.open(path)
  const mostHeld = async (then: () => Promise<unknown>): Promise<number> => {
    let most = 0
    for await (const chunk of file.chunks({ chunkSize: CHUNK, end: 20 * CHUNK })) {
      most = Math.max(most, engine.stats().bufferBytes / CHUNK)
      await then()
      chunk.dispose()
    }
    return most
  }
  const allRead = async (): Promise<void> => {
    while (engine.stats().queued > 0) await turn()
    // Answers come in the order of their ends, so what has been read is known here then.
    await file.stat()
  }
  t.is(await mostHeld(allRead), 3)
  t.true((await mostHeld(async () => {})) >= 5)
  await file.close()
  await engine.close()
})

// ---- Consumers, by every way from a file to them

/** What gets bytes from a stream, and returns them. */
type Consumer = (source: Readable) => Promise<Uint8Array>

const consumers: Readonly<Record<string, Consumer>> = {
  toArray: async (source) => whole(await source.toArray()),
  'a loop that keeps its chunks': async (source) => {
    const chunks: Buffer[] = []
    for await (const chunk of source) chunks.push(chunk as Buffer)
    return whole(chunks)
  },
  'a sink that keeps its chunks': async (source) => {
    const keeper = new Keeper()
    await pipeline(source, keeper)
    return whole(keeper.chunks)
  },
  PassThrough: async (source) => {
    const pass = new PassThrough({ highWaterMark: 3 * MIB })
    const flowing = pipeline(source, pass)
    await pause(20)
    const chunks = await pass.toArray()
    await flowing
    return whole(chunks)
  },
  'a Transform that calls back early': async (source) => {
    const waiting: Buffer[] = []
    const late = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        waiting.push(chunk)
        done()
        if (waiting.length > 4) this.push(waiting.shift())
      },
      flush(done) {
        for (const chunk of waiting) this.push(chunk)
        done()
      },
    })
    const keeper = new Keeper()
    await pipeline(source, late, keeper)
    return whole(keeper.chunks)
  },
  zlib: async (source) => {
    const keeper = new Keeper()
    await pipeline(source, createGzip({ level: 1 }), createGunzip(), keeper)
    return whole(keeper.chunks)
  },
  Response: async (source) => {
    const web = Readable.toWeb(source) as ReadableStream<Uint8Array>
    return new Uint8Array(await new Response(web).arrayBuffer())
  },
  'fs.createWriteStream': async (source) => {
    const target = scratch.path()
    await pipeline(source, createWriteStream(target))
    return contents(target)
  },
  createWriteStream: async (source) => {
    const target = scratch.path()
    const file = await open(target, 'w')
    await pipeline(source, file.createWriteStream())
    return contents(target)
  },
}

for (const [name, receive] of Object.entries(consumers)) {
  test(`createReadStream into ${name}`, async (t) => {
    const file = await open(path)
    t.true(same(await receive(file.createReadStream({ highWaterMark: CHUNK })), content))
    t.true(file.closed)
  })

  test(`a stream over a generator of chunks into ${name}`, (t) =>
    withFile(async (file) => {
      t.true(same(await receive(Readable.from(bytesOf(file), { objectMode: false })), content))
    }))
}

test('Array.fromAsync of chunks, and a web stream over them', (t) =>
  withFile(async (file) => {
    const fromAsync = (Array as { fromAsync?: <T>(items: AsyncIterable<T>) => Promise<T[]> }).fromAsync
    if (fromAsync !== undefined) {
      const all = await fromAsync.call(Array, file.chunks({ chunkSize: CHUNK }))
      t.true(same(whole((all as Chunk[]).map(({ bytes }) => bytes)), content))
    }
    const stream = ReadableStream.from(bytesOf(file))
    t.true(same(new Uint8Array(await new Response(stream as never).arrayBuffer()), content))
  }))

// ---- createReadStream

test('createReadStream reads a part, closes its file, and decodes', async (t) => {
  const file = await open(path)
  const part = await file.createReadStream({ start: 10, end: 4_999_999, autoClose: false }).toArray()
  t.true(same(whole(part), content.subarray(10, 5_000_000)))
  t.false(file.closed)
  const text = await file.createReadStream({ end: 8, encoding: 'hex' }).toArray()
  t.is(text.join(''), Buffer.from(content.subarray(0, 9)).toString('hex'))
  t.true(file.closed)
})

test('a read stream that is destroyed or aborted closes its file', async (t) => {
  const destroyed = await open(path)
  const stream = destroyed.createReadStream()
  stream.once('data', () => stream.destroy())
  await new Promise((resolve) => stream.once('close', resolve))
  t.true(destroyed.closed)
  const aborted = await open(path)
  const controller = new AbortController()
  const error = await t.throwsAsync(
    pipeline(aborted.createReadStream({ signal: controller.signal, highWaterMark: 4096 }), async (source) => {
      for await (const _ of source) controller.abort()
    }),
  )
  t.is(error?.name, 'AbortError')
  t.true(aborted.closed)
  // Also one that nobody reads.
  const idle = await open(path)
  const waiting = new AbortController()
  const unread = idle.createReadStream({ signal: waiting.signal })
  const failed = new Promise<Error>((resolve) => unread.once('error', resolve))
  waiting.abort()
  t.is((await failed).name, 'AbortError')
})

test('a pipeline whose end fails closes the file', async (t) => {
  const file = await open(path)
  const failing = new Writable({ write: (_chunk, _encoding, done) => done(new Error('full')) })
  await t.throwsAsync(pipeline(file.createReadStream(), failing), { message: 'full' })
  t.true(file.closed)
})

test('back-pressure: a stream that nobody reads has read no more than it reads ahead', (t) =>
  withFile(async () => {
    const engine = new Engine()
    const file = await engine.open(path)
    const stream = file.createReadStream({ highWaterMark: CHUNK, readAhead: 4 * CHUNK })
    stream.pause()
    await new Promise<void>((resolve) => void stream.once('readable', resolve))
    // Time for reads that should not come.
    await pause(100)
    const { readBytes } = engine.stats()
    t.true(readBytes > 0 && readBytes <= 7 * CHUNK, `${readBytes}`)
    stream.destroy()
    await new Promise((resolve) => stream.once('close', resolve))
    await engine.close()
  }))

// ---- readableWebStream

test('a web stream has all bytes, for every kind of reader', async (t) => {
  const file = await open(path)
  const bytes = new Uint8Array(await new Response(file.readableWebStream({ chunkSize: CHUNK })).arrayBuffer())
  t.true(same(bytes, content))
  const part = file.readableWebStream({ start: 5, end: 999_999, chunkSize: CHUNK })
  const chunks: Uint8Array[] = []
  for await (const chunk of part) chunks.push(chunk)
  t.true(same(whole(chunks), content.subarray(5, 1_000_000)))
  const transformed = file
    .readableWebStream({ chunkSize: CHUNK })
    .pipeThrough(new TransformStream({ transform: (chunk, controller) => controller.enqueue(chunk) }))
  t.true(same(new Uint8Array(await new Response(transformed as never).arrayBuffer()), content))
  const [left, right] = file.readableWebStream({ chunkSize: CHUNK }).tee()
  for (const branch of [left, right])
    t.true(same(new Uint8Array(await new Response(branch as never).arrayBuffer()), content))
  // What it hands out can be transferred, as the streams of other sources.
  const reader = file.readableWebStream({ chunkSize: CHUNK }).getReader()
  const { value } = await reader.read()
  const moved = structuredClone(value, { transfer: [(value as Uint8Array<ArrayBuffer>).buffer] }) as Uint8Array
  t.true(same(moved, content.subarray(0, CHUNK)))
  await reader.cancel()
  t.false(file.closed)
  await file.close()
})

test('a BYOB reader has its own views filled, of any size and offset', async (t) => {
  const engine = new Engine()
  const file = await engine.open(path)
  const reader = file.readableWebStream({ autoClose: true }).getReader({ mode: 'byob' })
  const parts: Uint8Array[] = []
  let memory = new ArrayBuffer(2 * MIB)
  for (let nth = 0; ; nth += 1) {
    const view = new Uint8Array(memory, (nth * 13) % 4096, 1 + ((nth * 700_001) % MIB))
    const { value, done } = await reader.read(view)
    if (value !== undefined) {
      t.true(value.length <= view.length || view.length === 0)
      parts.push(value.slice())
      memory = value.buffer as ArrayBuffer
    }
    if (done) break
  }
  t.true(same(whole(parts), content))
  t.is(engine.stats().buffers, 0, 'no memory of the engine is used')
  t.true(file.closed)
  await engine.close()
})

test('a web stream closes its file when it is asked to: at the end, canceled, aborted', async (t) => {
  const ended = await open(path)
  await new Response(ended.readableWebStream({ autoClose: true })).arrayBuffer()
  t.true(ended.closed)
  const canceled = await open(path)
  const reader = canceled.readableWebStream({ autoClose: true, chunkSize: 4096 }).getReader()
  await reader.read()
  await reader.cancel()
  t.true(canceled.closed)
  const aborted = await open(path)
  const controller = new AbortController()
  const stream = aborted.readableWebStream({ autoClose: true, chunkSize: 4096, signal: controller.signal })
  const left = stream.getReader()
  await left.read()
  controller.abort()
  await t.throwsAsync(
    async () => {
      while (!(await left.read()).done);
    },
    { name: 'AbortError' },
  )
  t.true(aborted.closed)
})

// ---- createWriteStream

testOnEachBackend('a write stream writes chunks of all sizes where they belong', async (t, engine) => {
  for (const [start, size] of [
    [0, 100],
    [0, 65_536],
    [4097, 1_000_003],
    [3 * MIB + 1, 9 * MIB + 5],
    [8 * MIB, 4 * MIB],
  ] as const) {
    const target = scratch.file(pattern(100, 9))
    const file = await engine.open(target, 'r+')
    const pieces: Uint8Array[] = []
    for (let at = 0; at < content.length; at += size) pieces.push(content.subarray(at, at + size))
    const stream = file.createWriteStream({ start, flush: true })
    await pipeline(Readable.from(pieces), stream)
    t.is((stream as unknown as { bytesWritten: number }).bytesWritten, content.length)
    t.true(file.closed)
    const expected = Buffer.concat([new Uint8Array(start), content])
    if (start > 0) expected.set(pattern(100, 9).subarray(0, Math.min(start, 100)))
    t.true(same(contents(target), expected), `${start}, ${size}`)
  }
})

test('small writes are gathered: the engine sees blocks, and none is punted', async (t) => {
  const engine = new Engine()
  const file = await engine.open(scratch.path(), 'w')
  const before = engine.stats()
  const stream = file.createWriteStream()
  const piece = pattern(1000)
  for (let nth = 0; nth < 20_000; nth += 1)
    if (!stream.write(piece)) await new Promise((done) => stream.once('drain', done))
  await new Promise<void>((done) => void stream.end(done))
  await file.close()
  const after = engine.stats()
  t.is(after.writtenBytes - before.writtenBytes, 20_000_000)
  t.is(after.submitted - before.submitted, Math.ceil(20_000_000 / (8 * MIB)))
  t.is(after.punted - before.punted, 0)
  t.is(await bytesLeft(engine), 0)
  await engine.close()
})

test('a write stream reports a failure, and closes its file; an abort, too', async (t) => {
  const reader = await open(path, 'r')
  t.throws(() => reader.createWriteStream(), { code: 'EBADF' })
  await reader.close()
  const file = await open(scratch.path(), 'w')
  const controller = new AbortController()
  const endless = Readable.from(
    (function* () {
      for (;;) yield content
    })(),
  )
  setTimeout(() => controller.abort(), 50)
  const error = await t.throwsAsync(pipeline(endless, file.createWriteStream({ signal: controller.signal })))
  t.is(error?.name, 'AbortError')
  t.true(file.closed)
  const closed = await open(scratch.path(), 'w')
  const stream = closed.createWriteStream()
  stream.write('x')
  await closed.close()
  await t.throwsAsync(
    new Promise<void>((resolve, reject) => {
      stream.once('error', reject)
      stream.end((reason?: Error) => (reason ? reject(reason) : resolve()))
    }),
    { code: 'ERR_DEEPRING_CLOSED' },
  )
})

// ---- pipeTo

/** A server, for one test. Returns its port, and what closes it. */
async function listening(server: net.Server): Promise<{ port: number; close: () => Promise<void> }> {
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    close: () => new Promise((resolve) => void server.close(() => resolve())),
  }
}

/** Takes what comes, late at first, so that the sender has to wait. */
async function slowly(source: Readable): Promise<Uint8Array> {
  const chunks: Buffer[] = []
  await pause(50)
  for await (const chunk of source) {
    chunks.push(chunk as Buffer)
    if (chunks.length % 100 === 0) await pause(1)
  }
  return whole(chunks)
}

/** Sends the file from a server to a client, and checks what arrives and whether it was lent. */
async function serve(
  t: ExecutionContext,
  server: net.Server,
  accept: (send: (sink: Writable, start?: number) => void) => void,
  connect: (port: number) => Promise<Uint8Array>,
  lent: boolean,
): Promise<void> {
  const file = await open(path)
  let sent: Promise<unknown> | undefined
  accept((sink, start = 0) => {
    sent = file.pipeTo(sink, { chunkSize: CHUNK, start })
  })
  const { port, close } = await listening(server)
  const received = await connect(port)
  t.deepEqual(await sent, { bytes: content.length, lent })
  t.true(same(received, content))
  await file.close()
  await close()
}

test('pipeTo lends to a socket', (t) => {
  const server = net.createServer()
  return serve(
    t,
    server,
    (send) => server.on('connection', (socket) => send(socket)),
    (port) => slowly(net.connect(port, '127.0.0.1')),
    true,
  )
})

for (const fixed of [true, false]) {
  test(`pipeTo lends to a response of HTTP/1 ${fixed ? 'with a length' : 'in pieces'}`, (t) => {
    const server = http.createServer()
    return serve(
      t,
      server,
      (send) =>
        server.on('request', (_request, response) => {
          if (fixed) response.setHeader('content-length', content.length)
          send(response)
        }),
      (port) =>
        new Promise((resolve, reject) => void http.get({ port }, (answer) => slowly(answer).then(resolve, reject))),
      true,
    )
  })
}

test('pipeTo lends to responses of Express, but not where middleware stands in for them', async (t) => {
  for (const compresses of [false, true]) {
    const app = express()
    if (compresses) app.use(compression({ threshold: 0 }))
    const server = http.createServer(app)
    await serve(
      t,
      server,
      (send) =>
        app.get('/', (_request, response) => {
          response.type('application/x-ndjson')
          send(response)
        }),
      async (port) => new Uint8Array(await (await fetch(`http://127.0.0.1:${port}/`)).arrayBuffer()),
      !compresses,
    )
  }
})

test('Fastify sends read streams, and pipeTo lends to its responses', async (t) => {
  const app = fastify()
  const files: FileHandle[] = []
  const piped: unknown[] = []
  app.get('/stream', async (_request, reply) => {
    const file = await open(path)
    files.push(file)
    return reply.type('application/octet-stream').send(file.createReadStream({ highWaterMark: CHUNK }))
  })
  app.get('/pipe', async (_request, reply) => {
    reply.hijack()
    await using file = await open(path)
    piped.push(await file.pipeTo(reply.raw, { chunkSize: CHUNK }))
  })
  const address = await app.listen({ port: 0, host: '127.0.0.1' })
  for (const route of ['/stream', '/pipe']) {
    const answer = await fetch(`${address}${route}`)
    t.true(same(new Uint8Array(await answer.arrayBuffer()), content), route)
  }
  // A client that goes away closes the file, too.
  await new Promise<void>((resolve) => {
    const asked = http.get(`${address}/stream`, (answer) => answer.once('data', () => asked.destroy()))
    asked.on('close', resolve).on('error', () => {})
  })
  await app.close()
  while (files.some(({ closed }) => !closed)) await pause(5)
  t.is(files.length, 2)
  t.deepEqual(piped, [{ bytes: content.length, lent: true }])
})

const psk = Buffer.alloc(16, 5)
const tlsOptions = { ciphers: 'PSK-AES128-GCM-SHA256', maxVersion: 'TLSv1.2' } as const

function pskCallback(): { psk: Buffer; identity: string } {
  return { psk, identity: 'test' }
}

/** There is no certificate. */
function checkServerIdentity(): undefined {}

function readByTls(port: number): Promise<Uint8Array> {
  return slowly(tls.connect({ ...tlsOptions, port, host: '127.0.0.1', pskCallback, checkServerIdentity }))
}

test('pipeTo gives chunks to TLS for good', (t) => {
  const server = tls.createServer({ ...tlsOptions, pskCallback: () => psk })
  return serve(t, server, (send) => server.on('secureConnection', (socket) => send(socket)), readByTls, false)
})

async function readByHttp2(port: number): Promise<Uint8Array> {
  const session = http2.connect(`http://127.0.0.1:${port}`)
  const bytes = await slowly(session.request({ ':path': '/' }))
  session.close()
  return bytes
}

test('pipeTo gives chunks to HTTP/2 for good', (t) => {
  const server = http2.createServer()
  const accept = (send: (sink: Writable) => void): void =>
    void server.on('request', (_request, response) => send(response as never))
  return serve(t, server, accept, readByHttp2, false)
})

test('pipeTo lends to write streams of node:fs and of deepring', (t) =>
  withFile(async (file) => {
    const [first, second] = [scratch.path(), scratch.path()]
    t.deepEqual(await file.pipeTo(createWriteStream(first), { chunkSize: CHUNK }), {
      bytes: content.length,
      lent: true,
    })
    t.true(same(contents(first), content))
    const target = await open(second, 'w')
    t.deepEqual(await file.pipeTo(target.createWriteStream(), { chunkSize: 5 * MIB }), {
      bytes: content.length,
      lent: true,
    })
    t.true(same(contents(second), content))
  }))

test('pipeTo gives chunks for good to whatever can keep them', (t) =>
  withFile(async (file) => {
    const give = async (sink: Writable, received: () => Promise<Uint8Array> | Uint8Array): Promise<void> => {
      const got = Promise.resolve().then(received)
      t.deepEqual(await file.pipeTo(sink, { chunkSize: CHUNK }), { bytes: content.length, lent: false })
      t.true(same(await got, content))
    }
    const keeper = new Keeper()
    await file.pipeTo(keeper, { chunkSize: CHUNK })
    t.true(same(whole(keeper.chunks), content))
    const pass = new PassThrough()
    await give(pass, () => slowly(pass))
    const gzip = createGzip({ level: 1 })
    await give(gzip, () => slowly(gzip.pipe(createGunzip())))

    // Streams that look like those that chunks are lent to.
    class Derived extends fs.WriteStream {
      readonly kept: Buffer[] = []
      override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
        this.kept.push(chunk)
        done()
      }
    }
    const derived = new (Derived as unknown as new (path: string) => Derived)(scratch.path())
    t.false((await file.pipeTo(derived, { chunkSize: CHUNK })).lent)
    t.true(same(whole(derived.kept), content))
    const kept: Buffer[] = []
    const patched = Object.assign(createWriteStream(scratch.path()), {
      _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void) {
        kept.push(chunk)
        done()
      },
    })
    t.false((await file.pipeTo(patched, { chunkSize: CHUNK })).lent)
    t.true(same(whole(kept), content))
    const others: Buffer[] = []
    const elsewhere = createWriteStream('/nowhere', {
      fs: {
        open: (_path: string, _flags: string, _mode: number, done: (error: null, fd: number) => void) => done(null, 77),
        write: (
          _fd: number,
          bytes: Buffer,
          at: number,
          length: number,
          _position: null,
          done: (...a: unknown[]) => void,
        ) => {
          others.push(bytes.subarray(at, at + length))
          done(null, length)
        },
        close: (_fd: number, done: () => void) => done(),
      } as never,
    })
    t.false((await file.pipeTo(elsewhere, { chunkSize: CHUNK })).lent)
    t.true(same(whole(others), content))
    // A response over a stream that is no socket.
    const wire: Buffer[] = []
    const duplex = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        wire.push(chunk)
        done()
      },
    })
    const server = http.createServer()
    const answered = new Promise<{ lent: boolean }>((resolve, reject) => {
      server.on('request', (_request, response) => {
        response.setHeader('content-length', content.length)
        file.pipeTo(response, { chunkSize: CHUNK }).then(resolve, reject)
      })
    })
    server.emit('connection', duplex)
    duplex.push('GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n')
    t.false((await answered).lent)
    t.true(same(whole(wire).subarray(-content.length), content))
  }))

test('pipeTo gives chunks to web streams for good', (t) =>
  withFile(async (file) => {
    const kept: Uint8Array[] = []
    const keeper = new WritableStream<Uint8Array>({ write: (chunk) => void kept.push(chunk) })
    t.deepEqual(await file.pipeTo(keeper, { chunkSize: CHUNK }), { bytes: content.length, lent: false })
    t.true(same(whole(kept), content))
    const compressor = new CompressionStream('gzip')
    const decompressed = new Response(compressor.readable.pipeThrough(new DecompressionStream('gzip')) as never)
    const [bytes] = await Promise.all([decompressed.arrayBuffer(), file.pipeTo(compressor.writable as never)])
    t.true(same(new Uint8Array(bytes), content))
    const leftOpen = new WritableStream<Uint8Array>()
    await file.pipeTo(leftOpen, { preventClose: true })
    await leftOpen.getWriter().close()
    const failing = new WritableStream<Uint8Array>({
      write() {
        throw new Error('full')
      },
    })
    await t.throwsAsync(file.pipeTo(failing), { message: 'full' })
  }))

test('pipeTo leaves a stream open if it is asked to, and reports its progress', (t) =>
  withFile(async (file) => {
    const target = scratch.path()
    const sink = createWriteStream(target)
    const reports: Progress[] = []
    const options = { chunkSize: CHUNK, preventClose: true, end: 99_999 }
    await file.pipeTo(sink, { ...options, onProgress: (progress) => void reports.push(progress) })
    t.deepEqual(reports.at(-1), { bytes: 100_000, total: 100_000 })
    t.false(sink.writableEnded)
    await file.pipeTo(sink, { chunkSize: CHUNK, start: 100_000 })
    t.true(same(contents(target), content))
    const error = new Error('enough')
    const onProgress = (): never => {
      throw error
    }
    const failing = createWriteStream(scratch.path())
    t.is(await t.throwsAsync(file.pipeTo(failing, { onProgress })), error)
    t.true(failing.destroyed)
  }))

test('pipeTo rejects when the stream fails, is closed, or was; and destroys it when it is aborted', (t) =>
  withFile(async (file) => {
    const failing = new Writable({ write: (_chunk, _encoding, done) => done(new Error('full')) })
    await t.throwsAsync(file.pipeTo(failing), { message: 'full' })
    const closing = new Writable({
      write() {
        this.destroy()
      },
    })
    await t.throwsAsync(file.pipeTo(closing), { code: 'ERR_STREAM_PREMATURE_CLOSE' })
    const destroyed = new PassThrough()
    destroyed.destroy()
    await t.throwsAsync(file.pipeTo(destroyed))
    // What something else ends in the middle.
    for (const sink of [new PassThrough(), createWriteStream(scratch.path())]) {
      const cutOff = file.pipeTo(sink, { chunkSize: CHUNK })
      sink.end()
      await t.throwsAsync(cutOff, { code: 'ERR_DEEPRING_CLOSED' })
    }
    // One that takes nothing more.
    const controller = new AbortController()
    const stuck = new Writable({ write: () => {} })
    const piping = file.pipeTo(stuck, { signal: controller.signal, chunkSize: CHUNK })
    await pause(20)
    controller.abort('enough')
    const error = await t.throwsAsync(piping, { name: 'AbortError' })
    t.is((error as { cause?: unknown }).cause, 'enough')
    t.true(stuck.destroyed)
    await t.throwsAsync(file.pipeTo(new PassThrough(), { signal: controller.signal }), { name: 'AbortError' })
    await rejected(t, () => file.pipeTo({} as never), 'ERR_DEEPRING_INVALID_ARG_TYPE')
    await rejected(t, () => file.pipeTo(new PassThrough(), { last: 3 } as never), 'ERR_DEEPRING_INVALID_ARG_VALUE')
  }))

test('a client that goes away ends the pipe, and the file can be closed', async (t) => {
  const own = scratch.file(content)
  const engine = new Engine()
  const server = http.createServer()
  const ended = new Promise<{ code?: string }>((resolve) => {
    server.on('request', (_request, response) => {
      void (async () => {
        const file = await engine.open(own)
        try {
          await file.pipeTo(response, { chunkSize: CHUNK })
        } catch (error) {
          resolve(error as { code?: string })
        } finally {
          await file.close()
        }
      })()
    })
  })
  const { port, close } = await listening(server)
  const controller = new AbortController()
  const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: controller.signal })
  await answer.body?.getReader().read()
  controller.abort()
  t.true(['ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET', 'EPIPE'].includes(String((await ended).code)))
  await close()
  await engine.close()
  t.is(openDescriptors(own), 0)
})

// ---- asyncBuffer

test('an async buffer has the parts that slice names, in memory of their own', (t) =>
  withFile(async (file) => {
    const buffer = await file.asyncBuffer()
    t.is(buffer.byteLength, content.length)
    for (const [start, end] of [
      [0, 10],
      [4095, 70_001],
      [content.length - 3, undefined],
      [-8, undefined],
      [-8, -4],
      [5, 5],
      [9, 3],
      [content.length - 5, content.length + 5],
    ] as const) {
      const part = await buffer.slice(start, end)
      t.true(part instanceof ArrayBuffer)
      t.true(same(new Uint8Array(part), content.slice(start, end)), `${start} to ${end}`)
      structuredClone(part, { transfer: [part] })
    }
    await t.throwsAsync(buffer.slice('1' as never), { code: 'ERR_DEEPRING_INVALID_ARG_TYPE' })
  }))

test.after('nothing has changed the file of the tests', (t) => {
  t.is(statSync(path).size, content.length)
  t.true(same(contents(path), content))
})
