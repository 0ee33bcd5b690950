/**
 * A training on three processes that write checkpoints together, and are killed at random. It resumes from the last
 * generation that was committed, and checks every byte of it.
 *
 *   node examples/train.ts [--kills 8] [--mebibytes 12] [--seed 7]
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the imports
 * are `from 'deepring'` and `from 'deepring/checkpoint'`.
 *
 * ```text
 *   main ── fork ──► rank 0: begin ──token──► main ──token──► ranks 1, 2: join       each puts its rows, and commits
 *     └── kills one, then the others; looks at what is there; starts them again
 * ```
 *
 * Each rank has a third of the rows of `weights`, and the checkpoint has one tensor. The rows are copied while `staging`
 * lasts, so that the next step is computed while the checkpoint is written. What never changes, `embedding`, is taken over
 * from the generation before.
 */

import { fork, type ChildProcess } from 'node:child_process'
import { on, once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { allocateTensor, type Tensor } from '../index.ts'
import { openCheckpoints, type CheckpointStore, type CheckpointWriter } from '../lib/checkpoint/index.ts'

const RANKS = 3
const COLUMNS = 1024
const EMBEDDING_BYTES = 2 ** 20
/** Rows that are compared at once. */
const CHECKED_ROWS = 512

/** Until a rank is killed, and then the others. */
const LIFE_MS_MAX = 400
const GRACE_MS_MAX = 200
/** Steps after the last kill. */
const LAST_STEPS = 3

/** How ranks fail of which another was killed: the part of that is missing, and then the generation is removed. */
const EXPECTED: ReadonlySet<string> = new Set(['ERR_DEEPRING_INCOMPLETE', 'ERR_DEEPRING_NOT_FOUND', 'ENOENT'])

/** What goes between the processes. */
type Message =
  | { readonly kind: 'resumed' }
  | { readonly kind: 'begun'; readonly token: string }
  | { readonly kind: 'committed'; readonly step: number }
  | { readonly kind: 'failed'; readonly why: string }
  | { readonly kind: 'stop' }

const { values } = parseArgs({
  options: {
    kills: { type: 'string', default: '8' },
    mebibytes: { type: 'string', default: '12' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    rank: { type: 'string' },
    directory: { type: 'string', default: '' },
  },
})
const rows = Math.ceil((Number(values.mebibytes) * 2 ** 20) / (COLUMNS * Float32Array.BYTES_PER_ELEMENT * RANKS))
const allRows = RANKS * rows

/** What a weight gains in a step. Whole numbers, so that sums are exact. */
function gradient(place: number): number {
  return (place % 251) + 1
}

function embedding(): Uint8Array {
  return Uint8Array.from({ length: EMBEDDING_BYTES }, (_, place) => place % 253)
}

// ---- a rank ----

async function train(rank: number): Promise<void> {
  const messages = on(process, 'message')
  await using store = await openCheckpoints(values.directory, { keep: { last: 2 } })
  using weights = allocateTensor('F32', [rows, COLUMNS])
  let step = await resume(store, weights, rank)
  send({ kind: 'resumed' })
  // The first rank hears of nothing but the end.
  const end = new AbortController()
  if (rank === 0) process.once('message', () => end.abort())
  let committing: Promise<void> | undefined
  while (!end.signal.aborted) {
    step += 1
    for (const [place, weight] of weights.data.entries())
      weights.data[place] = weight + gradient(rank * rows * COLUMNS + place)
    // The checkpoint before was written meanwhile.
    await committing
    const writer = rank === 0 ? await begin(store, step) : await joinNext(store, rank, messages)
    if (writer === undefined) break
    await writer.put('weights', weights, { shape: [allRows, COLUMNS], start: [rank * rows, 0] })
    committing = commit(writer, step)
  }
  await committing
}

/** Reads the rows of this rank. Returns their step. */
async function resume(store: CheckpointStore, weights: Tensor<'F32'>, rank: number): Promise<number> {
  const { checkpoint } = await store.latest()
  if (checkpoint === undefined) return 0
  await using opened = checkpoint
  await opened.tensor('weights', { slice: [[rank * rows, (rank + 1) * rows]], into: weights })
  return opened.step ?? 0
}

async function begin(store: CheckpointStore, step: number): Promise<CheckpointWriter> {
  const bytes = rows * COLUMNS * Float32Array.BYTES_PER_ELEMENT
  const writer = await store.begin({ writers: RANKS, step, reference: 'latest', staging: bytes })
  send({ kind: 'begun', token: writer.token })
  if (step > 1) await writer.referenceGroup('frozen')
  else await writer.put('embedding', { dtype: 'U8', shape: [EMBEDDING_BYTES], data: embedding() }, { group: 'frozen' })
  return writer
}

/** Joins the next generation; `undefined` if there is none. */
async function joinNext(
  store: CheckpointStore,
  rank: number,
  messages: AsyncIterator<unknown>,
): Promise<CheckpointWriter | undefined> {
  const { value } = (await messages.next()) as { value: [Message] }
  const [message] = value
  if (message.kind !== 'begun') return undefined
  return store.join(message.token, rank, { staging: rows * COLUMNS * Float32Array.BYTES_PER_ELEMENT })
}

/** Of the first rank, this waits for the parts of the others. */
async function commit(writer: CheckpointWriter, step: number): Promise<void> {
  try {
    await writer.commit()
    if (writer.writer === 0) send({ kind: 'committed', step })
  } catch (error) {
    giveUp(error)
  }
}

function send(message: Message): void {
  process.send?.(message)
}

function giveUp(error: unknown): never {
  send({ kind: 'failed', why: (error as { code?: string }).code ?? String(error) })
  process.exit(1)
}

// ---- the main process ----

/** The three ranks, and what they have reported. */
class Job {
  readonly ranks: readonly ChildProcess[]
  readonly exits: readonly Promise<unknown>[]
  resumed = 0
  committed = 0
  readonly failures = new Set<string>()

  constructor(directory: string) {
    const parameters = ['--directory', directory, '--mebibytes', values.mebibytes, '--rank']
    this.ranks = Array.from({ length: RANKS }, (_, rank) => fork(import.meta.filename, [...parameters, String(rank)]))
    this.exits = this.ranks.map((rank) => once(rank, 'exit'))
    for (const rank of this.ranks) rank.on('message', (message: Message) => this.#hear(message))
  }

  /** Waits until something holds. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      if (this.ranks.every(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null))
        throw new Error(`all ranks have ended: ${[...this.failures].join(', ')}`)
      await setTimeout(5)
    }
  }

  tell(rank: number, message: Message): void {
    const child = this.ranks[rank]!
    if (child.connected) child.send(message, () => {})
  }

  #hear(message: Message): void {
    if (message.kind === 'resumed') this.resumed += 1
    if (message.kind === 'committed') this.committed = message.step
    if (message.kind === 'failed') this.failures.add(message.why)
    if (message.kind === 'begun') for (let rank = 1; rank < RANKS; rank += 1) this.tell(rank, message)
  }
}

/** Lets the ranks train, and kills them. Returns the last step that was reported to be committed. */
async function trainAndKill(directory: string, random: () => number, waitsForCommit: boolean): Promise<number> {
  const job = new Job(directory)
  await job.until(() => job.resumed === RANKS && (!waitsForCommit || job.committed > 0))
  await setTimeout(random() * LIFE_MS_MAX)
  const victim = Math.floor(random() * RANKS)
  job.ranks[victim]!.kill('SIGKILL')
  // The first rank can find out that a part is missing.
  await setTimeout(random() * GRACE_MS_MAX)
  for (const rank of job.ranks) rank.kill('SIGKILL')
  await Promise.all(job.exits)
  const unexpected = [...job.failures].filter((why) => !EXPECTED.has(why))
  if (unexpected.length > 0) throw new Error(`a rank has failed: ${unexpected.join(', ')}`)
  console.log(`killed rank ${victim} after step ${job.committed === 0 ? 'none' : job.committed}`)
  return job.committed
}

/** Lets the ranks train to their end. */
async function trainToTheEnd(directory: string, steps: number): Promise<void> {
  const job = new Job(directory)
  await job.until(() => job.committed >= steps)
  job.tell(0, { kind: 'stop' })
  await job.exits[0]
  for (let rank = 1; rank < RANKS; rank += 1) job.tell(rank, { kind: 'stop' })
  await Promise.all(job.exits)
  if (job.ranks.some(({ exitCode }) => exitCode !== 0)) throw new Error('a rank has failed')
}

/** Compares every byte of the latest generation with what it should be. Returns its step; 0 if there is none. */
async function check(directory: string): Promise<number> {
  await using store = await openCheckpoints(directory)
  const { checkpoint, skipped } = await store.latest({ verify: 'all' })
  if (skipped.length > 0) throw new Error('a generation is damaged', { cause: skipped[0]!.reason })
  if (checkpoint === undefined) return 0
  await using opened = checkpoint
  const step = opened.step ?? 0
  for (let row = 0; row < allRows; row += CHECKED_ROWS) {
    const end = Math.min(row + CHECKED_ROWS, allRows)
    using part = await opened.tensor('weights', { slice: [[row, end]] })
    const data = part.data as Float32Array
    const wrong = data.findIndex((weight, place) => weight !== step * gradient(row * COLUMNS + place))
    if (wrong >= 0) throw new Error(`weight ${row * COLUMNS + wrong} of step ${step} is ${data[wrong]}`)
  }
  using frozen = await opened.tensor('embedding')
  if (Buffer.compare(frozen.bytes, embedding()) !== 0) throw new Error('the embedding has changed')
  return step
}

/** Random numbers from 0 to 1 that depend on the seed. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function main(): Promise<void> {
  const random = randomFrom(Number(values.seed))
  console.log(`seed ${values.seed}`)
  const directory = await mkdtemp(join(process.cwd(), 'train-'))
  try {
    let step = 0
    for (let kill = 0; kill < Number(values.kills); kill += 1) {
      // Every second time, before anything new may have been committed.
      const committed = await trainAndKill(directory, random, kill % 2 === 0)
      const found = await check(directory)
      if (found < Math.max(step, committed))
        throw new Error(`step ${Math.max(step, committed)} was lost: there is ${found}`)
      step = found
      console.log(`resuming from step ${step}`)
    }
    await trainToTheEnd(directory, step + LAST_STEPS)
    const last = await check(directory)
    console.log(`trained ${last} steps, and was killed ${values.kills} times`)
    console.log(last >= step + LAST_STEPS ? 'every byte is what it should be, and no step was lost' : 'steps were LOST')
    if (last < step + LAST_STEPS) process.exitCode = 1
  } finally {
    await rm(directory, { recursive: true })
  }
}

if (values.rank === undefined) {
  await main()
} else {
  // Without the main process, nothing trains.
  process.once('disconnect', giveUp)
  await train(Number(values.rank)).catch(giveUp)
  process.off('disconnect', giveUp)
  process.disconnect?.()
}
