// Messages of a panic name source files. Without a mapping, a binary would name folders of the machine that it was built on.

import { homedir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

const root = join(import.meta.dirname, '..', '/')

/** The flags of rustc that shorten the names of source files: those here, those of dependencies, and those in more folders. */
export function pathMappings(folders = []) {
  const registry = join(process.env.CARGO_HOME || join(homedir(), '.cargo'), 'registry', 'src')
  const mapped = [[registry, 'registry'], [root, ''], ...folders.map((folder) => [folder, 'rust'])]
  return mapped.map(([from, to]) => `--remap-path-prefix=${from}=${to}`)
}
