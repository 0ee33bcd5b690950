/** Chunks of a file, whose memory goes back when they are disposed: {@link Chunk}. */

import { released, type DeepringError } from '../core/errors.ts'
import { allocateBuffer } from '../memory/buffer.ts'
import { Lease, LentMemory } from '../memory/lease.ts'
import type { FileState } from './file-state.ts'
import { Reader } from './reader.ts'
import type { Span } from './span.ts'

/**
 * A chunk of a file, in memory of the engine. It is its holder's until it is disposed, however long that takes and whatever
 * the loop does meanwhile. Disposal gives the memory back for the next chunk. Without it, the garbage collector does that at
 * some later time.
 */
export class Chunk extends Lease {
  /** Where the chunk is in the file. */
  readonly position: number

  /** @internal */
  constructor(lent: LentMemory, byteLength: number, position: number) {
    super(lent, 0, byteLength)
    this.position = position
  }

  /** Gives the memory back, like `[Symbol.dispose]`: for runtimes without `using`. Can be called again. */
  dispose(): void {
    this[Symbol.dispose]()
  }

  protected override releasedError(): DeepringError {
    return released(`the chunk at ${this.position}`, { position: this.position })
  }
}

/** See `FileHandle.chunks`. */
export function chunks(state: FileState, owner: object, span: Span): AsyncGenerator<Chunk, undefined, undefined> {
  return chunksOf(new Reader(state, owner, span, (bytes) => allocateBuffer(state.engine, bytes, false)))
}

async function* chunksOf(
  reader: Reader<ReturnType<typeof allocateBuffer>>,
): AsyncGenerator<Chunk, undefined, undefined> {
  try {
    for (;;) {
      const piece = await reader.next()
      if (piece === undefined) return undefined
      const { memory, position } = piece
      yield new Chunk(new LentMemory(memory, 1), memory.byteLength, position)
    }
  } finally {
    await reader.stop()
  }
}
