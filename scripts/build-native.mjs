// Builds the native binding into the checkout, and its types into binding.d.cts.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { pathMappings } from './mappings.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const flags = [...(process.env.RUSTFLAGS ?? '').split(' ').filter((flag) => flag !== ''), ...pathMappings()]
const parameters = ['build', '--release', '--platform', '--no-js', '--dts', 'binding.d.cts', '--output-dir', '.']
parameters.push('--manifest-path', 'crates/deepring-node/Cargo.toml', '--package-json-path', 'package.json')
const { status, error } = spawnSync(join(root, 'node_modules', '.bin', 'napi'), parameters, {
  cwd: root,
  // Separated by a unit separator, because a path can have spaces.
  env: { ...process.env, CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f') },
  stdio: 'inherit',
})
if (error) console.error(`deepring: napi could not be started: ${error.message}`)
process.exit(status ?? 1)
