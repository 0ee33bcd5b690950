/** What is written is read by others: here by the parser of `@huggingface/hub`, which fetches parts of files. */

import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import test from 'ava'
import { parseSafetensorsMetadata } from '@huggingface/hub'
import { saveSafetensors, type SaveOptions } from '../lib/safetensors/index.ts'
import { makeScratch, pattern } from './harness.ts'

const scratch = makeScratch()

const TENSORS = {
  'encoder.weight': { dtype: 'F32', shape: [3, 4], data: new Float32Array(12) },
  'encoder.bias': { dtype: 'BF16', shape: [4], data: pattern(8) },
  ids: { dtype: 'I64', shape: [2], data: new BigInt64Array(2) },
  flag: { dtype: 'BOOL', shape: [], data: new Uint8Array(1) },
  'é\n"': { dtype: 'U8', shape: [0, 7], data: new Uint8Array(0) },
} as const

/** Serves the files of a folder, whole or in part, as the hub does. */
function fetchFrom(folder: string): typeof fetch {
  return async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : String(input))
    const name = decodeURIComponent(basename(url.pathname))
    if (!readdirSync(folder).includes(name)) return new Response('there is none', { status: 404 })
    const bytes = readFileSync(join(folder, name))
    const range = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get('Range') ?? '')
    const [begin, end] = range ? [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)] : [0, bytes.length]
    const headers = {
      'Content-Length': String(end - begin),
      'Content-Range': `bytes ${begin}-${end - 1}/${bytes.length}`,
      ETag: '"0"',
    }
    return new Response(bytes.subarray(begin, end), { status: range ? 206 : 200, headers })
  }
}

async function parsed(folder: string): ReturnType<typeof parseSafetensorsMetadata> {
  return parseSafetensorsMetadata({ repo: 'some/model', fetch: fetchFrom(folder), computeParametersCount: true })
}

/** What the parser finds of a tensor. */
interface Found {
  readonly dtype: string
  readonly shape: readonly number[]
  readonly data_offsets: readonly [number, number]
}

const OPTIONS: readonly SaveOptions[] = [
  {},
  { align: 8, order: 'reference' },
  { order: 'given', checksum: 'crc32c', metadata: { note: 'é"\n' } },
]

test('the hub parses a file in any order, with and without checksums', async (t) => {
  for (const options of OPTIONS) {
    const folder = scratch.directory('hub')
    await saveSafetensors(join(folder, 'model.safetensors'), TENSORS, options)
    const found = await parsed(folder)
    if (found.sharded) throw new Error('one file')
    const { __metadata__: metadata = {}, ...tensors } = found.header
    t.is(metadata.format, 'pt')
    t.is(metadata['note'], options.metadata === undefined ? undefined : 'é"\n')
    t.is('deepring.crc32c' in metadata, options.checksum !== undefined)
    t.deepEqual(Object.keys(tensors).toSorted(), Object.keys(TENSORS).toSorted())
    for (const [name, { dtype, shape, data }] of Object.entries(TENSORS)) {
      const tensor = tensors[name] as Found
      const [begin, end] = tensor.data_offsets
      t.deepEqual([tensor.dtype, tensor.shape, end - begin], [dtype, [...shape], data.byteLength])
    }
  }
})

test('the hub parses a model in several files', async (t) => {
  const folder = scratch.directory('hub')
  await saveSafetensors(folder, TENSORS, { shardBytes: 30 })
  const found = await parsed(folder)
  if (!found.sharded) throw new Error('several files')
  const map = found.index.weight_map ?? {}
  t.deepEqual(Object.keys(map).toSorted(), Object.keys(TENSORS).toSorted())
  for (const [name, file] of Object.entries(map)) {
    const tensor = found.headers[file]?.[name] as Found
    const { dtype, shape } = TENSORS[name as keyof typeof TENSORS]
    t.deepEqual([tensor.dtype, tensor.shape], [dtype, [...shape]])
  }
  t.true(Object.keys(found.headers).length >= 2)
})
