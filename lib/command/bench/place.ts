/** Where a bench works: a folder of its own with files of random bytes, removed at the end. */

import { randomFillSync } from 'node:crypto'
import { mkdtempSync, rmSync, statfsSync, statSync } from 'node:fs'
import { freemem } from 'node:os'
import { join, resolve } from 'node:path'
import { allocate, crc32c, info, open, type EngineBuffer, type Info } from '../../../index.ts'
import { Refusal } from '../failure.ts'
import { bytesText, quotedOf } from '../text.ts'

/** File systems that have no drive. */
const IN_MEMORY: ReadonlySet<string> = new Set(['tmpfs', 'ramfs', 'devtmpfs', 'hugetlbfs'])

/** Files at once: one is read, one overwritten, one new. */
const FILES = 3

/** Of the room that is free, so much is taken at most. */
const ROOM_SHARE = 0.9

/** The size of a file is a multiple of this. */
export const STEP_BYTES: number = 8 << 20

/** Bytes of a request. Two are in flight at a time. */
const PIECE_BYTES = 256 << 20

/** Of the memory that is free, a request takes so much at most: there are four pieces of it. */
const MEMORY_SHARE = 1 / 8

/** See the module. */
export interface Place extends AsyncDisposable {
  /** The folder that was given. */
  readonly parent: string
  readonly fileSystem: string
  readonly device: string
  readonly inMemory: boolean
  readonly direct: boolean
  /** What moves the bytes. */
  readonly backend: string
  /** What tells the device from others: its model and serial number, or the UUID of its file system; else its name here. */
  readonly deviceId: string
  readonly kernel: string
  readonly version: string
  /** What people must know of the figures. */
  readonly notes: readonly string[]
  /** Bytes of a file. */
  readonly bytes: number
  /** Two pieces of memory with random bytes, each of one request. */
  readonly memory: readonly [EngineBuffer, EngineBuffer]
  /** Two more, to read into. */
  readonly into: readonly [EngineBuffer, EngineBuffer]
  /** The CRC-32C of {@link Place.memory}. */
  readonly sums: readonly [number, number]
  /** The file that is read. */
  readonly read: string
  /** The file that is written over. */
  readonly overwritten: string
  /** A name that no file has. */
  fresh(): string
}

/** What is known of a folder before anything is made in it. */
export interface Examined extends Pick<
  Place,
  | 'parent'
  | 'fileSystem'
  | 'device'
  | 'deviceId'
  | 'inMemory'
  | 'direct'
  | 'backend'
  | 'kernel'
  | 'version'
  | 'notes'
  | 'bytes'
> {
  readonly info: Info
}

/** Looks at a folder. Asks for less than `wanted` if there is no room for so many files, and says so. */
export async function examine(
  parent: string,
  wanted: number,
  { files, verb, signal }: { readonly files: number; readonly verb: string; readonly signal: AbortSignal },
): Promise<Examined> {
  if (!statSync(parent).isDirectory()) throw new Refusal(`${quotedOf(parent)} is not a directory`)
  const found = await info(parent, { signal })
  const { fileSystem = 'unknown', device = 'unknown', direct = false, directReason } = found.path ?? {}
  const { bavail, bsize } = statfsSync(parent)
  const free = bavail * bsize
  const room = (free * ROOM_SHARE) / files
  const bytes = Math.floor(Math.min(wanted, room) / STEP_BYTES) * STEP_BYTES
  if (bytes === 0)
    throw new Refusal(
      wanted < STEP_BYTES
        ? `--io-size: at least ${bytesText(STEP_BYTES)}`
        : `${verb} needs ${bytesText(files * STEP_BYTES)} in ${quotedOf(parent)}, where ${bytesText(free)} are free`,
    )
  const inMemory = IN_MEMORY.has(fileSystem)
  const notes = [
    inMemory ? `${quotedOf(parent)} is in memory (${fileSystem}): this measures memory, not a drive` : '',
    !inMemory && !direct && found.path !== undefined
      ? `there is no direct I/O (${directReason}): this measures the page cache, too`
      : '',
    bytes < wanted - STEP_BYTES
      ? `there is room for ${files === 1 ? 'a file' : 'files'} of ${bytesText(bytes)}, not of ${bytesText(wanted)}: ${bytesText(free)} are free`
      : '',
  ].filter((note) => note !== '')
  const { backend, kernel, version } = found
  const deviceId = found.path?.profile.device ?? `${fileSystem} on ${device}`
  return { parent, fileSystem, device, deviceId, inMemory, direct, backend, kernel, version, notes, bytes, info: found }
}

/** Makes the files, as large as {@link examine} says. */
export async function openPlace(
  parent: string,
  wanted: number,
  signal: AbortSignal,
  showProgress: (line: string) => void,
): Promise<Place> {
  const { info: _, ...examined } = await examine(parent, wanted, { files: FILES, verb: 'the bench', signal })
  const { bytes } = examined
  const folder = mkdtempSync(join(resolve(parent), 'deepring-bench-'))
  try {
    const share = Math.floor((freemem() * MEMORY_SHARE) / STEP_BYTES) * STEP_BYTES
    const piece = Math.max(STEP_BYTES, Math.min(PIECE_BYTES, bytes, share))
    const memory = [allocate(piece), allocate(piece)] as const
    for (const each of memory) fillRandomly(each)
    const into = [allocate(piece), allocate(piece)] as const
    // Touched, so that no page is made in a region that is timed.
    for (const each of into) each.fill(0x5a)
    const place: Place = {
      ...examined,
      memory,
      into,
      sums: [crc32c(memory[0]), crc32c(memory[1])],
      read: join(folder, 'read'),
      overwritten: join(folder, 'overwritten'),
      fresh: freshNames(folder),
      [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }),
    }
    showProgress('bench  writing files of random bytes')
    for (const path of [place.read, place.overwritten]) await fill(path, place, signal)
    return place
  } catch (error) {
    rmSync(folder, { recursive: true, force: true })
    throw error
  }
}

/** In pieces, because node:crypto takes no more than 2 GiB, and each holds up the event loop. */
export function fillRandomly(memory: Uint8Array): void {
  for (let at = 0; at < memory.length; at += STEP_BYTES) randomFillSync(memory.subarray(at, at + STEP_BYTES))
}

function freshNames(folder: string): () => string {
  let count = 0
  return () => join(folder, `new-${(count += 1)}`)
}

/** Past the page cache, where that is possible, so that nothing of it is in memory. */
async function fill(path: string, { bytes, memory }: Place, signal: AbortSignal): Promise<void> {
  await using file = await open(path, 'wx', { signal })
  const [piece] = memory
  for (const [nth, position] of positionsOf(bytes, piece.length).entries()) {
    const data = memory[(nth % 2) as 0 | 1]
    await file.write(data, { position, length: Math.min(piece.length, bytes - position), signal })
  }
  await file.sync()
}

/** Where the pieces of a file begin. */
export function positionsOf(bytes: number, piece: number): number[] {
  return Array.from({ length: Math.ceil(bytes / piece) }, (_, nth) => nth * piece)
}
