/**
 * Saves that the system stops: a full disk, a disk that is full although it has promised the space, and a file
 * system that is read-only. What was there before stays as it is, no temporary file is left, and the error has the
 * system's code.
 *
 * The disks are files and memory that are mounted, which takes root. Without it these tests are skipped, and say so.
 */

import { execFileSync } from 'node:child_process'
import { readdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { Engine, type DeepringError, type TensorLike } from '../index.ts'
import { openSafetensors, saveSafetensors, SafetensorsWriter } from '../lib/safetensors/index.ts'
import { backends, contents, engineOn, makeScratch, pattern, rejected, same } from './harness.ts'

const scratch = makeScratch()
const MIB = 1 << 20

const model = (bytes: number, seed: number): Record<string, TensorLike> => ({
  large: { dtype: 'U8', shape: [bytes], data: pattern(bytes, seed) },
  small: { dtype: 'U8', shape: [5], data: pattern(5, seed) },
})

const layout = [{ name: 'large', dtype: 'U8', shape: [20 * MIB] }] as const

const mount = (...words: string[]): void => void execFileSync('mount', words, { stdio: 'pipe' })

/** The last one first: a disk can lie in the memory of another. */
const mounts: string[] = []
scratch.beforeRemoval(() => mounts.toReversed().forEach((folder) => execFileSync('umount', [folder])))

function mounted(folder: string): string {
  mounts.push(folder)
  return folder
}

/** A file system of this many bytes, in a file. */
function ext4(name: string, image: string, bytes: number): string {
  writeFileSync(image, '')
  truncateSync(image, bytes)
  // Without a journal, and with nothing reserved for root, so that the room is predictable.
  execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', '-O', '^has_journal', image], { stdio: 'pipe' })
  const folder = scratch.directory(name)
  // With `discard`, what is freed in it is free where the image lies.
  mount('-o', 'loop,discard', image, folder)
  return mounted(folder)
}

function tmpfs(name: string, bytes: number): string {
  const folder = scratch.directory(name)
  mount('-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', folder)
  return mounted(folder)
}

/** What a save finds where it is to write, and how it fails there. */
interface Failing {
  readonly title: string
  readonly code: string
  readonly errno: number
  /** Makes the place. */
  readonly make: () => string
  /** Breaks it once there is a model. */
  readonly break?: (folder: string) => void
  /** Makes it as it was. */
  readonly mend?: (folder: string) => void
}

const PLACES: readonly Failing[] = [
  {
    title: 'a full disk',
    code: 'ENOSPC',
    errno: -28,
    make: () => ext4('full', scratch.path('full.img'), 16 * MIB),
  },
  {
    title: 'full memory',
    code: 'ENOSPC',
    errno: -28,
    make: () => tmpfs('full-memory', 16 * MIB),
  },
  {
    title: 'a file system that has become read-only',
    code: 'EROFS',
    errno: -30,
    make: () => ext4('read-only', scratch.path('read-only.img'), 64 * MIB),
    break: (folder) => mount('-o', 'remount,ro', folder),
    mend: (folder) => mount('-o', 'remount,rw', folder),
  },
  {
    // The disk says that it has 64 MiB, so the space is reserved; its own memory is full before.
    title: 'a disk that is smaller than it says',
    code: 'ENOSPC',
    errno: -28,
    make: () => ext4('on-thin', join(tmpfs('thin', 12 * MIB), 'thin.img'), 64 * MIB),
    // Its memory keeps what the failed save has written, and the next one gets other places of the disk.
    mend: (folder) => execFileSync('fstrim', [folder], { stdio: 'pipe' }),
  },
]

for (const { title, code, errno, make, break: breaks, mend } of PLACES) {
  let folder: string
  try {
    folder = make()
  } catch (error) {
    const why = (error as Error).message.split('\n').slice(0, 2).join(' ')
    test.skip(`a save on ${title} leaves what was there (${why})`, () => {})
    continue
  }
  for (const backend of backends) {
    const failing = async (t: ExecutionContext, save: (path: string, engine: Engine) => Promise<unknown>) => {
      const engine = engineOn(backend)
      const path = join(folder, 'model.safetensors')
      try {
        await saveSafetensors(path, model(MIB, 1), { engine })
        const [old, names] = [contents(path), readdirSync(folder)]
        breaks?.(folder)
        const error: DeepringError = await rejected(t, () => save(path, engine), code)
        t.is(error.errno, errno)
        t.regex(error.message, new RegExp(`^${code}: `))
        t.deepEqual(readdirSync(folder), names, 'no temporary file is left')
        t.true(same(contents(path), old))
        mend?.(folder)
        await saveSafetensors(path, model(MIB, 2), { engine })
        await using again = await openSafetensors(path, { engine })
        t.true(same((await again.load()).get('large')?.bytes as Uint8Array, pattern(MIB, 2)), 'the next save succeeds')
      } finally {
        await engine.close()
      }
    }
    test.serial(`a save on ${title} leaves what was there (${backend})`, (t) =>
      failing(t, (path, engine) => saveSafetensors(path, model(20 * MIB, 3), { engine })),
    )
    test.serial(`a writer on ${title} leaves what was there (${backend})`, (t) =>
      failing(t, async (path, engine) => {
        await using writer = await SafetensorsWriter.create(path, layout, { engine })
        await writer.write('large', pattern(20 * MIB, 3))
        await writer.finish()
      }),
    )
  }
}
