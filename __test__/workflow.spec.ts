/** The workflow that publishes: what it trusts, and that it tries what package.json promises. */

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { root } from './packed.ts'

const workflow = readFileSync(join(root, '.github/workflows/ci.yml'), 'utf8')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  engines: { node: string }
  scripts: Record<string, string>
}

test('every action is pinned by commit, and every tool by version', (t) => {
  const actions = Array.from(workflow.matchAll(/uses: (\S+)/g), ([, action = '']) => action)
  t.true(actions.length > 10)
  for (const action of actions) t.regex(action, /^[\w-]+\/[\w-]+@[\da-f]{40}$/)
  for (const [line] of workflow.matchAll(/.*npm install --global.*/g)) t.regex(line, /npm@\d+\.\d+\.\d+/)
  t.notRegex(workflow, /toolchain install stable|rustup default stable/)
  t.regex(workflow, /^ {2}RUST: \d+\.\d+\.\d+$/m)
  const python = readFileSync(join(root, 'scripts/cross.mjs'), 'utf8').match(/PYTHON_PACKAGES = \[(.*)\]/)?.[1] ?? ''
  for (const name of python.split(', ')) t.regex(name, /^'[\w-]+==\d+\.\d+\.\d+'$/)
})

test('what publishes has no secret', (t) => {
  t.notRegex(workflow, /secrets\./)
  // Two jobs have an identity: npm's, and that of crates.io.
  t.is([...workflow.matchAll(/id-token: write/g)].length, 2)
  t.regex(workflow, /npm publish .* --provenance/)
})

test('a job is published only after every job that tries it', (t) => {
  const [, all = ''] = workflow.split('\njobs:\n')
  const jobs = Array.from(all.matchAll(/^ {2}([\w-]+):\n(?: {4}.*\n)/gm), ([, name = '']) => name)
  const needs = /\n {2}publish:\n(?: {4}.*\n)*? {4}needs: \[(.*)\]/.exec(workflow)?.[1]?.split(', ') ?? []
  // Those that others need are needed by way of them; what looks for new input finds some at any time.
  const others = jobs.filter((name) => !['build', 'pack', 'hostile', 'publish', 'publish-crates'].includes(name))
  t.deepEqual(needs.toSorted(), others.toSorted())
})

test('every command of the workflow exists', (t) => {
  for (const [, name = ''] of workflow.matchAll(/npm run ([\w:-]+)/g)) t.true(name in manifest.scripts, name)
  for (const [, file = ''] of workflow.matchAll(/node (scripts\/[\w-]+\.mjs)/g))
    t.notThrows(() => readFileSync(join(root, file)), file)
})

test('the oldest Node of the manifest is tried', (t) => {
  const majors = Array.from(manifest.engines.node.matchAll(/(?:\^|>=)(\d+)/g), ([, major]) => Number(major))
  const oldest = Math.min(...majors)
  const tried =
    /triple: \[linux-x64-gnu.*\]\n {8}node: \[([\d, ]+)\]/.exec(workflow)?.[1]?.split(', ').map(Number) ?? []
  t.true(tried.includes(oldest), `${tried.join(', ')} and ${oldest}`)
})
