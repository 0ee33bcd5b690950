/**
 * What this thread knows of a file, by its number in its file system: which writes are on their way, and whether a flush has
 * failed. All handles of a file share it.
 */

/** The writes that were accepted between two calls that wait for them. */
class Epoch {
  writes = 0
}

export class Inode {
  /** The last one takes what is accepted. */
  readonly #epochs: Epoch[] = [new Epoch()]
  readonly #waiting: { readonly epoch: Epoch; readonly resolve: () => void }[] = []
  /** What has the file for itself, after what had it before. */
  #alone: Promise<void> | undefined
  /** Of the flush that has failed. */
  syncErrno = 0
  /** Open files. */
  uses = 0

  /** Accepts a write. It is settled by {@link Inode.settle}. */
  accept(): Epoch {
    const epoch = this.#epochs.at(-1) as Epoch
    epoch.writes += 1
    return epoch
  }

  /** A write has ended. */
  settle(epoch: Epoch): void {
    epoch.writes -= 1
    this.#sweep()
  }

  /** Settles when all writes have that were accepted before. `undefined` if there are none. */
  writesBefore(): Promise<void> | undefined {
    const epoch = this.#epochs.at(-1) as Epoch
    if (this.#epochs.length === 1 && epoch.writes === 0) return undefined
    this.#epochs.push(new Epoch())
    return new Promise((resolve) => {
      this.#waiting.push({ epoch, resolve })
      this.#sweep()
    })
  }

  /** What a write that is accepted now must wait for. */
  get alone(): Promise<void> | undefined {
    return this.#alone
  }

  /**
   * Has the file alone: from the end of what was accepted before until `leave`, without writes of this thread.
   *
   * @returns What to wait for first, and `leave`.
   */
  enterAlone(): { readonly before: Promise<unknown>; readonly leave: () => void } {
    const before = Promise.all([this.#alone, this.writesBefore()])
    let settle: (() => void) | undefined
    const mine = new Promise<void>((resolve) => {
      settle = resolve
    })
    const leave = (): void => {
      if (this.#alone === mine) this.#alone = undefined
      settle?.()
    }
    this.#alone = mine
    return { before, leave }
  }

  #sweep(): void {
    while (this.#epochs.length > 1 && this.#epochs[0]?.writes === 0) this.#epochs.shift()
    for (let [first] = this.#waiting; first !== undefined; [first] = this.#waiting) {
      if (this.#epochs.includes(first.epoch)) return
      this.#waiting.shift()
      first.resolve()
    }
  }
}

const inodes = new Map<string, Inode>()

/** The inode of a file that was opened. It is left by {@link leaveInode}. */
export function enterInode(key: string): Inode {
  let inode = inodes.get(key)
  if (inode === undefined) {
    inode = new Inode()
    inodes.set(key, inode)
  }
  inode.uses += 1
  return inode
}

/** A file was closed. What a failed flush has left is remembered until the process ends. */
export function leaveInode(key: string, inode: Inode): void {
  inode.uses -= 1
  if (inode.uses === 0 && inode.syncErrno === 0) inodes.delete(key)
}
