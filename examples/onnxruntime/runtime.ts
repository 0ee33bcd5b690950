/**
 * onnxruntime-node, fetched when an example first needs it.
 *
 * It is no development dependency, because it is 113 MB packed, most of it for other platforms. Its types are in
 * `onnxruntime-common`, which is one, and says which version is fetched. In your own project this is
 * `import * as ort from 'onnxruntime-node'`.
 */

import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import process from 'node:process'

export type OnnxRuntime = typeof import('onnxruntime-common')

const modules = join(import.meta.dirname, '..', '..', 'node_modules')

/** Throws if it cannot be fetched, or does not run here: it has binaries for glibc only. */
export function onnxruntime(): OnnxRuntime {
  const manifest = readFileSync(join(modules, 'onnxruntime-common', 'package.json'), 'utf8')
  const { version } = JSON.parse(manifest) as { version: string }
  const folder = join(modules, '.cache', `onnxruntime-node-${version}`)
  if (!existsSync(folder)) fetchInto(folder, version)
  return createRequire(join(folder, 'index.js'))('onnxruntime-node') as OnnxRuntime
}

/** The same for tests: the reason if there is none. */
export function onnxruntimeOrWhy(): OnnxRuntime | string {
  try {
    return onnxruntime()
  } catch (error) {
    return (error as Error).message.split('\n')[0] as string
  }
}

function fetchInto(folder: string, version: string): void {
  process.stderr.write(`fetching onnxruntime-node ${version}, 113 MB, once\n`)
  mkdirSync(join(folder, '..'), { recursive: true })
  const fresh = mkdtempSync(`${folder}-`)
  try {
    // Without its script, which would fetch the libraries of CUDA in addition.
    const words = ['install', '--prefix', fresh, '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
    execFileSync('npm', [...words, `onnxruntime-node@${version}`], { stdio: ['ignore', 2, 2] })
    const binaries = join(fresh, 'node_modules', 'onnxruntime-node', 'bin')
    for (const entry of readdirSync(binaries, { recursive: true, encoding: 'utf8' })) {
      // Such as napi-v6/darwin.
      const [, platform, ...rest] = entry.split('/')
      if (platform !== undefined && platform !== process.platform && rest.length === 0)
        rmSync(join(binaries, entry), { recursive: true })
    }
    try {
      renameSync(fresh, folder)
    } catch (error) {
      // Another process can be faster.
      if (!existsSync(folder)) throw error
    }
  } finally {
    rmSync(fresh, { recursive: true, force: true })
  }
}
