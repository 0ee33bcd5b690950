/** `deepring ls`. */

import { basename } from 'node:path'
import type { TensorInfo } from '../safetensors/index.ts'
import type { Invocation, Report } from './invocation.ts'
import { withModel, type Model } from './model.ts'
import type { Paint } from './screen.ts'
import { bytesText, countText, grid, printable } from './text.ts'

/** Tensors and their bytes, of an element type or of a part of the names. */
interface Sum {
  tensors: number
  bytes: number
}

/** The tensors of a model. */
export async function ls({ words: [path = ''], options, screen, signal }: Invocation): Promise<Report> {
  return withModel(path, options.count('generation'), signal, async (model) => {
    const { table, checkpoint, safetensors } = model
    const tensors = Array.from(table.names(), (name) => table.info(name))
    const dtypes = new Map<string, Sum>()
    for (const { dtype, byteLength } of tensors) add(dtypes, dtype, byteLength)
    const data = {
      path,
      ...(checkpoint === undefined ? {} : { generation: checkpoint.number, step: checkpoint.step ?? null }),
      files: table.files,
      bytes: table.bytes,
      dtypes: Object.fromEntries(dtypes),
      ...(safetensors === undefined ? {} : straysOf(safetensors)),
      tensors,
    }
    const { paint } = screen
    const body = options.has('tree') ? treeLines(tensors, paint) : tensorLines(tensors, table.files.length > 1, paint)
    return { data, lines: [...body, ...totalLines(model, dtypes, paint)] }
  })
}

function add(sums: Map<string, Sum>, key: string, bytes: number): void {
  const sum = sums.get(key) ?? { tensors: 0, bytes: 0 }
  sum.tensors += 1
  sum.bytes += bytes
  sums.set(key, sum)
}

/** What is odd about the files. */
function straysOf({ metadata, missing, unindexed, trailing }: NonNullable<Model['safetensors']>): object {
  return { metadata: Object.fromEntries(metadata), missing, unindexed, trailing }
}

function tensorLines(tensors: readonly TensorInfo[], several: boolean, paint: Paint): string[] {
  const head = ['name', 'dtype', 'shape', 'bytes', ...(several ? ['file'] : []), 'position'].map((word) =>
    paint('dim', word),
  )
  const rows = tensors.map(({ name, dtype, shape, byteLength, path, position }) => [
    printable(name),
    printable(dtype),
    `[${shape.join(', ')}]`,
    String(byteLength),
    ...(several ? [printable(basename(path))] : []),
    String(position),
  ])
  return grid([head, ...rows], several ? '<<<><>' : '<<<>>')
}

/** A part of the names, between points. */
interface Branch extends Sum {
  readonly parts: Map<string, Branch>
  /** Of the tensor that ends here. */
  info: TensorInfo | undefined
}

function branch(): Branch {
  return { tensors: 0, bytes: 0, parts: new Map(), info: undefined }
}

function treeLines(tensors: readonly TensorInfo[], paint: Paint): string[] {
  const root = branch()
  for (const info of tensors) {
    let at = root
    for (const part of info.name.split('.')) {
      const next = at.parts.get(part) ?? branch()
      at.parts.set(part, next)
      next.tensors += 1
      next.bytes += info.byteLength
      at = next
    }
    at.info = info
  }
  return grid([...branchRows(root, '', paint)], '<>><')
}

function* branchRows(of: Branch, indent: string, paint: Paint): Generator<string[]> {
  let left = of.parts.size
  for (const [part, below] of of.parts) {
    left -= 1
    let [name, at] = [printable(part), below]
    // A chain without branches is one row.
    while (at.info === undefined && at.parts.size === 1) {
      const [[next, only]] = [...at.parts] as [[string, Branch]]
      ;[name, at] = [`${name}.${printable(next)}`, only]
    }
    const kind = at.info === undefined ? '' : `${printable(at.info.dtype)} [${at.info.shape.join(', ')}]`
    const count = at.parts.size === 0 ? '' : countText(at.tensors, 'tensor')
    yield [`${paint('dim', indent + (left === 0 ? '└─ ' : '├─ '))}${name}`, bytesText(at.bytes), count, kind]
    yield* branchRows(at, indent + (left === 0 ? '   ' : '│  '), paint)
  }
}

function totalLines(
  { table, checkpoint, safetensors }: Model,
  dtypes: ReadonlyMap<string, Sum>,
  paint: Paint,
): string[] {
  const rows = [...dtypes]
    .toSorted(([, one], [, other]) => other.bytes - one.bytes)
    .map(([dtype, { tensors, bytes }]) => [printable(dtype), countText(tensors, 'tensor'), bytesText(bytes)])
  const total = [
    'all',
    countText(table.size, 'tensor'),
    bytesText(table.bytes),
    `in ${countText(table.files.length, 'file')}`,
  ]
  const generation =
    checkpoint === undefined
      ? []
      : [`generation ${checkpoint.number}${checkpoint.step === undefined ? '' : `, step ${checkpoint.step}`}`]
  const { missing = [], unindexed = [], trailing = 0 } = safetensors ?? {}
  const odd = [
    missing.length > 0 ? `${countText(missing.length, 'tensor')} of the index missing in the files` : '',
    unindexed.length > 0 ? `${countText(unindexed.length, 'tensor')} of the files not in the index` : '',
    trailing > 0 ? `${countText(trailing, 'byte')} behind the last tensors` : '',
  ].filter((words) => words !== '')
  return ['', ...generation, ...grid([...rows, total], '<>><'), ...odd.map((words) => paint('yellow', words))]
}
