/**
 * Files that are described as data: crates/deepring-tensors/tests/hostile/*.json, which the tests of both languages read. The
 * form is in the README there.
 */

import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, mkdirSync, openSync, readFileSync, symlinkSync, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'

export type Piece =
  | string
  | { readonly hex: string }
  | { readonly repeat: string; readonly times: number }
  | { readonly each: string; readonly times: number; readonly bytes?: number }

export interface DescribedFile {
  readonly header?: Piece | readonly Piece[]
  readonly length?: string
  readonly data?: number
  readonly text?: Piece | readonly Piece[]
  readonly size?: number
  readonly link?: string
  readonly pipe?: boolean
}

/** Name, type, shape, begin and end in the data, and the file if there are several. */
export type Row = readonly [string, string, readonly number[], number, number, string?]

export interface Case {
  readonly row: number
  readonly name: string
  readonly options?: { readonly strict?: boolean; readonly maxHeaderBytes?: number }
  readonly file?: DescribedFile
  readonly files?: Readonly<Record<string, DescribedFile>>
  readonly open?: string
  readonly opens?: {
    readonly tensors?: readonly Row[]
    readonly count?: number
    readonly metadata?: Readonly<Record<string, string>>
    readonly trailing?: number
    readonly missing?: readonly string[]
    readonly unindexed?: readonly string[]
  }
  readonly refused?: {
    readonly reason: string
    readonly tensor?: string
    readonly path?: string
    readonly mentions?: string
  }
  readonly fails?: { readonly code: string; readonly tensor?: string; readonly path?: string }
}

/** The cases of one file. */
export function casesOf(name: string): readonly Case[] {
  const path = join(import.meta.dirname, '../crates/deepring-tensors/tests/hostile', name)
  return JSON.parse(readFileSync(path, 'utf8')) as Case[]
}

/** What a text or a list of its pieces describes. */
export function textOf(described: Piece | readonly Piece[]): Buffer {
  const pieces = (Array.isArray(described) ? described : [described]) as readonly Piece[]
  return Buffer.concat(pieces.map((piece) => pieceOf(piece)))
}

function pieceOf(piece: Piece): Buffer {
  if (typeof piece === 'string') return Buffer.from(piece)
  if ('hex' in piece) return Buffer.from(piece.hex, 'hex')
  if ('repeat' in piece) return Buffer.from(piece.repeat.repeat(piece.times))
  const { each, times, bytes = 0 } = piece
  const texts = Array.from({ length: times }, (_, i) =>
    each
      .replaceAll('{i}', String(i))
      .replaceAll('{begin}', String(i * bytes))
      .replaceAll('{end}', String((i + 1) * bytes)),
  )
  return Buffer.from(texts.join(','))
}

/** Described data: 1, 2, ... 251, 1, ... */
export function dataOf(begin: number, end: number): Uint8Array {
  return Uint8Array.from({ length: end - begin }, (_, i) => 1 + ((begin + i) % 251))
}

/** Writes a described file. Returns where its data begin; 0 if it has none. */
export function writeDescribed(path: string, described: DescribedFile): number {
  mkdirSync(dirname(path), { recursive: true })
  if (described.link !== undefined) {
    symlinkSync(described.link, path)
    return 0
  }
  if (described.pipe) {
    execFileSync('mkfifo', [path])
    return 0
  }
  const parts: Uint8Array[] = []
  let start = 0
  if (described.text !== undefined) {
    parts.push(textOf(described.text))
  } else {
    const header = textOf(described.header ?? '')
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(described.length === undefined ? BigInt(header.length) : BigInt(described.length))
    start = length.length + header.length
    parts.push(length, header, dataOf(0, described.data ?? 0))
  }
  const file = openSync(path, 'w')
  for (const part of parts) for (let at = 0; at < part.length;) at += writeSync(file, part, at)
  if (described.size !== undefined) ftruncateSync(file, described.size)
  closeSync(file)
  return start
}
