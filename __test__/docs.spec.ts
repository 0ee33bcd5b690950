/**
 * Every example in the documentation compiles, runs, and prints what it says it prints.
 *
 * The examples are the `ts` blocks of the guide pages, of the README, and of the documentation comments. Each runs in a
 * separate process and folder. Where a line `console.log(...) // text` says what it prints, it must print that.
 */

import { globSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import test from 'ava'
import { saveSafetensors } from '../lib/safetensors/index.ts'
import { makeScratch } from './harness.ts'
import { root, run } from './packed.ts'
import { compile } from './typed.ts'

const scratch = makeScratch()

interface Example {
  readonly name: string
  readonly source: string
}

function examplesIn(file: string): Example[] {
  const text = readFileSync(join(root, file), 'utf8')
  // In a comment, every line begins with an asterisk.
  const plain = file.endsWith('.ts') ? text.replaceAll(/^ *\* ?/gm, '') : text
  const blocks = [...plain.matchAll(/^```ts\n(.*?)^```$/gms)].map((match) => match[1] as string)
  return blocks.map((source, i) => ({ name: `${file.replaceAll(/[./]/g, '-')}-${i + 1}`, source }))
}

/** The example as a module in `folder`, with the checkout in place of the package. */
function moduleOf({ source }: Example, folder: string): string {
  const checkout = relative(folder, root)
  return source
    .replaceAll("from 'deepring'", `from '${checkout}/index.ts'`)
    .replaceAll("from 'deepring/aio'", `from '${checkout}/lib/aio/index.ts'`)
    .replaceAll("from 'deepring/safetensors'", `from '${checkout}/lib/safetensors/index.ts'`)
    .replaceAll("from 'deepring/checkpoint'", `from '${checkout}/lib/checkpoint/index.ts'`)
    .replaceAll("from 'deepring/swap'", `from '${checkout}/lib/swap/index.ts'`)
}

const sources = globSync('lib/**/*.ts', { cwd: root }).toSorted()
const guides = [
  'buffers',
  'cancellation',
  'checkpoint',
  'checksums',
  'docker',
  'durability',
  'errors',
  'files',
  'many',
  'observing',
  'platforms',
  'porting-from-deepnvme',
  'processes',
  'quick-start',
  'safetensors',
  'swap',
  'tuning',
  'workers',
].map((name) => `docs/${name}.md`)
const runnable = ['README.md', ...guides, 'index.ts', ...sources].flatMap(examplesIn)

test('there are examples', (t) => {
  t.true(runnable.length > 25, `${runnable.length}`)
})

test.serial('every example compiles', async (t) => {
  const folder = scratch.directory('examples')
  for (const example of runnable) {
    writeFileSync(join(folder, `${example.name}.ts`), moduleOf(example, folder))
  }
  const { status, stdout } = await compile(folder)
  t.is(status, 0, stdout)
})

for (const example of runnable) {
  test.serial(`the example ${example.name} runs and prints what its comments say`, async (t) => {
    const folder = scratch.directory(example.name)
    // What the examples expect to find.
    writeFileSync(join(folder, 'weights.bin'), new Uint8Array(1000))
    await saveSafetensors(join(folder, 'model.safetensors'), {
      'encoder.weight': { dtype: 'F32', shape: [2], data: new Float32Array(2) },
    })
    writeFileSync(join(folder, 'default.json'), '{ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [] }')
    const program = join(folder, 'example.mts')
    writeFileSync(program, moduleOf(example, folder))
    const { status, stdout, stderr } = await run(process.execPath, [program], folder)
    t.deepEqual([status, stderr], [0, ''])
    const printed = stdout.split('\n').slice(0, -1)
    const said = [...example.source.matchAll(/console\.log\(.*\)(?: \/\/ (.*))?$/gm)].map((match) => match[1])
    if (printed.length === said.length)
      for (const [i, text] of said.entries()) if (text !== undefined) t.is(printed[i], text)
  })
}
