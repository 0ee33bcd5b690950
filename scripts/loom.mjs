// Runs the models of crates/deepring/src/loom under loom, and ends with one line:
// `loom: N models, N orders, N failed`.
//
//   npm run loom                     as in `npm test`: the engine's models, up to 2 preemptions
//   npm run loom -- --preemptions 3  more orders of the engine's models, in minutes
//   npm run loom -- NAME             models whose name contains NAME
//
// The models are unit tests compiled with `--cfg loom`, into a separate target directory so that
// nothing else is rebuilt.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const root = join(import.meta.dirname, '..')
const { values, positionals } = parseArgs({ options: { preemptions: { type: 'string' } }, allowPositionals: true })

const environment = {
  ...process.env,
  RUSTFLAGS: '--cfg loom',
  CARGO_TARGET_DIR: join(root, 'target/loom'),
  // Optimized as a whole, the tests take longer to build than to run.
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
}
if (values.preemptions !== undefined) environment.LOOM_MAX_PREEMPTIONS = values.preemptions
const names = positionals.length > 0 ? positionals : ['loom::']
const parameters = ['test', '-p', 'deepring', '--release', '--lib', '--', '--show-output', ...names]

const child = spawn('cargo', parameters, { cwd: root, env: environment, stdio: ['ignore', 'pipe', 'inherit'] })
const count = { models: 0, orders: 0, failed: 0 }
createInterface({ input: child.stdout }).on('line', (line) => {
  console.log(line)
  const orders = /^(\d+) orders$/.exec(line)
  const result = /^test result: \w+\. (\d+) passed; (\d+) failed/.exec(line)
  if (orders) count.orders += Number(orders[1])
  if (result) {
    count.models += Number(result[1]) + Number(result[2])
    count.failed += Number(result[2])
  }
})
child.on('error', (error) => {
  console.error(`deepring: cargo could not be started: ${error.message}`)
  process.exit(1)
})
child.on('close', (status) => {
  // A compiler or a test binary that failed without a failed model counts as one.
  if (status !== 0 && count.failed === 0) count.failed = 1
  console.log(`loom: ${count.models} models, ${count.orders} orders, ${count.failed} failed`)
  process.exitCode = count.failed > 0 || count.models === 0 ? 1 : 0
})
