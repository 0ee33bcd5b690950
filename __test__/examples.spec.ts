/**
 * The examples and the demo run as their headers say, and clean up behind themselves.
 *
 * Each runs as a user runs it: in a separate process, from a directory on the checkout's disk. The demo runs in its
 * short form. Its check is tested by a planted bug: with one damaged byte it must fail. Programs run one after the
 * other, because each uses the whole drive.
 */

import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { fitSize } from '../examples/demo/budget.ts'
import { findDifference } from '../examples/demo/difference.ts'
import { loadModels } from '../examples/demo/models.ts'
import { fillWithTiles } from '../examples/demo/tiles.ts'
import { onnxruntimeOrWhy } from '../examples/onnxruntime/runtime.ts'
import { saveSafetensors } from '../lib/safetensors/index.ts'

const examples = join(import.meta.dirname, '..', 'examples')

interface Run {
  code: number | null
  stdout: string
  stderr: string
  /** What the program left in its working directory. */
  leftovers: string[]
}

/** Runs an example in a new directory on the checkout's disk; `disturb` can interfere with it. */
async function run(
  program: string,
  parameters: string[] = [],
  disturb?: (child: ChildProcess, directory: string) => Promise<void>,
): Promise<Run> {
  const parent = join(import.meta.dirname, '..', 'node_modules', '.cache')
  await mkdir(parent, { recursive: true })
  const directory = await mkdtemp(join(parent, 'examples-'))
  try {
    const child = spawn(process.execPath, [join(examples, program), ...parameters], { cwd: directory })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const closed = once(child, 'close') as Promise<[number | null]>
    await disturb?.(child, directory)
    const [code] = await closed
    return { code, stdout, stderr, leftovers: await readdir(directory) }
  } finally {
    await rm(directory, { recursive: true })
  }
}

test.serial('load-weights reads a file and cancels a second read', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('load-weights.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^read 67108864 bytes in /m)
  t.regex(stdout, /^receipt: (uring|threads), (direct|buffered), \d+ blocks, \d+ bytes copied/m)
  t.regex(stdout, /^second read given up: these weights are no longer needed$/m)
  t.deepEqual(leftovers, [])
})

test.serial('vector-search finds every vector', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('vector-search.ts', ['--vectors', '20000'])
  t.is(code, 0, stderr)
  t.regex(stdout, /^\d+ vectors read with \d+ operations: \d+ vectors a second$/m)
  t.regex(stdout, /^every nearest vector is the right one$/m)
  t.deepEqual(leftovers, [])
})

test.serial('load-weights accepts a file of any length', async (t) => {
  const file = join(examples, 'load-weights.ts')
  const { length } = await readFile(file)
  const { code, stdout, stderr } = await run('load-weights.ts', [file])
  t.is(code, 0, stderr)
  t.regex(stdout, new RegExp(`^read ${length} bytes in `, 'm'))
})

test.serial('checksum agrees with itself over a sample', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('checksum.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^written ([0-9a-f]{8}), read \1, combined \1$/m)
  t.deepEqual(leftovers, [])
})

test.serial('checksum prints those of files, and goes on after one that is missing', async (t) => {
  const parent = join(import.meta.dirname, '..', 'node_modules', '.cache')
  await mkdir(parent, { recursive: true })
  const file = join(parent, `checksum-${process.pid}.bin`)
  t.teardown(() => rm(file, { force: true }))
  await writeFile(file, '123456789')
  const { code, stdout, stderr } = await run('checksum.ts', ['/no/such/file', file])
  t.is(code, 1)
  t.is(stdout, `e3069283  ${file}\n`)
  t.regex(stderr, /^checksum: ENOENT: .*'\/no\/such\/file'$/m)
})

test.serial('copy makes a copy with the same bytes', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('copy.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^copied 268435456 bytes in \d+ ms: \d+\.\d+ GB\/s to the drive$/m)
  t.regex(stdout, /^the copy is the same$/m)
  t.deepEqual(leftovers, [])
})

test.serial('http-ranges serves parts, and closes the file of a client that goes away', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('http-ranges.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^sent 67108864 bytes in parts, 1 client went away: every byte is right$/m)
  t.deepEqual(leftovers, [])
})

test.serial('workers sum a file over one descriptor, without a copy', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('workers.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^4 workers summed 67108864 bytes to \d+, 0 of them copied on the way\nthe sum is right$/m)
  t.deepEqual([stderr, leftovers], ['', []])
})

test.serial('workers sum a file of any length', async (t) => {
  const { code, stdout, stderr } = await run('workers.ts', [join(examples, 'workers.ts')])
  t.is(code, 0, stderr)
  t.regex(stdout, /^4 workers summed \d+ bytes to \d+, /m)
})

test.serial('follow-log prints every line that is appended', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('follow-log.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^followed 500 lines: every line is right$/m)
  t.deepEqual([stderr, leftovers], ['', []])
})

test.serial('follow-log follows a file from its end on, until it is interrupted', async (t) => {
  const { stdout, code } = await run('follow-log.ts', ['events.log'], async (child, directory) => {
    const log = join(directory, 'events.log')
    await writeFile(log, 'before\n')
    let printed = ''
    child.stdout?.on('data', (text: string) => (printed += text))
    for (let tries = 0; !printed.includes('after') && tries < 200; tries += 1) {
      await appendFile(log, 'after\n')
      await setTimeout(50)
    }
    child.kill('SIGINT')
    await appendFile(log, 'end\n')
  })
  t.is(code, 0)
  t.regex(stdout, /^(after\n)+(end\n)?$/)
})

test.serial('replace shows readers whole versions only', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('replace.ts')
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /^20 versions, one given up \(AbortError\), read meanwhile\nevery reader saw a whole version$/m)
  t.deepEqual([stderr, leftovers], ['', []])
})

test.serial('prometheus serves what stats() counts', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('prometheus.ts')
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /^\d+ lines of metrics: they count what was read$/m)
  t.deepEqual([stderr, leftovers], ['', []])
})

test.serial('parquet reads the rows that were asked for, and little else', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('parquet.ts')
  t.is(code, 0, stderr)
  const [, read, all] = /^10 of 200000 rows, (\d+) of (\d+) bytes read: every value is right$/m.exec(stdout) ?? []
  t.true(Number(read) < Number(all) / 2, stdout)
  t.deepEqual(leftovers, [])
})

test.serial('zarr writes an array and reads a part of it', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('zarr.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^50000 of 1000000 values read: every value is right$/m)
  t.deepEqual(leftovers, [])
})

test.serial('swap advances every weight by two steps', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('swap.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^2 steps over 8 partitions with 3 buffers: \d+\.\d+ GB\/s$/m)
  t.regex(stdout, /^every weight is what it should be$/m)
  t.deepEqual(leftovers, [])
})

test.serial('infer computes with a quarter of the model in memory what it computes with all of it', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('infer.ts', ['--width', '64', '--passes', '4'])
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /^4 passes over 1\.0 MiB in \d+\.\d\d s, through \d+ experts$/m)
  t.regex(stdout, /^\d+ tensors were there, \d+ of them read ahead, \d+ came from the drive$/m)
  t.regex(stdout, /^every output is what it is in memory$/m)
  t.deepEqual([stderr, leftovers], ['', []])
})

test.serial('merge-models makes the weights between those of two models', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('merge-models.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^merged 2 of 3 tensors: \d+ bytes in /m)
  t.regex(stdout, /^every weight is what it should be$/m)
  t.deepEqual(leftovers, [])
})

test.serial('merge-models leaves no file if a tensor is missing or has another shape', async (t) => {
  const folder = await mkdtemp(join(examples, '..', 'node_modules', '.cache', 'merge-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const [a, b, out] = ['a', 'b', 'out'].map((name) => join(folder, name)) as [string, string, string]
  await saveSafetensors(a, { w: { dtype: 'U8', shape: [2], data: new Uint8Array(2) } })
  await saveSafetensors(b, { w: { dtype: 'U8', shape: [2, 1], data: new Uint8Array(2) } })
  const shape = await run('merge-models.ts', [a, b, out])
  t.is(shape.code, 1)
  t.regex(shape.stderr, /w has another shape in /)
  await saveSafetensors(b, {})
  t.regex((await run('merge-models.ts', [a, b, out])).stderr, /ERR_DEEPRING_NOT_FOUND/)
  t.deepEqual((await readdir(folder)).toSorted(), ['a', 'b'])
})

test.serial('three processes that are killed at random resume their training from the last checkpoint', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('train.ts', ['--kills', '6'])
  t.is(code, 0, stdout + stderr)
  t.is([...stdout.matchAll(/^killed rank [012] after step (none|\d+)\nresuming from step \d+$/gm)].length, 6, stdout)
  t.regex(stdout, /^trained [1-9]\d* steps, and was killed 6 times$/m)
  t.regex(stdout, /^every byte is what it should be, and no step was lost$/m)
  t.deepEqual([stderr, leftovers], ['', []])
})

test.serial('training with swapped state is killed in each phase, and ends as the one in memory', async (t) => {
  // With this seed, the second process finds no checkpoint, and the state that a flush of the first one has left.
  const parameters = ['--width', '64', '--kills', '1', '--seed', '8']
  const { code, stdout, stderr, leftovers } = await run('training/main.ts', parameters)
  t.is(code, 0, stdout + stderr)
  t.regex(stdout, /^state +\d+ KiB in 32 groups, a budget of \d+ KiB, seed 8$/m)
  const killed = [...stdout.matchAll(/^killed +in (\S+) of step (\d+), after \d+ %$/gm)].map(([, ...words]) => words)
  t.deepEqual(killed.slice(0, 2), [
    ['snapshot', '2'],
    ['commit', '2'],
  ])
  t.deepEqual(killed.map(([phase]) => phase).toSorted(), ['commit', 'compute', 'snapshot', 'write-behind'])
  t.regex(
    stdout,
    /^killed +1 in compute, 1 in write-behind, 1 in snapshot, 1 in commit; \d+ steps were computed again$/m,
  )
  checkTraining(t, stdout, 8)
  t.deepEqual([stderr, leftovers], ['', []])
})

/** The lines of any training. */
function checkTraining(t: ExecutionContext, stdout: string, steps: number): void {
  const figures = String.raw`\d+\.\d ms +\d+\.\d\d`
  const bytes = String.raw`\d\S* [KM]iB`
  t.regex(stdout, new RegExp(`^in memory +${figures} +0 B +0 B +${bytes}$`, 'm'))
  t.regex(stdout, new RegExp(`^swapped +${figures} +${bytes} +${bytes} +[01]\\.\\d\\d +${bytes}$`, 'm'))
  t.regex(stdout, new RegExp(`^DeepSpeed's order, on AioHandle +${figures} +${bytes} +${bytes} +${bytes}$`, 'm'))
  t.regex(stdout, new RegExp(`^loss +2\\.\\d{4} to 0\\.\\d{4} in ${steps} steps$`, 'm'))
  t.regex(stdout, /^every loss and every bit of the state is what it is in memory/m)
}

test.serial('training refuses what cannot be', async (t) => {
  t.regex((await run('training/main.ts', ['--width', '33'])).stderr, /the width has to be a multiple of 32/)
  const few = await run('training/main.ts', ['--width', '64', '--kills', '3', '--steps', '6'])
  t.regex(few.stderr, /3 moments of each phase need at least 8 steps/)
  t.deepEqual([few.code, few.leftovers], [1, []])
})

const ort = onnxruntimeOrWhy()
const inference = 'onnxruntime infers the same with weights that deepring loaded'
if (typeof ort === 'string') {
  test.skip(`${inference} (${ort})`, () => {})
} else {
  test.serial(inference, async (t) => {
    const { code, stdout, stderr, leftovers } = await run('onnxruntime/main.ts')
    t.is(code, 0, stderr)
    t.regex(stdout, /^loaded 64383192 bytes in /m)
    t.regex(stdout, /^expert 0 infers what the original model does: yes /m)
    t.regex(stdout, /^expert 5 infers what its weights alone do: yes /m)
    t.regex(stdout, /^expert 0 and expert 5 infer different things: yes /m)
    t.deepEqual(leftovers, [])
  })
}

test.serial('random-records reads the right records', async (t) => {
  const { code, stdout, stderr, leftovers } = await run('random-records.ts')
  t.is(code, 0, stderr)
  t.regex(stdout, /^20000 random reads of 4096 bytes in /m)
  t.regex(stdout, /^every record is the right one$/m)
  t.deepEqual(leftovers, [])
})

test.serial('the demo returns every byte and reports which path it took', async (t) => {
  const jsonFile = join(import.meta.dirname, '..', 'node_modules', '.cache', `demo-${process.pid}.json`)
  t.teardown(() => rm(jsonFile, { force: true }))
  const { code, stdout, stderr, leftovers } = await run('demo/main.ts', ['--size=64M', '--dir=.', `--json=${jsonFile}`])
  t.is(code, 0, stderr)
  t.regex(stdout, /^save +917 tensors as safetensors, flushed: /m)
  t.regex(stdout, /^load +917 tensors: /m)
  t.regex(stdout, /^swap out +917 tensors: /m)
  t.regex(stdout, /^swap in +917 tensors: /m)
  t.is([...stdout.matchAll(/^compare +every byte is the same: /gm)].length, 2)
  const figures = '\\d+\\.\\d\\d +\\d+\\.\\d{3} +\\d+(\\.\\d+)? MiB'
  for (const row of [
    'load +deepring',
    'load +deepring, memory reused',
    'load +deepring, as a stream',
    'load +fs.readFile and parse',
    'save +deepring',
    'save +fs.writeFile',
  ]) {
    t.regex(stdout, new RegExp(`^${row} +${figures} +\\d+\\.\\d ms$`, 'm'))
  }
  for (const row of ['load +reference, mapped', 'load +reference, mapped and copied']) {
    t.regex(stdout, new RegExp(`^${row} +${figures}$`, 'm'))
  }
  t.regex(stdout, /^path that ran: (uring|threads), (direct|buffered), queue depth \d+, blocks of /m)
  t.deepEqual(leftovers, [])
  const document = JSON.parse(await readFile(jsonFile, 'utf8')) as Record<string, unknown>
  t.is(document.tensors, 917)
  // A whole number of copies of the weights.
  t.is(document.sizeBytes, 4 * 15_983_276)
  t.deepEqual(document.mismatches, [])
})

test.serial('planted bug: the demo fails on one damaged byte and reports it', async (t) => {
  const { code, stdout, leftovers } = await run('demo/main.ts', ['--size=4M', '--dir=.', '--plant-error'])
  t.is(code, 1)
  const damaged = /^MISMATCH +\S+ \(F32 \[1, ([\d, ]+)\]\) differs from byte (\d+) on$/m.exec(stdout)
  const bytes = damaged?.[1]!.split(', ').reduce((product, extent) => product * Number(extent), 4)
  t.is(Number(damaged?.[2]), Math.floor(bytes! / 3), stdout)
  t.regex(stdout, /^compare +1 of 917 tensors DIFFER: /m)
  t.regex(stdout, /^compare +every byte is the same: /m)
  t.deepEqual(leftovers, [])
})

test.serial('the demo with --train compares a training and writes its figures', async (t) => {
  const jsonFile = join(import.meta.dirname, '..', 'node_modules', '.cache', `demo-train-${process.pid}.json`)
  t.teardown(() => rm(jsonFile, { force: true }))
  const parameters = ['--train', '--size=700K', '--kills=0', '--dir=.', `--json=${jsonFile}`]
  const { code, stdout, stderr, leftovers } = await run('demo/main.ts', parameters)
  t.is(code, 0, stdout + stderr)
  checkTraining(t, stdout, 6)
  t.deepEqual(leftovers, [])
  const { losses, kills } = JSON.parse(await readFile(jsonFile, 'utf8')) as Record<string, unknown>
  t.is((losses as unknown[]).length, 6)
  t.deepEqual(kills, { compute: 0, 'write-behind': 0, snapshot: 0, commit: 0 })
})

test.serial('planted bug: the demo with --train fails on one bit of the swapped state', async (t) => {
  const parameters = ['--train', '--size=700K', '--kills=0', '--dir=.', '--plant-error']
  const { code, stdout, stderr, leftovers } = await run('demo/main.ts', parameters)
  t.is(code, 1, stdout)
  t.regex(
    stderr,
    /the loss of step [456] is [\d.]+, and in memory it is [\d.]+$|hidden\.5\.param differs from what it is/m,
  )
  t.notRegex(stdout, /every loss and every bit/)
  t.deepEqual(leftovers, [])
})

test.serial('an interrupted demo removes its directory', async (t) => {
  const { code, leftovers } = await run('demo/main.ts', ['--size=256M', '--dir=.'], async (child, directory) => {
    while (child.exitCode === null && !(await hasFiles(directory))) await setTimeout(5)
    child.kill('SIGINT')
  })
  t.is(code, 130)
  t.deepEqual(leftovers, [])
})

/** Whether a directory inside `parent` holds anything yet. */
async function hasFiles(parent: string): Promise<boolean> {
  const entries = await readdir(parent, { recursive: true })
  return entries.length > 1
}

test.serial('the demo refuses options it does not know', async (t) => {
  const { code, stderr } = await run('demo/main.ts', ['--sise=64M'])
  t.is(code, 2)
  t.regex(stderr, /--sise/)
  const kills = await run('demo/main.ts', ['--kills=2'])
  t.is(kills.code, 2)
  t.regex(kills.stderr, /--kills is an option of --train/)
})

test('the models hold the tensors that the demo promises', async (t) => {
  const models = await loadModels()
  const counts = Object.fromEntries(models.map(({ name, weights }) => [name, weights.length]))
  t.deepEqual(counts, {
    'ch_PP-OCRv4_det_infer': 342,
    'ch_PP-OCRv4_rec_infer': 325,
    'ch_ppocr_mobile_v2.0_cls_infer': 250,
  })
  t.is(models.flatMap(({ weights }) => weights).filter(({ data }) => data.length === 0).length, 6)
})

test('no two tiles are equal in any sector', async (t) => {
  const tile = Buffer.alloc(3 * 512 + 4, 7)
  const tensor = Buffer.alloc(600 * tile.length + 100)
  await fillWithTiles(tensor, tile, () => {})
  for (let sector = 0; sector < tile.length; sector += 512) {
    const seen = new Set<string>()
    for (let start = 0; start + tile.length <= tensor.length; start += tile.length) {
      seen.add(tensor.subarray(start + sector, Math.min(start + sector + 512, start + tile.length)).toString('latin1'))
    }
    t.is(seen.size, 600)
  }
})

test('planted bug: the comparison finds a single bit, and a missing end', async (t) => {
  const bytes = Buffer.alloc(40 * 2 ** 20, 1)
  const other = Buffer.from(bytes)
  t.is(await findDifference(bytes, other), undefined)
  t.is(await findDifference(bytes, other.subarray(0, -1)), bytes.length - 1)
  other[33 * 2 ** 20 + 5]! ^= 128
  t.is(await findDifference(bytes, other), 33 * 2 ** 20 + 5)
})

test('with less space the model is smaller, and the demo says why', (t) => {
  const room = { directory: '/nvme', driveBytes: 100 * 2 ** 20, memoryBytes: 2 ** 33 }
  const weightBytes = 2 ** 20
  t.deepEqual(fitSize(2 ** 20, weightBytes, room), { copies: 1, shrunkBecause: undefined })
  // All weights are there at least once.
  t.deepEqual(fitSize(1, weightBytes, room), { copies: 1, shrunkBecause: undefined })
  const shrunk = fitSize(2 ** 30, weightBytes, room)
  t.is(shrunk.copies, 33)
  t.regex(shrunk.shrunkBecause ?? '', /^the model is 33\.0 MiB instead of 1\.00 GiB: 100 MiB are free in \/nvme/)
  t.is(fitSize(2 ** 30, weightBytes, { ...room, memoryBytes: 0 }).copies, 0)
})
