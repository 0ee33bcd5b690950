/** What a copy is of: {@link walk}. Reads directories and writes nothing. */

import type { Stats } from 'node:fs'
import { lstat, readdir, readlink, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { Misuse, Refusal } from './failure.ts'
import { journalPath } from './journal.ts'
import { quotedOf } from './text.ts'

/** A file to be copied. */
export interface FilePlan {
  readonly from: string
  readonly to: string
  /** Its path below its root; empty for a root. */
  readonly name: string
  /** Index of its root. */
  readonly root: number
  readonly bytes: number
  /** Bytes that it takes on its drive. */
  readonly stored: number
}

/** What is to be made, in this order. */
export interface Plan {
  /** One for each source. */
  readonly roots: readonly { readonly to: string; readonly parent: string }[]
  readonly directories: readonly {
    readonly to: string
    readonly mode: number
    readonly atime: Date
    readonly mtime: Date
  }[]
  readonly files: readonly FilePlan[]
  readonly symlinks: readonly { readonly to: string; readonly leadsTo: string }[]
  /** Other names of files. */
  readonly hardLinks: readonly { readonly to: string; readonly first: string }[]
  /** Of all files. */
  readonly bytes: number
}

interface Growing {
  readonly roots: { to: string; parent: string }[]
  readonly directories: { to: string; mode: number; atime: Date; mtime: Date }[]
  readonly files: FilePlan[]
  readonly symlinks: { to: string; leadsTo: string }[]
  readonly hardLinks: { to: string; first: string }[]
  /** The target of the first name of a file that has several. */
  readonly names: Map<string, string>
}

async function statOf(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Finds out what to copy where. */
export async function walk(
  sources: readonly string[],
  target: string,
  { recursive, resume }: { readonly recursive: boolean; readonly resume: boolean },
): Promise<Plan> {
  const targetStat = await statOf(target)
  // A copy of a directory that was interrupted has made its target, and means that again.
  const resumes = resume && sources.length === 1 && (await statOf(journalPath(target))) !== undefined
  const into = targetStat?.isDirectory() === true && !resumes
  if (!into && (sources.length > 1 || (target.endsWith(sep) && targetStat === undefined && !recursive)))
    throw new Misuse(`the target ${quotedOf(target)} is not a directory`)
  const plan: Growing = { roots: [], directories: [], files: [], symlinks: [], hardLinks: [], names: new Map() }
  for (const from of sources) {
    // A link that is named is followed, as by cp; links in a directory are kept.
    const found = recursive ? await lstat(from) : await stat(from)
    const to = into ? join(target, basename(resolve(from))) : target
    if (found.isDirectory() && !recursive) throw new Misuse(`${quotedOf(from)} is a directory: use --recursive`)
    const parent = dirname(resolve(to))
    if (!((await statOf(parent))?.isDirectory() ?? false))
      throw new Refusal(`there is no directory ${quotedOf(parent)}`)
    await checkApart(from, to, found)
    const first = plan.roots.findIndex((root) => resolve(root.to) === resolve(to))
    if (first !== -1)
      throw new Refusal(`${quotedOf(sources[first] ?? '')} and ${quotedOf(from)} would both become ${quotedOf(to)}`)
    plan.roots.push({ to, parent })
    await add(plan, from, to, '', found)
  }
  return { ...plan, bytes: plan.files.reduce((sum, { bytes }) => sum + bytes, 0) }
}

/** Refuses a copy onto itself, and one of a directory into itself. */
async function checkApart(from: string, to: string, found: Stats): Promise<void> {
  const there = await statOf(to)
  if (there !== undefined && there.dev === found.dev && there.ino === found.ino)
    throw new Refusal(`${quotedOf(from)} and ${quotedOf(to)} are the same`)
  if (!found.isDirectory()) {
    if (there?.isDirectory() === true) throw new Refusal(`${quotedOf(to)} is a directory`)
    return
  }
  if (there !== undefined && !there.isDirectory()) throw new Refusal(`${quotedOf(to)} is not a directory`)
  const source = await realpath(from)
  const inside = join(await realpath(dirname(resolve(to))), basename(resolve(to)))
  if (`${inside}${sep}`.startsWith(`${source}${sep}`))
    throw new Refusal(`${quotedOf(to)} is inside of ${quotedOf(from)}`)
}

async function add(plan: Growing, from: string, to: string, name: string, found: Stats): Promise<void> {
  const { mode, atime, mtime } = found
  if (found.isDirectory()) {
    plan.directories.push({ to, mode: mode & 0o7777, atime, mtime })
    for (const entry of await readdir(from))
      await add(plan, join(from, entry), join(to, entry), join(name, entry), await lstat(join(from, entry)))
  } else if (found.isSymbolicLink()) {
    plan.symlinks.push({ to, leadsTo: await readlink(from) })
  } else if (found.isFile()) {
    const first = found.nlink > 1 ? nameOf(plan, found, to) : to
    const stored = Math.min(found.size, found.blocks * 512)
    if (first === to) plan.files.push({ from, to, name, root: plan.roots.length - 1, bytes: found.size, stored })
    else plan.hardLinks.push({ to, first })
  } else {
    throw new Refusal(`${quotedOf(from)} is neither a file nor a directory nor a link`)
  }
}

/** The target of the first name of a file. */
function nameOf({ names }: Growing, { dev, ino }: Stats, to: string): string {
  const key = `${dev}:${ino}`
  const first = names.get(key) ?? to
  names.set(key, first)
  return first
}
