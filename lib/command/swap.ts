/** `deepring swap stats`: what a swap store had at its last flush, without its lock. */

import { readdirSync, readFileSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { crc32c } from '../../index.ts'
import { Refusal } from './failure.ts'
import type { Invocation, Report } from './invocation.ts'
import { bytesText, countText, crcText, grid, printable, quotedOf } from './text.ts'

/** The last field of an index: a CRC-32C of all bytes before it. */
const SEAL = /^,"crc32c":"([0-9a-f]{8})"\}\n$/
const SEAL_BYTES = ',"crc32c":"xxxxxxxx"}\n'.length

/** What is there of a store. */
export async function stats({ words: [directory = ''], screen }: Invocation): Promise<Report> {
  const dataBytes = sizeOf(join(directory, 'data'))
  const holder = holderOf(join(directory, 'lock'))
  const text = textOf(join(directory, 'index'))
  if (dataBytes === undefined && text === undefined) {
    statSync(directory)
    throw new Refusal(`${quotedOf(directory)} has no swap store`)
  }
  const index = text === undefined ? undefined : indexOf(text, directory)
  const { paint } = screen
  const open = holder === undefined ? 'no' : holder === 0 ? 'by a process' : `by process ${holder}`
  const rows = [
    ['kind', index?.kind ?? 'unknown'],
    ['open', holder === undefined ? open : paint('green', open)],
    ['last flush', index === undefined ? flushWords(holder !== undefined, paint) : index.flushed.toISOString()],
    ['file', bytesText(dataBytes ?? 0)],
    ...(index?.rows ?? []),
  ]
  const data = {
    directory,
    open: holder !== undefined,
    process: holder || null,
    fileBytes: dataBytes ?? 0,
    index: index?.data ?? null,
  }
  return { data, lines: grid(rows, '<<') }
}

/** A store that writes in place has no index from its first write after a flush on. */
function flushWords(open: boolean, paint: (style: 'yellow', text: string) => string): string {
  return open ? 'written to since' : paint('yellow', 'none: torn, it was written to and not flushed')
}

function sizeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.size
}

function textOf(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

interface Index {
  readonly kind: string
  readonly flushed: Date
  readonly data: object
  readonly rows: readonly (readonly [string, string])[]
}

/** Reads an index, if its checksum holds. */
function indexOf(bytes: Buffer, directory: string): Index {
  const end = bytes.length - SEAL_BYTES
  const [, crc] = SEAL.exec(bytes.toString('latin1', Math.max(0, end))) ?? []
  if (crc === undefined || crcText(crc32c(bytes.subarray(0, end))) !== crc)
    throw new Refusal(
      `the index of ${quotedOf(directory)} does not end in the checksum of its bytes: it was changed or cut`,
    )
  const flushed = statSync(join(directory, 'index')).mtime
  const found = JSON.parse(bytes.toString()) as FoundIndex
  return 'tensors' in found ? ofStore(flushed, found) : ofOptimizer(flushed, found)
}

/** What an index says, as docs/swap.md has it. */
type FoundIndex = StoreIndex | OptimizerIndex

interface StoreIndex {
  readonly capacity: number
  readonly tensors: readonly (readonly [name: string, dtype: string, shape: number[], at: number, crc: number | null])[]
}

interface OptimizerIndex {
  readonly durable: boolean
  readonly torn: boolean
  readonly groups: readonly { readonly name: string; readonly numel: number; readonly states: readonly string[] }[]
}

function ofOptimizer(flushed: Date, { durable, torn, groups }: OptimizerIndex): Index {
  const elements = groups.reduce((sum, { numel }) => sum + numel, 0)
  return {
    kind: 'optimizer swapper',
    flushed,
    data: { kind: 'optimizer', flushed, durable, torn, groups: groups.length, elements },
    rows: [
      ['groups', `${countText(groups.length, 'group')} of ${elements} parameters`],
      ['durable', durable ? 'yes' : 'no'],
      ['torn', torn ? 'written to since' : 'no'],
    ],
  }
}

function ofStore(flushed: Date, { capacity, tensors }: StoreIndex): Index {
  const dtypes = new Map<string, number>()
  for (const [, dtype] of tensors) dtypes.set(dtype, (dtypes.get(dtype) ?? 0) + 1)
  const summed = tensors.filter((tensor) => tensor[4] !== null).length
  const kinds = [...dtypes].map(([dtype, count]) => `${count} of ${printable(dtype)}`).join(', ')
  return {
    kind: 'store of tensors',
    flushed,
    data: { kind: 'store', flushed, capacity, tensors: tensors.length, dtypes: Object.fromEntries(dtypes), summed },
    rows: [
      ['tensors', `${countText(tensors.length, 'tensor')}${kinds === '' ? '' : `: ${kinds}`}`],
      ['capacity', bytesText(capacity)],
      ['checksums', summed === 0 ? 'none' : `of ${countText(summed, 'tensor')}`],
    ],
  }
}

/** The process that has a file locked, from the kernel's table of locks; 0 if that is in another namespace. */
function holderOf(path: string): number | undefined {
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) return undefined
  for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
    const [, pid, device, inode] = LOCK_LINE.exec(line) ?? []
    if (inode !== String(stat.ino)) continue
    // Of a subvolume of btrfs, the table has another device than the file.
    if (device === deviceText(stat.dev) || hasOpen(Number(pid), path)) return Math.max(0, Number(pid))
  }
  return undefined
}

/** `1: FLOCK  ADVISORY  WRITE 4711 fd:01:1048602 0 EOF`. */
const LOCK_LINE = /^\d+: FLOCK +\w+ +(?:READ|WRITE) +(-?\d+) ([0-9a-f]+:[0-9a-f]+):(\d+) /

/** As in the table of locks: hexadecimal, of the encoding of new_encode_dev. */
function deviceText(device: number): string {
  const [major, minor] = [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)]
  return [major, minor].map((number) => number.toString(16).padStart(2, '0')).join(':')
}

function hasOpen(pid: number, path: string): boolean {
  try {
    const [folder, file] = [`/proc/${pid}/fd`, realpathSync(path)]
    return readdirSync(folder).some((fd) => readlinkSync(`${folder}/${fd}`) === file)
  } catch {
    return false
  }
}
