/**
 * The reference implementation of safetensors, mapped: a program in Rust that the demo builds for itself.
 *
 * It is the crate that the Python package is made of. Nothing on npm reads these files by mapping them.
 */

import { spawn } from 'node:child_process'
import { join } from 'node:path'

const PACKAGE = 'deepring-demo-reference'

/** Builds it and returns its path. The first time that takes some seconds; cargo does nothing if it is up to date. */
export async function buildReference(): Promise<string> {
  const words = ['build', '--release', '--quiet', '--package', PACKAGE, '--message-format', 'json-render-diagnostics']
  const cwd = join(import.meta.dirname, '..', '..')
  const messages = await new Promise<string>((resolve, reject) => {
    const child = spawn('cargo', words, { cwd, stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (piece: string) => (text += piece))
    child.on('error', reject)
    child.on('close', (code) => (code === 0 ? resolve(text) : reject(new Error(`cargo build ended with code ${code}`))))
  })
  for (const line of messages.split('\n').filter((each) => each.startsWith('{'))) {
    const { target, executable } = JSON.parse(line) as { target?: { name: string }; executable?: string | null }
    if (target?.name === PACKAGE && typeof executable === 'string') return executable
  }
  throw new Error(`cargo built no ${PACKAGE}`)
}
