/** Transfers of the binding: staged numbers become requests, alone, by path, or in groups. */

import { Buffer } from 'node:buffer'
import type { BigIntStats } from 'node:fs'
import type { Native } from '../core/native.ts'
import {
  FLAG,
  NODE_FLAG,
  OPEN,
  PRIORITY,
  SCALE,
  STAGED,
  STAGED_FLAG,
  STAGED_NUMBERS,
  type MemberFailure,
} from '../core/record.ts'
import type { RecordFields } from './delivery.ts'
import type { NodeEngine } from './engine.ts'
import { failed, failure } from './failure.ts'
import { openSteps, pathNow, type NodeFile } from './files.ts'
import type { Gate } from './pool.ts'
import type { Outcome, Request, Running } from './request.ts'
import { known, type Session } from './session.ts'
import { call, wait, type Steps } from './steps.ts'
import { readSteps, writeSteps, type Moved, type Transfer } from './transfer.ts'

/** Transfers with one record. */
class Group {
  readonly #settled: (failures: MemberFailure[]) => void
  readonly #members = new Set<Request<Moved>>()
  readonly #failures: MemberFailure[] = []
  #open = 1

  constructor(settled: (failures: MemberFailure[]) => void) {
    this.#settled = settled
  }

  join(request: Request<Moved>): void {
    if (!request.isSettled) this.#members.add(request)
  }

  expect(): void {
    this.#open += 1
  }

  settle(index: number, outcome: Outcome<Moved>, request: Request<Moved> | undefined): void {
    if (request !== undefined) this.#members.delete(request)
    if (outcome.kind === 'failed') this.#failures.push({ index, failure: outcome.failure })
    if (outcome.kind === 'canceled') {
      const canceled = failure('ERR_DEEPRING_CANCELED', '', 'canceled before it finished')
      this.#failures.push({ index, failure: canceled })
    }
    this.close()
  }

  /** No more join, or one has ended. */
  close(): void {
    this.#open -= 1
    if (this.#open === 0) this.#settled(this.#failures.toSorted((a, b) => a.index - b.index))
  }

  cancel(): void {
    for (const member of this.#members) member.cancel()
  }
}

/** What moves the bytes of a request, for the flags of its record. */
export function fieldsOf({ bytes, blocks, resumed, checksum }: Moved, request: Running): RecordFields {
  const { queueMs, deviceMs } = request.times
  const flags = checksum === undefined ? NODE_FLAG : NODE_FLAG + FLAG.checksum + checksum * SCALE.checksum
  return { transferred: bytes, blocks, resumed, retried: request.retries, queueMs, deviceMs, flags }
}

/** Reads or writes a file that is open. A write is not passed by what needs the file for itself. */
function* onFile({ inode }: NodeFile, isWrite: boolean, transfer: Transfer, gate: Gate | undefined): Steps<Moved> {
  if (!isWrite) return yield* through(gate, () => readSteps(transfer))
  const { alone } = inode
  const epoch = inode.accept()
  try {
    if (alone !== undefined) yield* wait(alone)
    return yield* through(gate, () => writeSteps(transfer))
  } finally {
    inode.settle(epoch)
  }
}

/** Opens a file for one transfer. */
function* onPath(
  path: string | Buffer,
  isWrite: boolean,
  isWhole: boolean,
  mode: number,
  { paths }: NodeEngine,
  transfer: Omit<Transfer, 'fd'>,
  gate: Gate | undefined,
): Steps<Moved> {
  const { requested, position } = transfer
  return yield* through(gate, () =>
    through(paths, function* opened() {
      const flags = isWrite ? OPEN.write | OPEN.create : OPEN.read
      const { fd } = yield* openSteps(path, flags, mode)
      try {
        const stat = yield* call<BigIntStats>('fstat', fd, { bigint: true })
        const size = Number(stat.size)
        if (isWhole && !isWrite && stat.isFile() && size !== requested) {
          const advice = `the file's size differs from the buffer's (the file has ${size} bytes, the buffer ${requested})`
          throw failed('ERR_DEEPRING_SIZE_MISMATCH', 'read', advice, { position, requested })
        }
        if (!isWrite) return yield* readSteps({ ...transfer, fd })
        const moved = yield* writeSteps({ ...transfer, fd })
        if (isWhole && stat.isFile() && size > position + requested) yield* call('ftruncate', fd, position + requested)
        return moved
      } finally {
        yield* call('close', fd)
      }
    }),
  )
}

/** Carries out steps behind a gate. */
function* through<T>(gate: Gate | undefined, steps: () => Steps<T>): Steps<T> {
  if (gate === undefined) return yield* steps()
  const place = gate.enter()
  let isIn = place === undefined
  try {
    if (place !== undefined) {
      // Of a request that was canceled meanwhile, the place is given back when it comes.
      void place.then(() => void (isIn ? gate.leave() : (isIn = true)))
      yield* wait(place)
    }
    return yield* steps()
  } finally {
    if (isIn) gate.leave()
    else isIn = true
  }
}

/** A transfer as it is staged. */
class Staged {
  readonly #numbers: Float64Array
  readonly #at: number

  constructor(numbers: Float64Array, index: number) {
    this.#numbers = numbers
    this.#at = index * STAGED_NUMBERS
  }

  get(field: keyof typeof STAGED): number {
    return this.#numbers[this.#at + STAGED[field]] as number
  }

  has(flag: number): boolean {
    return (this.get('flags') & flag) !== 0
  }

  /** Whether to sum, or the checksum that is expected. */
  get sum(): boolean | number {
    return this.has(STAGED_FLAG.expect) ? this.get('extra') : this.has(STAGED_FLAG.sum)
  }
}

/** The functions of the binding for transfers. */
export function transfersOf(
  session: Session,
): Pick<Native, 'flush' | 'openGroup' | 'closeGroup' | 'keepName' | 'dropName' | 'verify'> {
  const groups = new Map<number, Group>()
  const names = new Map<number, string | Buffer>()

  function submit(staged: Staged, path: Uint8Array | undefined, view: Uint8Array): void {
    const [id, group, requested, position] = [
      staged.get('id'),
      staged.get('group'),
      staged.get('length'),
      staged.get('position'),
    ]
    const isWrite = staged.has(STAGED_FLAG.write)
    const syscall = isWrite ? 'write' : 'read'
    const file = path === undefined ? session.files.get(staged.get('target')) : undefined
    const engine = file?.engine ?? (path === undefined ? undefined : session.engines.get(staged.get('target')))
    const handle = session.handles.get(staged.get('handle'))
    const fields = { position, requested }
    const end = landing(id, group, isWrite)
    const refused = refusalOf(engine, view, requested)
    if (engine === undefined || refused !== undefined) {
      const [code, message] = refused ?? ['ERR_DEEPRING_INVALID', 'its file does not exist in this environment']
      end({ kind: 'failed', failure: failure(code, syscall, message, fields) }, undefined, 0, engine)
      return
    }
    const priority =
      [staged.get('priority'), handle?.priority, file?.priority].find((one) => one) ?? PRIORITY.throughput
    const blockBytes = handle?.blockBytes ?? engine.blockBytes
    const transfer = { view, requested, position, blockBytes, exact: staged.has(STAGED_FLAG.exact), sum: staged.sum }
    const steps =
      path === undefined
        ? onFile(file as NodeFile, isWrite, { ...transfer, fd: (file as NodeFile).fd }, handle?.gate)
        : onPath(
            pathNow(path),
            isWrite,
            staged.has(STAGED_FLAG.whole),
            staged.get('extra'),
            engine,
            transfer,
            handle?.gate,
          )
    engine.counters.submitted += 1
    engine.counters.queued += 1
    let leave: (() => void) | undefined
    const settle = (outcome: Outcome<Moved>, request: Request<Moved>): void => {
      leave?.()
      engine.counters.queued -= 1
      end(outcome, request, priority, engine)
    }
    const request = session.launch<Moved>({ engine, priority, file, syscall, fields, steps, settle })
    if (request.isSettled) return
    if (group === 0) {
      session.running.set(id, request)
      leave = session.cancelTogether(request, staged.get('cancellation'))
    } else groups.get(group)?.join(request)
  }

  /** What reports the end of a transfer. */
  function landing(id: number, group: number, isWrite: boolean) {
    const joined = group === 0 ? undefined : known(groups, group, 'group')
    joined?.expect()
    return (
      outcome: Outcome<Moved>,
      request: Request<Moved> | undefined,
      priority: number,
      engine: NodeEngine | undefined,
    ): void => {
      if (request !== undefined && engine !== undefined) {
        if (outcome.kind === 'done')
          engine.count(isWrite, outcome.value, request.retries, priority, request.times.allMs)
        else engine.counters[outcome.kind] += 1
      }
      if (joined !== undefined) {
        joined.settle(id, outcome, request)
        return
      }
      session.running.delete(id)
      if (outcome.kind === 'done') session.delivery.succeed(id, fieldsOf(outcome.value, request as Running))
      else if (outcome.kind === 'failed') session.delivery.fail(id, outcome.failure)
      else session.delivery.cancel(id)
    }
  }

  return {
    flush(staged, views, count) {
      let next = 0
      for (let index = 0; index < count; index += 1) {
        const one = new Staged(staged, index)
        const path = one.has(STAGED_FLAG.byPath) ? views[next++] : undefined
        submit(one, path, views[next++] as Uint8Array)
      }
    },
    openGroup(id) {
      const group = new Group((failures) => {
        groups.delete(id)
        session.running.delete(id)
        session.delivery.succeed(id, {}, failures.length === 0 ? null : failures)
      })
      groups.set(id, group)
      session.running.set(id, group)
    },
    closeGroup(id) {
      known(groups, id, 'group').close()
    },
    keepName(path) {
      const number = session.number()
      names.set(number, pathNow(path))
      return number
    },
    dropName(name) {
      names.delete(name)
    },
    verify(id, engineNumber, name, fileNumber, view, position) {
      const { byteLength: requested } = view
      const file = fileNumber === 0 ? undefined : session.file(fileNumber)
      const path = file === undefined ? known(names, name, 'name') : undefined
      names.delete(name)
      const engine = file?.engine ?? session.engine(engineNumber)
      const steps =
        path === undefined ? compare((file as NodeFile).fd, view, position) : compareNamed(path, view, position)
      session.record(id, { engine, file, syscall: 'verify', fields: { position, requested }, steps })
    },
  }
}

/** Why a transfer is not accepted. */
function refusalOf(
  engine: NodeEngine | undefined,
  view: Uint8Array,
  requested: number,
): readonly [code: string, message: string] | undefined {
  if (view.byteLength !== requested)
    return ['ERR_DEEPRING_INVALID', 'invalid argument (its memory was detached before it was submitted)']
  if (engine !== undefined && engine.counters.queued >= engine.maxQueued) {
    const advice = 'wait for some requests to finish, or raise maxQueued'
    return ['ERR_DEEPRING_QUEUE_FULL', `too many queued operations (${advice})`]
  }
  return undefined
}

/** Bytes that are compared at once. */
const COMPARED_BYTES = 1 << 20

/** Compares memory with a file. */
function* compare(fd: number, view: Uint8Array, position: number): Steps<void> {
  const { byteLength: requested } = view
  const mismatch = (at: number, message: string): Error =>
    failed('ERR_DEEPRING_MISMATCH', 'verify', message, { position: position + at, requested, transferred: at })
  const block = Buffer.allocUnsafe(Math.min(COMPARED_BYTES, requested))
  let done = 0
  while (done < requested) {
    const wanted = Math.min(block.length, requested - done)
    const bytes = yield* call<number>('read', fd, block, 0, wanted, position + done)
    if (bytes === 0) throw mismatch(done, 'the file differs from memory (the file ends here)')
    const [there, here] = [block.subarray(0, bytes), view.subarray(done, done + bytes)]
    if (!there.equals(here))
      throw mismatch(done + there.findIndex((byte, at) => byte !== here[at]), 'the file differs from memory')
    done += bytes
  }
}

function* compareNamed(path: string | Buffer, view: Uint8Array, position: number): Steps<void> {
  const { fd } = yield* openSteps(path, OPEN.read, 0)
  try {
    yield* compare(fd, view, position)
  } finally {
    yield* call('close', fd)
  }
}
