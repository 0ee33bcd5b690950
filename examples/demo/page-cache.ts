/**
 * Makes the next buffered read come from the drive.
 *
 * Node has no `posix_fadvise`, so the only honest way is to have the kernel drop all clean pages,
 * which requires root. Without root the figures must be called warm.
 */

import { writeFile } from 'node:fs/promises'

/** 1 drops pages, 2 names and inodes, 3 both. */
const DROP_ALL = '3'

/**
 * Undefined if the page cache was dropped, otherwise the reason. The caller has made sure that its
 * own files are written through.
 */
export async function dropPageCache(): Promise<string | undefined> {
  try {
    await writeFile('/proc/sys/vm/drop_caches', DROP_ALL)
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return code === 'EACCES' || code === 'EPERM'
      ? 'dropping it requires root'
      : `writing /proc/sys/vm/drop_caches failed with ${code}`
  }
}
