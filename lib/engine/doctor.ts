/** Advice in words, from what an engine reports of itself: {@link adviceOn}. */

import type { Info, PathInfo, Stats } from './info.ts'

/** From this share on, something is worth a sentence. */
const NOTABLE = 0.1

/** Requests below which a share says nothing. */
const REQUESTS_MIN = 100

/** What a program can do to be faster or safer: a sentence each, the most important first. Pure. */
export function adviceOn(info: Info, stats: Stats): string[] {
  return [
    ...onBackend(info),
    ...(info.path === undefined ? [] : onPath(info.path)),
    ...onMemory(info),
    ...onWork(stats),
  ]
}

function* onBackend({ backend, reason, threads }: Info): Generator<string> {
  // Who asked for a backend needs no advice about it.
  if (reason.startsWith('asked for by')) return
  if (backend === 'node')
    yield (
      `node:fs moves the bytes, because ${reason}. It takes several times the CPU, and has no direct I/O, no locks between ` +
      'processes, no checkpoints and no swap stores.'
    )
  if (backend === 'threads')
    yield (
      `Threads move the bytes instead of io_uring: ${reason}. Until that is changed, small reads at random positions gain from ` +
      `more than ${threads} threads: new Engine({ threads: 32 }).`
    )
}

function* onPath({ path, direct, directReason, fileSystem, locks, locksReason }: PathInfo): Generator<string> {
  if (!direct)
    yield (
      `Direct I/O does not work at '${path}' (${fileSystem}): ${directReason}. Bytes go through the page cache, at a multiple of ` +
      'the CPU. Put large files on a local file system such as ext4 or XFS.'
    )
  if (!locks)
    yield (
      `Only one process must write a file at '${path}' (${fileSystem}): ${locksReason}. Otherwise unaligned writes can lose the ` +
      'bytes of others.'
    )
}

function* onMemory({ hugePages }: Info): Generator<string> {
  if (hugePages === 'never')
    yield (
      'The kernel gives no huge pages, so that large transfers are cut to small requests. As root: ' +
      'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled'
    )
}

function* onWork(stats: Stats): Generator<string> {
  const { leaked, leakedBytes, downgraded, completed, punted, bouncedBytes, readBytes, writtenBytes } = stats
  if (leaked > 0)
    yield (
      `A ring was lost, and ${leakedBytes} bytes can not be used again, because the kernel can still write to them. Restart the ` +
      'process when that is convenient.'
    )
  if (downgraded > 0)
    yield `${downgraded} files go through the page cache since a direct transfer was refused. direct: 'require' makes that an error.`
  if (completed < REQUESTS_MIN) return
  const moved = readBytes + writtenBytes
  if (bouncedBytes > moved * NOTABLE)
    yield (
      `${bouncedBytes} of ${moved} bytes were copied on the way, because memory, positions or lengths were not aligned. Use memory ` +
      'of allocate() and multiples of file.alignment.'
    )
  if (punted > completed * NOTABLE)
    yield (
      `${punted} writes had to wait in a thread, because the file had no room there. Write larger blocks, or give the file its ` +
      'length before.'
    )
}
