/**
 * `deepring cp`.
 *
 * ```text
 *   walk ──► directories ──► files, several at once ──► links, hard links ──► times of directories
 *              │                │
 *              │                ├─ beside its target, which it replaces when it is complete
 *              │                └─ --resume: in its place, with a journal
 *              └─ what was made is removed if the run fails, unless it can be resumed
 * ```
 */

import { link, mkdir, rm, rmdir, stat, statfs, symlink, unlink, utimes, chmod } from 'node:fs/promises'
import { forEachOf } from '../core/for-each.ts'
import { Interrupted, Refusal, sentenceOf } from './failure.ts'
import { copyFileOf, resumeFileOf, type Copied, type HowToCopy } from './copy-one.ts'
import type { Invocation, Report } from './invocation.ts'
import { Journal } from './journal.ts'
import { walk, type Plan } from './walk.ts'
import { bytesText, countText, crcText, quotedOf } from './text.ts'

/** Files at once: enough for small ones, and of large ones two keep a drive busy. */
const JOBS = 8

/** Copies files and directories. */
export async function cp({ words, options, screen, signal }: Invocation): Promise<Report> {
  const jobs = options.count('jobs') ?? JOBS
  const resume = options.has('resume')
  const plan = await walk(words.slice(0, -1), words.at(-1) as string, { recursive: options.has('recursive'), resume })
  const clones = !options.has('no-clone')
  if (!clones && !resume) await checkRoom(plan)
  const bar = screen.bar('cp')
  const how: HowToCopy = {
    clones,
    verifies: options.has('verify'),
    durable: options.has('durable'),
    signal,
    onBytes: (bytes) => bar.add(bytes, plan.bytes * (options.has('verify') ? 2 : 1)),
  }
  const startedMs = performance.now()
  const made: string[] = []
  const copied: Copied[] = []
  const journals = resume ? await Promise.all(plan.roots.map((root) => Journal.open(root.to))) : []
  try {
    await makeDirectories(plan, made)
    await forEachOf(plan.files, jobs, async (file) => {
      const journal = journals[file.root]
      const existed = (await stat(file.to).catch(() => undefined)) !== undefined
      copied.push(journal === undefined ? await copyFileOf(file, how) : await resumeFileOf(file, how, journal))
      if (!existed) made.push(file.to)
    })
    await makeLinks(plan, made)
    await finishDirectories(plan)
    for (const journal of journals) await journal.remove()
  } catch (error) {
    for (const journal of journals) await journal.close()
    if (resume) throw signal.aborted ? new Interrupted(GO_ON) : new Refusal(`${sentenceOf(error)}; ${GO_ON}`)
    await removeAll(made)
    throw error
  }
  return reportOf(plan, copied, (performance.now() - startedMs) / 1e3)
}

const GO_ON = 'the same command goes on from what is there'

/** Clones take no room, and what takes some is found by the file system. Without them, it can be said before. */
async function checkRoom({ files, roots }: Plan): Promise<void> {
  const [first] = roots
  if (first === undefined) return
  const { bavail, bsize } = await statfs(first.parent)
  const needed = files.reduce((sum, { stored }) => sum + stored, 0)
  const free = bavail * bsize
  if (needed > free)
    throw new Refusal(
      `the copy needs ${bytesText(needed)} in ${quotedOf(first.parent)}, where ${bytesText(free)} are free`,
    )
}

async function makeDirectories({ directories }: Plan, made: string[]): Promise<void> {
  for (const { to, mode } of directories) {
    try {
      // The contents come first, then the permissions.
      await mkdir(to, { mode: mode | 0o700 })
      made.push(to)
    } catch (error) {
      const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST' && (await stat(to)).isDirectory()
      if (!isThere) throw error
    }
  }
}

async function makeLinks({ symlinks, hardLinks }: Plan, made: string[]): Promise<void> {
  const replace = async (to: string, make: () => Promise<void>): Promise<void> => {
    const existed = await unlink(to).then(
      () => true,
      () => false,
    )
    await make()
    if (!existed) made.push(to)
  }
  for (const { to, leadsTo } of symlinks) await replace(to, () => symlink(leadsTo, to))
  for (const { to, first } of hardLinks) await replace(to, () => link(first, to))
}

/** The deepest first: what is made in a directory changes its times. */
async function finishDirectories({ directories }: Plan): Promise<void> {
  for (const { to, mode, atime, mtime } of directories.toReversed()) {
    await chmod(to, mode)
    await utimes(to, atime, mtime)
  }
}

/** What this run has made, the last first. What another process has put there meanwhile stays, with its directory. */
async function removeAll(made: readonly string[]): Promise<void> {
  for (const path of made.toReversed()) {
    const isDirectory = await stat(path).then(
      (found) => found.isDirectory(),
      () => false,
    )
    await (isDirectory ? rmdir(path) : rm(path, { force: true })).catch(() => {})
  }
}

function reportOf(plan: Plan, copied: readonly Copied[], seconds: number): Report {
  const sum = (pick: (file: Copied) => number): number => copied.reduce((total, file) => total + pick(file), 0)
  const [bytes, moved, kept] = [sum((file) => file.bytes), sum((file) => file.copied), sum((file) => file.kept)]
  const clones = copied.filter(({ cloned }) => cloned).length
  const verified = copied.filter((file) => file.verified).length
  const cached = copied.filter((file) => file.verified && !file.direct).length
  const links = plan.symlinks.length + plan.hardLinks.length
  const words = [
    `${countText(copied.length, 'file')}, ${bytesText(bytes)}`,
    moved > 0
      ? `${bytesText(moved)} copied in ${seconds.toFixed(2)} s, ${bytesText(Math.round(moved / seconds))}/s`
      : '',
    clones > 0 ? `${countText(clones, 'clone')}` : '',
    kept > 0 ? `${bytesText(kept)} were there already, compared` : '',
    links > 0 ? `${countText(links, 'link')}` : '',
    verified > 0 ? `${verified} read back and compared` : '',
  ].filter((word) => word !== '')
  const lines = [words.join('; ')]
  if (cached > 0)
    lines.push(`${cached} of them were read back through the page cache: the file system has no direct I/O`)
  const data = {
    bytes,
    copied: moved,
    kept,
    seconds,
    clones,
    links,
    files: copied.map(({ from, to, crc32c, ...rest }) => ({
      from,
      to,
      ...rest,
      crc32c: crc32c === undefined ? null : crcText(crc32c),
    })),
  }
  return { data, lines }
}
