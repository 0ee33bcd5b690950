/**
 * Whole files and streams, by deepring and by node:fs. A file is open before the region where the way takes an open one; a path is
 * opened inside.
 */

import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import fsPromises from 'node:fs/promises'
import net from 'node:net'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { allocate, copyFile, hashFile, open, readFile, type FileHandle } from '../../index.ts'
import { Meter, report } from '../../lib/measure/meter.ts'
import type { Outcome } from '../../lib/measure/outcome.ts'
import { Tiles } from '../tiles.ts'
import { parameters, type WholeMethod, type WholeParameters } from './parameters.ts'
import { ranByEngine } from './ran.ts'

const CHUNK_BYTES = 1 << 20

const { method, file, bytes, seed, source, to } = parameters<WholeParameters>()
const pattern = { origin: 0, seed }

const methods: Readonly<Record<WholeMethod, () => Promise<Outcome>>> = {
  chunks: () => measured(readChunks, true),
  readStream: () => measured(async () => drain((await open(file)).createReadStream()), true),
  fsReadStream: () => measured(() => drain(fs.createReadStream(file, { highWaterMark: CHUNK_BYTES })), false),
  pipeTo: () => toSocket(async (socket, handle) => void (await handle.pipeTo(socket))),
  fsPipe: () => toSocket((socket) => pipeline(fs.createReadStream(file, { highWaterMark: CHUNK_BYTES }), socket)),
  memoryToSocket: () => toSocket(fromMemory),
  readInto: () => read(() => readFile(file, { into: touched }), allocate(bytes).fill(0x5a)),
  readFresh: () => read(() => readFile(file)),
  readRaw: () => read(readRaw, allocate(bytes).fill(0x5a)),
  fsReadFile: () => read(() => fsPromises.readFile(file)),
  copy: () => measured(() => copyFile(file, to, { clone: 'never', durable: true }), true),
  fsCopy: () => measured(copyByNode, false),
  crc32c: () => measured(() => hashFile(file, 'crc32c'), true),
  sha256: () => measured(() => hashFile(file, 'sha256'), true),
  hashMemory: () => measured(async () => hashMemory(), false),
  hashFresh,
}

let touched = new Uint8Array(0)
report(await methods[method]())

async function measured(run: () => Promise<unknown>, byEngine: boolean): Promise<Outcome> {
  const meter = new Meter()
  await run()
  const outcome = meter.stop(bytes, 1)
  return { ...outcome, ran: byEngine ? await ranByEngine() : 'buffered' }
}

/** Each chunk is looked at, at its first page: a stamp names its place. */
async function readChunks(): Promise<void> {
  const handle = await open(file)
  let position = 0
  for await (const chunk of handle.chunks()) {
    const [page] = new Uint32Array(chunk.bytes.buffer, chunk.bytes.byteOffset, 1)
    if (page !== position / 4096) throw new Error(`the chunk at ${position} is another`)
    position += chunk.byteLength
    chunk.dispose()
  }
  if (position !== bytes) throw new Error(`${position} bytes came, not ${bytes}`)
  await handle.close()
}

/** Takes everything, and keeps nothing. */
async function drain(stream: NodeJS.ReadableStream): Promise<void> {
  let taken = 0
  const sink = new Writable({
    highWaterMark: CHUNK_BYTES,
    write(chunk: Buffer, _encoding, done) {
      if (chunk.readUInt32LE(0) !== taken / 4096) return done(new Error(`the chunk at ${taken} is another`))
      taken += chunk.length
      done()
    },
  })
  await pipeline(stream, sink)
  if (taken !== bytes) throw new Error(`${taken} bytes came, not ${bytes}`)
}

/** Into a socket whose other end is read by another process, as fast as it can. */
async function toSocket(send: (socket: net.Socket, handle: FileHandle) => Promise<void>): Promise<Outcome> {
  const program = `
    let bytes = 0
    const server = require('net').createServer((socket) => {
      const buffer = Buffer.alloc(1 << 20)
      socket.on('data', (data) => { bytes += data.length })
      socket.on('end', () => { console.log(bytes); socket.end(); server.close() })
    })
    server.listen(0, '127.0.0.1', () => console.log(server.address().port))`
  const reader = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  reader.stdout.setEncoding('utf8').on('data', (text: string) => lines.push(...text.trim().split('\n')))
  const ended = once(reader, 'close')
  while (lines.length === 0) await once(reader.stdout, 'data')
  const socket = net.connect(Number(lines[0]), '127.0.0.1')
  await once(socket, 'connect')
  const handle = await open(file)
  const meter = new Meter()
  await send(socket, handle)
  const outcome = meter.stop(bytes, 1)
  await handle.close()
  await ended
  if (Number(lines[1]) !== bytes) throw new Error(`${lines[1]} bytes arrived, not ${bytes}`)
  return { ...outcome, ran: method === 'pipeTo' ? await ranByEngine() : 'buffered' }
}

/** What the socket alone costs: the same pieces, of memory that is there. */
async function fromMemory(socket: net.Socket): Promise<void> {
  const memory = allocate(CHUNK_BYTES).fill(0x5a)
  await pipeline(function* () {
    for (let at = 0; at < bytes; at += CHUNK_BYTES) yield memory.subarray(0, Math.min(CHUNK_BYTES, bytes - at))
  }, socket)
}

async function read(run: () => Promise<Uint8Array>, memory?: Uint8Array<ArrayBuffer>): Promise<Outcome> {
  touched = memory ?? touched
  const meter = new Meter()
  const data = await run()
  const outcome = meter.stop(bytes, 1)
  new Tiles(source).check(data, pattern)
  return { ...outcome, ran: method.startsWith('fs') ? 'buffered' : await ranByEngine() }
}

async function readRaw(): Promise<Uint8Array> {
  const handle = await open(file)
  await handle.read(touched, { position: 0 })
  await handle.close()
  return touched
}

async function copyByNode(): Promise<void> {
  await fsPromises.copyFile(file, to)
  const handle = await fsPromises.open(to, 'r+')
  await handle.sync()
  await handle.close()
}

/** What one core can hash. */
function hashMemory(): void {
  const memory = allocate(CHUNK_BYTES).fill(0x5a)
  const hash = createHash('sha256')
  for (let at = 0; at < bytes; at += CHUNK_BYTES) hash.update(memory.subarray(0, Math.min(CHUNK_BYTES, bytes - at)))
  hash.digest('hex')
}

/** The same of bytes that have come from the drive, and are in none of its caches. */
async function hashFresh(): Promise<Outcome> {
  const memory = await readFile(file)
  return measured(async () => createHash('sha256').update(memory).digest('hex'), false)
}
