/** `deepring verify`. */

import { realpathSync, statSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { hashFile, writeFile } from '../../index.ts'
import { verifyGenerations } from './checkpoint.ts'
import { verificationLines } from './damage.ts'
import { Misuse, Refusal, sentenceOf } from './failure.ts'
import type { Invocation, Report } from './invocation.ts'
import { generationsOf, withModel } from './model.ts'
import type { Paint } from './screen.ts'
import { countText, quotedOf } from './text.ts'

/** The checksum that a file should have. */
interface Expected {
  readonly path: string
  readonly algorithm: 'sha256' | 'crc32c'
  readonly hex: string
}

/** A file that was compared. */
interface Compared extends Expected {
  readonly ok: boolean
  /** The checksum that it has; absent if it could not be read. */
  readonly actual?: string
  readonly error?: string
}

const HEX_DIGITS = { sha256: 64, crc32c: 8 } as const

/** A line of a list, as sha256sum makes it: a star marks binary files. */
const LIST_LINE = /^([0-9a-f]+)[ \t]+\*?(.+)$/i

/** Compares with checksums. */
export async function verify(invocation: Invocation): Promise<Report> {
  const { words, options, signal } = invocation
  const ways = ['sha256', 'crc32c', 'list', 'write'].filter((name) => options.has(name))
  if (ways.length > 1) throw new Misuse(`--${ways.join(' and --')} exclude each other`)
  const [way] = ways
  if (way === 'list') {
    if (words.length > 0) throw new Misuse('--list names the files itself')
    return compareFiles(await expectedIn(options.text('list') as string, signal), invocation)
  }
  if (words.length === 0) throw new Misuse('an argument is missing: PATH')
  if (way === 'write') return writeList(options.text('write') as string, invocation)
  if (way === 'sha256' || way === 'crc32c') {
    if (words.length > 1) throw new Misuse(`--${way} is of one file`)
    return compareFiles([expectedOf(words[0] as string, way, options.text(way) as string)], invocation)
  }
  const [path = ''] = words
  if (words.length > 1) {
    const blobs = words.map((each) => blobOf(each))
    if (blobs.every((blob) => blob !== undefined)) return compareFiles(blobs, invocation)
    throw new Misuse('without --list or --write, several PATHs must be blobs that are named by their SHA-256')
  }
  const blob = blobOf(path)
  if (blob !== undefined) return compareFiles([blob], invocation)
  const generation = options.count('generation')
  const generations = await generationsOf(path, signal)
  if (generations.length > 0)
    return verifyGenerations(path, generation === undefined ? generations : [generation], invocation)
  return verifyModel(path, generation, invocation)
}

function expectedOf(path: string, algorithm: Expected['algorithm'], hex: string): Expected {
  const digits = HEX_DIGITS[algorithm]
  if (hex.length !== digits || /[^0-9a-f]/i.test(hex))
    throw new Misuse(`--${algorithm} ${quotedOf(hex)} is not ${digits} hexadecimal digits`)
  return { path, algorithm, hex: hex.toLowerCase() }
}

/** The cache of Hugging Face: a link into `blobs/`, whose files have their SHA-256 as their name. */
function blobOf(path: string): Expected | undefined {
  const name = basename(realpathSync(path))
  const isHash = /^[0-9a-f]{64}$/.test(name) && statSync(path).isFile()
  return isHash ? { path, algorithm: 'sha256', hex: name } : undefined
}

async function expectedIn(list: string, signal: AbortSignal): Promise<Expected[]> {
  const files: Expected[] = []
  // A list can be a pipe, whose writer takes its time.
  const text = await readFile(list, { encoding: 'utf8', signal })
  for (const [nth, line] of text.split(/\r?\n/).entries()) {
    if (line === '') continue
    const [, hex = '', name = ''] = LIST_LINE.exec(line) ?? []
    const algorithm = (['sha256', 'crc32c'] as const).find((each) => HEX_DIGITS[each] === hex.length)
    if (algorithm === undefined)
      throw new Refusal(`line ${nth + 1} of ${quotedOf(list)} is not a CRC-32C or SHA-256 and a name`)
    files.push({ path: isAbsolute(name) ? name : join(dirname(list), name), algorithm, hex: hex.toLowerCase() })
  }
  if (files.length === 0) throw new Refusal(`${quotedOf(list)} names no file`)
  return files
}

/** What the bar adds up to. */
function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0
}

async function compareFiles(files: readonly Expected[], { screen, signal }: Invocation): Promise<Report> {
  const bar = screen.bar('verify')
  const total = files.reduce((sum, { path }) => sum + sizeOf(path), 0)
  let before = 0
  const compared: Compared[] = []
  for (const file of files) {
    compared.push(await compareFile(file, signal, ({ bytes }) => bar.set({ bytes: before + bytes, total })))
    before += sizeOf(file.path)
  }
  const bad = compared.filter(({ ok }) => !ok)
  const lines = bad.map((file) => damagedFile(file, screen.paint))
  const good = compared.length - bad.length
  if (good > 0) lines.push(`${countText(good, 'file')} as expected`)
  return { data: { ok: bad.length === 0, files: compared }, lines, ok: bad.length === 0 }
}

async function compareFile(
  file: Expected,
  signal: AbortSignal,
  onProgress: (progress: { readonly bytes: number; readonly total: number }) => void,
): Promise<Compared> {
  try {
    const actual = await hashFile(file.path, file.algorithm, { signal, onProgress })
    return { ...file, ok: actual === file.hex, actual }
  } catch (error) {
    if (signal.aborted) throw error
    return { ...file, ok: false, error: sentenceOf(error) }
  }
}

function damagedFile({ path, algorithm, hex, actual, error }: Compared, paint: Paint): string {
  if (actual === undefined) return `${paint('red', 'not read')} ${quotedOf(path)}: ${error}`
  return `${paint('red', 'damaged')} ${quotedOf(path)}: its ${algorithm} is ${actual}, and not ${hex}`
}

async function writeList(list: string, { words, screen, signal }: Invocation): Promise<Report> {
  const bar = screen.bar('sum')
  const total = words.reduce((sum, path) => sum + sizeOf(path), 0)
  let before = 0
  const files: Expected[] = []
  for (const path of words) {
    const onProgress = ({ bytes }: { readonly bytes: number }): void => bar.set({ bytes: before + bytes, total })
    files.push({ path, algorithm: 'crc32c', hex: await hashFile(path, 'crc32c', { signal, onProgress }) })
    before += sizeOf(path)
  }
  const folder = dirname(resolve(list))
  const lines = files.map(({ path, hex }) => `${hex}  ${relative(folder, resolve(path))}\n`)
  await writeFile(list, lines.join(''), { replace: true, signal })
  return { data: { list, files }, lines: [`${countText(files.length, 'checksum')} in ${quotedOf(list)}`] }
}

async function verifyModel(path: string, generation: number | undefined, invocation: Invocation): Promise<Report> {
  const { screen, signal } = invocation
  const found = await withModel(path, generation, signal, ({ table }) =>
    table.verify({ signal, onProgress: screen.bar('verify').set }),
  )
  return { data: { path, ...found }, lines: verificationLines(found, screen.paint), ok: found.ok }
}
