/** Requests, as this thread keeps them while they are in flight: {@link Operation}. */

import type { AbortError } from './abort.ts'
import type { RecordView } from './record.ts'

/** Makes the result of a request from its record. It can throw instead. */
export type Finish = (operation: Operation, record: RecordView) => unknown

/** One request in flight. All have one shape, so that the JavaScript engine sees one kind of object. */
export class Operation {
  /**
   * Stays for ever. V8 forgets a shape that no object has, and all code that it has compiled for that shape. Then it would
   * compile anew for each burst of requests.
   */
  static readonly shape: Operation = new Operation(0, '', ignore, null, null, undefined)

  /** Its number in the binding; in a group, its index there. */
  readonly id: number
  /** What it does, in the word that its error has as `syscall`. */
  readonly call: string
  readonly finish: Finish
  /** What the caller passed in, to be returned with the result; or what else `finish` needs. */
  readonly source: unknown
  /** The memory that the kernel can use; held here for that reason. */
  readonly view: Uint8Array | null
  /** Bytes of `view` at the time of the call. A detached view has none. */
  readonly requested: number
  /** The file as the caller named it, for errors. */
  readonly path: string | undefined
  /**
   * The `FileHandle` or `Engine` that the request was made of. Held until the outcome has come: if it were collected
   * before, its close would cancel the request.
   */
  owner: object | null = null
  /** Takes the result, or a promise that rejects. */
  resolve: (value: unknown) => void = ignore
  /** Of a transfer: where it begins in the file. */
  position: number | null = null
  /** When it was made, in whole milliseconds of the process. */
  startedMs = 0
  /** What most requests do without. */
  rare: Rare | null = null

  constructor(
    id: number,
    call: string,
    finish: Finish,
    source: unknown,
    view: Uint8Array | null,
    path: string | undefined,
  ) {
    this.id = id
    this.call = call
    this.finish = finish
    this.source = source
    this.view = view
    this.requested = view === null ? 0 : view.byteLength
    this.path = path
  }

  /** The rest of the request, to be set. */
  get extra(): Rare {
    return (this.rare ??= new Rare())
  }
}

/** The requests of one signal, and their listener. */
export class Watch {
  /** As {@link Operation.shape}. */
  static readonly shape: Watch = new Watch(new AbortController().signal, 0)

  readonly signal: AbortSignal
  /** Its number in the binding, which cancels all its transfers at once. */
  readonly cancellation: number
  /** Requests that have not settled. */
  left = 0
  /** Those that the binding does not know by the number. */
  readonly apart: Set<Operation> = new Set()
  abort: () => void = ignore
  isAborted = false
  /** After an abort of many: what all of them reject with. */
  reason: AbortError | null = null

  constructor(signal: AbortSignal, cancellation: number) {
    this.signal = signal
    this.cancellation = cancellation
  }
}

/** What few requests have: apart, because a hundred thousand others can be in flight without it. */
export class Rare {
  /** As {@link Operation.shape}. */
  static readonly shape: Rare = new Rare()

  /** More memory of the caller, if a request uses several pieces: held here, too. */
  holds: readonly Uint8Array[] | null = null
  /** Undoes a success that is not delivered, because the request was aborted before. */
  discard: ((record: RecordView) => void) | null = null
  /** The requests of its signal. */
  watch: Watch | null = null
  /** Of a request with a signal: rejects its promise without a stack of its own. */
  rejectAtOnce: (reason: unknown) => void = ignore
  /** Its promise was rejected before its record has come: nothing waits for the outcome. */
  abandoned = false
  /** The requests of a group, by index, if this stands for one; those that were refused are `undefined`. */
  members: readonly (Operation | undefined)[] | null = null
  /** Takes a failure, where no promise does. */
  reject: ((reason: unknown) => void) | null = null
}

function ignore(): void {}
