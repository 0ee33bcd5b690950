/**
 * Where the runtime refuses external memory, and where it does not: memory that is disposed in flight is never written to by
 * the device, and tensors and leases have their bytes.
 */

import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { electronLike } from './electron.ts'
import { makeScratch } from './harness.ts'
import { nodes, run } from './packed.ts'

const scratch = makeScratch()
const electron = electronLike(scratch.folder)
const ROUNDS = 12

async function disposed(t: ExecutionContext, node: string, variables: NodeJS.ProcessEnv): Promise<unknown> {
  const program = join(import.meta.dirname, 'programs', 'disposed-in-flight.mjs')
  const { status, stdout, stderr } = await run(
    node,
    [program, scratch.path(), String(ROUNDS)],
    scratch.folder,
    variables,
  )
  t.is(status, 0, stdout + stderr)
  return JSON.parse(stdout)
}

/** What is the same everywhere: no byte is visible after a disposal, and no other memory was written to. */
const safe = {
  another: { ERR_DEEPRING_DETACHED: ROUNDS },
  read: { ERR_DEEPRING_DETACHED: ROUNDS },
  left: { 0: 3 * ROUNDS + 1 },
  freed: { true: ROUNDS },
  queued: { ERR_DEEPRING_DETACHED: ROUNDS },
  byPath: { ERR_DEEPRING_DETACHED: ROUNDS },
  write: { ok: ROUNDS },
  written: { true: ROUNDS },
  aligned: true,
}

for (const [version, node] of nodes()) {
  test(`disposal in flight is safe on Node ${version}`, async (t) => {
    t.deepEqual(await disposed(t, node, {}), { ...safe, pinned: true, counted: true })
  })

  const title = `disposal in flight is safe where external memory is refused, on Node ${version}`
  if (typeof electron === 'string') {
    test.skip(`${title} (${electron})`, () => {})
  } else {
    test(title, async (t) => {
      t.deepEqual(await disposed(t, node, electron), { ...safe, pinned: false, counted: false })
    })
  }
}

const tensors = { right: 43, left: 0, released: 3 }

for (const [version, node] of nodes()) {
  for (const [where, variables] of [
    ['', {}],
    [' where external memory is refused,', electron],
  ] as const) {
    const title = `tensors are saved, loaded, streamed and kept${where} on Node ${version}`
    if (typeof variables === 'string') {
      test.skip(`${title} (${variables})`, () => {})
      continue
    }
    test(title, async (t) => {
      const program = join(import.meta.dirname, 'programs', 'tensors-round-trip.mjs')
      const { status, stdout, stderr } = await run(node, [program, scratch.path()], scratch.folder, variables)
      t.deepEqual([status, stderr], [0, ''])
      t.deepEqual(JSON.parse(stdout), tensors)
    })
  }
}

for (const [version, node] of nodes()) {
  for (const [where, variables] of [
    ['', {}],
    [' where external memory is refused,', electron],
  ] as const) {
    const title = `leases of swap stores and of optimizer swappers are changed${where} on Node ${version}`
    if (typeof variables === 'string') {
      test.skip(`${title} (${variables})`, () => {})
      continue
    }
    test(title, async (t) => {
      const program = join(import.meta.dirname, 'programs', 'swap-round-trip.mjs')
      const { status, stdout, stderr } = await run(node, [program, scratch.path()], scratch.folder, variables)
      t.deepEqual([status, stderr], [0, ''])
      t.deepEqual(JSON.parse(stdout), { right: 7, left: 0 })
    })
  }
}
