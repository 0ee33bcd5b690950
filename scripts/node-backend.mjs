// Runs the TypeScript suite over node:fs, as it runs where there is no binary, and ends with one line that counts it:
// `N passed, N failed, N skipped`.
//
//   npm run test:node               all files that it holds
//   npm run test:node -- FILE...    some of them, by their names: file, many, ...
//   npm run test:node -- --portable those that run on macOS and Windows, too: the others look into /proc, or mount disks
//
// DEEPRING_BACKEND=node stands for the missing binary. __test__/node-backend.ts lists the files, and in them the tests
// that node:fs cannot hold, each with its reason. Those run, too, but for a few: one that passes all the same is a failure, so
// that the list stays true. Else they count as skipped.

import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { stripVTControlCharacters } from 'node:util'
import { CANNOT, PORTABLE, SPECS } from '../__test__/node-backend.ts'

const root = join(import.meta.dirname, '..')
const given = process.argv.slice(2)
const wanted = given.flatMap((name) => (name === '--portable' ? PORTABLE : [name]))
const unknown = wanted.filter((name) => !SPECS.includes(name))
if (unknown.length > 0) {
  console.error(`Not held over node:fs: ${unknown.join(', ')}. These are: ${SPECS.join(', ')}`)
  process.exit(1)
}
const specs = wanted.length > 0 ? wanted : SPECS
const count = { passed: 0, failed: 0, skipped: 0 }
const seen = new Set()

mkdirSync(join(root, 'target'), { recursive: true })
const folder = mkdtempSync(join(root, 'target', 'node-'))
// Some tests continue as another user, who must be able to access their files.
chmodSync(folder, 0o755)
try {
  for (const spec of specs) await runSpec(spec)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
// Elsewhere, some tests skip themselves under another title.
const isComplete = process.platform === 'linux' && process.getuid() === 0
for (const spec of isComplete ? specs : [])
  for (const title of Object.keys(CANNOT[spec] ?? {}))
    if (!seen.has(`${spec} ${title}`)) fail(`${spec}: there is no test "${title}" any more: take it off the list`)
console.log(`\n${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0

/** Runs one file, and counts its tests. */
async function runSpec(spec) {
  const ava = join(root, 'node_modules/ava/entrypoints/cli.js')
  const environment = { ...process.env, DEEPRING_BACKEND: 'node', DEEPRING_TEST_DIR: folder }
  const reasons = CANNOT[spec] ?? {}
  const notRun = Object.keys(reasons).filter((title) => typeof reasons[title] !== 'string')
  const matches = notRun.map((title) => `--match=!${title}`)
  for (const title of notRun) {
    seen.add(`${spec} ${title}`)
    skip(`${spec}: ${title}: ${reasons[title].notRun}`)
  }
  const parameters = [ava, '--tap', ...matches, `__test__/${spec}.spec.ts`]
  const child = spawn(process.execPath, parameters, {
    cwd: root,
    env: environment,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let rest = ''
  let isWhole = false
  let isExpected = false
  let failures = 0
  child.stdout.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    for (const raw of lines) {
      const line = stripVTControlCharacters(raw)
      const result = /^(not )?ok \d+ - (.*?)(?: # (SKIP|TODO).*)?$/.exec(line)
      if (result === null) {
        if (/^1\.\.\d+$/.test(line)) isWhole = true
        // What follows a failure explains it.
        if (!isExpected && line !== '') console.log(line)
        continue
      }
      const [, isBad, title, isSkipped] = result
      const reason = reasons[title]
      isExpected = isBad !== undefined && reason !== undefined
      if (reason !== undefined) seen.add(`${spec} ${title}`)
      if (isBad !== undefined) failures += 1
      if (isSkipped !== undefined || isExpected) {
        skip(`${spec}: ${title}${reason === undefined ? '' : `: ${reason}`}`)
      } else if (isBad !== undefined) fail(`${spec}: ${title}`)
      else if (reason !== undefined) fail(`${spec}: ${title}: it passes: take it off the list`)
      else count.passed += 1
    }
  })
  const status = await new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message))
    child.on('close', resolve)
  })
  // Its plan is the last thing that it prints.
  if (!isWhole || (status !== 0 && failures === 0)) fail(`${spec}: the runner itself failed (${status})`)
}

function skip(what) {
  count.skipped += 1
  console.log(`skipped: ${what}`)
}

function fail(what) {
  count.failed += 1
  console.log(`not ok - ${what}`)
}
