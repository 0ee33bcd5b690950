/**
 * A full disk. A write that does not fit leaves the file with its old length and bytes, also where space cannot be
 * reserved ahead (ext2) and where the file has its length already. In a race for the room, the error says how many bytes
 * arrived.
 *
 * The disks are files, mounted through loop devices, which takes root. Without it these tests are skipped, and say so.
 */

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, statfsSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { copyFile, Engine, writeFile, type DeepringError } from '../index.ts'
import { AioHandle, aioWrite } from '../lib/aio/index.ts'
import { backends, contents, engineOn, makeScratch, mounted, pattern, rejected, same, type Mounted } from './harness.ts'

const scratch = makeScratch()
const MIB = 1 << 20

/** Mounts a new disk of 16 MiB. */
function mountDisk(kind: 'ext4' | 'ext2'): Mounted {
  return mounted(scratch, kind, (folder) => {
    const image = scratch.path(`${kind}.img`)
    writeFileSync(image, '')
    truncateSync(image, 16 * MIB)
    // No journal and nothing reserved for root, so that the room is predictable.
    const features = kind === 'ext4' ? ['-O', '^has_journal'] : []
    execFileSync(`mkfs.${kind}`, ['-q', '-F', '-m', '0', ...features, image], { stdio: 'pipe' })
    execFileSync('mount', ['-o', 'loop', image, folder], { stdio: 'pipe' })
  })
}

/** Declares a test on a disk of a kind, on each backend; skipped, with the reason, if the disk cannot be mounted. */
function testOnDisk(
  kind: 'ext4' | 'ext2',
  title: string,
  run: (t: ExecutionContext, folder: string, engine: Engine) => Promise<void>,
): void {
  const disk = disks[kind]
  for (const backend of backends) {
    if ('refusal' in disk) {
      test.skip(`${title} (${kind}, ${backend}: ${disk.refusal})`, () => {})
      continue
    }
    test.serial(`${title} (${kind}, ${backend})`, async (t) => {
      const engine = engineOn(backend)
      const folder = join(disk.folder, backend + String((count += 1)))
      mkdirSync(folder)
      try {
        await run(t, folder, engine)
      } finally {
        await engine.close()
        execFileSync('rm', ['-rf', folder])
      }
    })
  }
}

let count = 0
const disks = { ext4: mountDisk('ext4'), ext2: mountDisk('ext2') }

const freeBytes = (folder: string): number => {
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize
}

function typed(t: ExecutionContext, error: DeepringError, requested: number): void {
  t.is(error.errno, -28)
  t.regex(error.message, /^ENOSPC: no space left on device/)
  t.is(error.requested, requested)
  t.true((error.transferred ?? -1) >= 0 && (error.transferred ?? 0) < requested)
}

testOnDisk(
  'ext4',
  'a new file that does not fit fails with a typed error, and its space is freed',
  async (t, folder, engine) => {
    const path = join(folder, 'big')
    const free = freeBytes(folder)
    const error = await rejected(t, () => new AioHandle({ engine }).pwrite(new Uint8Array(20 * MIB), path), 'ENOSPC')
    typed(t, error, 20 * MIB)
    t.is(error.path, path)
    t.is(statSync(path, { throwIfNoEntry: false })?.size ?? 0, 0)
    t.true(Math.abs(freeBytes(folder) - free) < MIB, 'nothing stays reserved')
  },
)

testOnDisk(
  'ext4',
  'an existing file keeps its length and bytes when a longer one does not fit',
  async (t, folder, engine) => {
    const path = join(folder, 'kept')
    writeFileSync(path, pattern(3 * MIB + 5))
    const handle = new AioHandle({ engine })
    typed(t, await rejected(t, () => handle.write(pattern(20 * MIB, 2), path), 'ENOSPC'), 20 * MIB)
    t.true(same(contents(path), pattern(3 * MIB + 5)))
    const file = await engine.open(path, 'r+')
    typed(t, await rejected(t, () => file.write(pattern(20 * MIB, 2), { position: 2 * MIB + 1 }), 'ENOSPC'), 20 * MIB)
    t.is((await file.stat()).size, 3 * MIB + 5)
    await file.close()
    t.true(same(contents(path), pattern(3 * MIB + 5)))
    t.is(await handle.write(pattern(1000, 3), path), 0, 'what fits is written as if nothing had been')
    t.true(same(contents(path), pattern(1000, 3)))
  },
)

testOnDisk(
  'ext4',
  'what would replace a file and does not fit leaves it, and nothing else',
  async (t, folder, engine) => {
    const path = join(folder, 'kept')
    writeFileSync(path, 'old')
    const options = { engine, replace: true } as const
    await rejected(t, () => writeFile(path, pattern(20 * MIB), options), 'ENOSPC')
    const pieces = Array.from({ length: 20 }, () => pattern(MIB))
    await rejected(t, () => writeFile(path, pieces, options), 'ENOSPC')
    const large = scratch.file(pattern(20 * MIB))
    await rejected(t, () => copyFile(large, path, options), 'ENOSPC')
    t.is(Buffer.from(contents(path)).toString(), 'old')
    t.deepEqual(readdirSync(folder), ['kept'])
  },
)

testOnDisk(
  'ext4',
  'an append that does not fit says how many of its bytes are in the file',
  async (t, folder, engine) => {
    const path = join(folder, 'log')
    writeFileSync(path, 'old')
    const file = await engine.open(path, 'a')
    const error = await rejected(t, () => file.append(pattern(20 * MIB)), 'ENOSPC')
    typed(t, error, 20 * MIB)
    t.is(error.position, 3)
    const { size } = await file.stat()
    t.is(size, 3 + (error.transferred ?? 0))
    await file.close()
    t.true(same(contents(path).subarray(3), pattern(20 * MIB).subarray(0, size - 3)))
  },
)

testOnDisk(
  'ext4',
  'of several writes that do not fit together, those that fit are complete and the others fail',
  async (t, folder, engine) => {
    const handle = new AioHandle({ engine })
    const paths = Array.from({ length: 6 }, (_, i) => join(folder, `part-${i}`))
    for (const [i, path] of paths.entries()) handle.asyncPwrite(pattern(4 * MIB, i + 1), path)
    const error = await rejected(t, () => handle.wait(), 'ENOSPC')
    t.true((error.errors?.length ?? 0) >= 2)
    const failed = new Set(error.errors?.map((each) => (each as DeepringError).path))
    for (const [i, path] of paths.entries())
      if (!failed.has(path)) t.true(same(contents(path), pattern(4 * MIB, i + 1)), path)
  },
)

testOnDisk(
  'ext2',
  'where space cannot be reserved, a write that does not fit fails before its first byte, too',
  async (t, folder, engine) => {
    const path = join(folder, 'kept')
    writeFileSync(path, pattern(3 * MIB + 5))
    const free = freeBytes(folder)
    const handle = new AioHandle({ engine })
    const error = await rejected(t, () => handle.pwrite(pattern(20 * MIB, 2), path), 'ENOSPC')
    typed(t, error, 20 * MIB)
    t.is(error.transferred, 0)
    t.true(same(contents(path), pattern(3 * MIB + 5)))
    t.is(freeBytes(folder), free)
  },
)

testOnDisk(
  'ext2',
  'of writes that race for the room, each fails with the bytes that arrived or is whole',
  async (t, folder, engine) => {
    const handle = new AioHandle({ engine })
    const paths = Array.from({ length: 2 }, (_, i) => join(folder, `part-${i}`))
    const outcomes = await Promise.allSettled(paths.map((path, i) => handle.pwrite(pattern(9 * MIB, i + 1), path)))
    for (const [i, path] of paths.entries()) {
      const outcome = outcomes[i]!
      const error = outcome.status === 'rejected' ? (outcome.reason as DeepringError) : undefined
      t.true(error === undefined || error.code === 'ENOSPC')
      const arrived = error === undefined ? 9 * MIB : (error.transferred ?? -1)
      t.true(same(contents(path).subarray(0, arrived), pattern(9 * MIB, i + 1).subarray(0, arrived)))
    }
    t.true(
      outcomes.some((outcome) => outcome.status === 'rejected'),
      '18 MiB do not fit on 16',
    )
  },
)

testOnDisk(
  'ext4',
  'a file that has its length and not its space keeps its bytes, however it is written',
  async (t, folder, engine) => {
    const path = join(folder, 'sparse')
    writeFileSync(path, pattern(MIB))
    truncateSync(path, 20 * MIB)
    const old = contents(path)
    const free = freeBytes(folder)
    const bytes = pattern(20 * MIB, 2)
    const inFile = async (direct: 'prefer' | 'never') => {
      const file = await engine.open(path, 'r+', { direct })
      await file.write(bytes, { position: 0 }).finally(() => file.close())
    }
    for (const write of [
      () => new AioHandle({ engine }).pwrite(bytes, path),
      () => new AioHandle({ engine, intraOpParallelism: 4 }).write(bytes, path, { fileOffset: 0 }),
      () => aioWrite(bytes, path),
      () => inFile('prefer'),
      () => inFile('never'),
    ]) {
      const error = await rejected(t, write, 'ENOSPC')
      typed(t, error, 20 * MIB)
      t.is(error.transferred, 0)
      t.true(same(contents(path), old))
      t.true(Math.abs(freeBytes(folder) - free) < MIB, 'nothing was allocated')
    }
  },
)

testOnDisk('ext4', 'the engine works after a full disk as before', async (t, folder, engine) => {
  const filler = join(folder, 'filler')
  await t.throwsAsync(new AioHandle({ engine }).pwrite(new Uint8Array(30 * MIB), filler))
  const file = await engine.open(join(folder, 'small'), 'w+')
  await file.write(pattern(100_001), { position: 0 })
  t.true(same((await file.read(new Uint8Array(100_001), { position: 0 })).buffer, pattern(100_001)))
  await file.close()
  t.true(readdirSync(folder).includes('small'))
  t.is(await aioWrite(pattern(10), join(folder, 'tiny')), 0)
})
