// Searches with libFuzzer for input that breaks a promise of the planner or of a parser, and ends
// with one line: `fuzz: seed S, N targets, M executions, 0 crashes`. Exit status 1 if anything
// crashed. Headers of safetensors are compared with the reference crate: a difference that
// crates/deepring-tensors/src/fuzz/oracle.rs does not argue is a crash.
//
//   npm run fuzz                                 60 s for each target of crates/*/fuzz
//   npm run fuzz -- --seconds 600 --target plan  ten minutes of one target; --target can repeat
//   npm run fuzz -- --seed 7                     libFuzzer's seed; default: drawn and printed
//   npm run fuzz -- --keep                       adds useful new inputs to the committed corpus
//
// Needs rustup with a nightly toolchain; cargo-fuzz is installed under target/ if it is not there.
// First the target `planted` of each crate, code with a planted bug, must crash, because a fuzzer that
// misses this bug would miss others.
//
// An input that crashes stays in crates/*/fuzz/artifacts. Once it is understood, it goes into the
// corpus together with the fix.

import { spawn, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const CARGO_FUZZ_VERSION = '0.13.2'
/** The target with the planted bug. */
const PLANTED_BUG = 'planted'
/** The planted bug is found within a second; a busy machine gets more. */
const PLANTED_BUG_SECONDS = 60
/** The crates, the corpus from which the planted bug is found, and how long inputs are. */
const CRATES = [
  // Numbers and short texts.
  { name: 'deepring', plantedCorpus: 'plan', inputBytesMax: 256 },
  // Headers of a few tensors.
  { name: 'deepring-tensors', plantedCorpus: 'nearly', inputBytesMax: 768 },
]
/**
 * Files of a committed corpus; the smallest are kept. The next run finds the rest of the coverage
 * again in seconds.
 */
const CORPUS_FILES_MAX = 64

const root = join(import.meta.dirname, '..')
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    target: { type: 'string', multiple: true },
    seed: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
})
const targets = CRATES.flatMap((crate) => readdirSync(corpora(crate)).map((name) => ({ crate, name }))).filter(
  ({ name }) => values.target?.includes(name) ?? true,
)
const seed = values.seed ?? String(1 + Math.floor(Math.random() * 0x7fff_ffff))
const count = { executions: 0, crashes: 0 }

const tools = join(root, 'target/tools')
const environment = { ...process.env, PATH: `${join(tools, 'bin')}:${process.env.PATH}` }
install()
mkdirSync(join(root, 'target'), { recursive: true })
const work = mkdtempSync(join(root, 'target/fuzz-'))
process.on('exit', () => rmSync(work, { recursive: true, force: true }))

for (const crate of new Set(targets.map((target) => target.crate))) {
  const planted = await fuzz(crate, PLANTED_BUG, crate.plantedCorpus, PLANTED_BUG_SECONDS)
  if (!planted.crashed) {
    console.error(
      `deepring: ${planted.executions} executions did not find the planted bug of ${crate.name}; the result of this run proves nothing`,
    )
    count.crashes += 1
  }
  rmSync(join(folder(crate), 'artifacts', PLANTED_BUG), { recursive: true, force: true })
}
for (const { crate, name } of targets) {
  const { executions, crashed } = await fuzz(crate, name, name, Number(values.seconds))
  count.executions += executions
  if (crashed) count.crashes += 1
  else if (values.keep) keep(crate, name)
}
if (targets.length === 0) throw new Error(`there is no target ${values.target?.join(', ')}`)
console.log(`fuzz: seed ${seed}, ${targets.length} targets, ${count.executions} executions, ${count.crashes} crashes`)
process.exitCode = count.crashes > 0 ? 1 : 0

function folder(crate) {
  return join(root, 'crates', crate.name, 'fuzz')
}

function corpora(crate) {
  return join(folder(crate), 'corpus')
}

/**
 * Runs one target from a copy of a corpus. New inputs go to the copy; only --keep adds to the
 * committed corpus.
 */
async function fuzz(crate, target, corpus, seconds) {
  const grown = join(work, `${crate.name}-${target}`)
  cpSync(join(corpora(crate), corpus), grown, { recursive: true })
  console.log(`\n${target}: ${readdirSync(grown).length} inputs, ${seconds} seconds`)
  const limits = [`-max_total_time=${seconds}`, `-max_len=${crate.inputBytesMax}`, `-seed=${seed}`, '-timeout=10']
  const words = join(folder(crate), 'words.dict')
  if (existsSync(words)) limits.push(`-dict=${words}`)
  const parameters = ['+nightly', 'fuzz', 'run', target, grown, '--', ...limits, '-print_final_stats=1']
  const child = spawn('cargo', parameters, {
    cwd: join(root, 'crates', crate.name),
    env: environment,
    stdio: ['ignore', 'inherit', 'pipe'],
  })
  let executions = 0
  const reports = createInterface({ input: child.stderr })
  reports.on('line', (line) => {
    const executed = /^stat::number_of_executed_units: +(\d+)/.exec(line)
    if (executed) executions = Number(executed[1])
    // One line for each new input would be too many.
    if (!/^#\d+\s+(NEW|REDUCE|RELOAD)/.test(line)) console.log(line)
  })
  const crashed = await new Promise((resolve) => {
    child.on('error', () => resolve(true))
    child.on('close', (status) => resolve(status !== 0))
  })
  // A planted bug that does not compile proves nothing.
  return { executions, crashed: crashed && (target !== PLANTED_BUG || executions > 0) }
}

/** Minimizes the grown corpus without losing coverage, and replaces the committed one. */
function keep(crate, target) {
  const grown = join(work, `${crate.name}-${target}`)
  const parameters = ['+nightly', 'fuzz', 'cmin', target, grown]
  const { status } = spawnSync('cargo', parameters, {
    cwd: join(root, 'crates', crate.name),
    env: environment,
    stdio: 'inherit',
  })
  if (status !== 0) throw new Error(`cargo fuzz cmin ${target} failed`)
  const bySize = readdirSync(grown)
    .map((name) => ({ name, bytes: statSync(join(grown, name)).size }))
    .toSorted((a, b) => a.bytes - b.bytes || (a.name < b.name ? -1 : 1))
  const kept = join(corpora(crate), target)
  rmSync(kept, { recursive: true })
  mkdirSync(kept)
  for (const { name } of bySize.slice(0, CORPUS_FILES_MAX)) cpSync(join(grown, name), join(kept, name))
}

function install() {
  const installed = join(tools, 'bin/cargo-fuzz')
  const known = spawnSync('cargo', ['fuzz', '--version'], { env: environment, encoding: 'utf8' })
  if (known.status === 0 && (!existsSync(installed) || known.stdout.includes(CARGO_FUZZ_VERSION))) return
  const parameters = ['install', 'cargo-fuzz', '--version', CARGO_FUZZ_VERSION, '--locked', '--root', tools]
  const { status } = spawnSync('cargo', parameters, { stdio: 'inherit' })
  if (status !== 0) {
    console.error(`deepring: cargo-fuzz ${CARGO_FUZZ_VERSION} could not be installed`)
    process.exit(1)
  }
}
