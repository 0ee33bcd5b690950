/**
 * What an engine tells about itself: its configuration and the reasons for it ({@link Info}), and its counters ({@link
 * Stats}).
 */

/** How an engine runs, and why so. */
export interface Info {
  /** The version of deepring's native part. */
  readonly version: string
  /** Who moves the bytes. */
  readonly backend: 'uring' | 'threads'
  /**
   * Why this backend was chosen, in words a person can act on: a seccomp filter, a sysctl, an old kernel, an
   * environment variable.
   */
  readonly reason: string
  /** The release of the running kernel. */
  readonly kernel: string
  /** The flags with which the ring was set up; empty on `'threads'`. */
  readonly flags: readonly string[]
  /** Entries of the ring's submission queue; 0 on `'threads'`. */
  readonly ringEntries: number
  /** The limit on locked memory that rings are charged to, in bytes; -1 if there is none. */
  readonly memlockBytes: number
  /** Blocks in flight at most, per device. */
  readonly queueDepth: number
  /** Bytes per block. */
  readonly blockSize: number
  /** Bytes in flight at most, per device. */
  readonly inFlightBytes: number
  /**
   * Requests accepted and not yet settled, in flight included; one more fails with `ERR_DEEPRING_QUEUE_FULL`.
   */
  readonly maxQueued: number
  /** About the path that `info` was asked for; absent if none was given. */
  readonly path?: PathInfo | undefined
}

/** What was found out about one path, by trying. */
export interface PathInfo {
  /** The path that was looked at. */
  readonly path: string
  /** The block device that holds it, such as `nvme0n1`; `major:minor` where it has no name. */
  readonly device: string
  /** Requests that the device's queue takes. */
  readonly deviceRequests: number
  /** Blocks that this engine keeps in flight there at most. */
  readonly queueDepth: number
  /** The kind of file system: `ext4`, `xfs`, `tmpfs`. */
  readonly fileSystem: string
  /** True if direct I/O works there. */
  readonly direct: boolean
  /** Why direct I/O does not work there; or, where it does, what told so (`'statx'`). */
  readonly directReason: string
  /** What positions and lengths of direct transfers must be multiples of, in bytes. */
  readonly offsetAlignment: number
  /** What memory addresses of direct transfers must be multiples of, in bytes. */
  readonly memoryAlignment: number
}

/**
 * Counters of an engine since its start. Requests are what was called for; blocks are what they were cut into for the
 * device.
 */
export interface Stats {
  /** Requests accepted. */
  readonly submitted: number
  /** Requests that ended well. */
  readonly completed: number
  /** Requests that failed, other than by cancellation. */
  readonly failed: number
  /** Requests that were cancelled before they had finished. */
  readonly canceled: number
  /** Blocks that moved less than asked, and were continued. */
  readonly resumed: number
  /** Blocks submitted again after `EINTR` or `EAGAIN`. */
  readonly retried: number
  /** Bytes copied through bounce blocks for want of alignment. */
  readonly bouncedBytes: number
  /** Writes that the kernel could not take without waiting and handed to a thread of its own. */
  readonly punted: number
  /** Files whose direct I/O was refused at the first block, and that went on through the page cache. */
  readonly downgraded: number
  /** Blocks whose memory was given up, because a lost ring may still write to it. */
  readonly leaked: number
  /** Bytes of that memory. */
  readonly leakedBytes: number
  /** Bytes read for callers. */
  readonly readBytes: number
  /** Bytes written for callers. */
  readonly writtenBytes: number
  /** Blocks at the device now. */
  readonly inFlight: number
  /** Blocks at the device at the busiest moment. */
  readonly inFlightMax: number
  /** Bytes at the device now. */
  readonly inFlightBytes: number
  /** Bytes at the device at the busiest moment. */
  readonly inFlightBytesMax: number
  /** Requests accepted and not yet settled, in flight included. */
  readonly queued: number
  /** Pieces of engine memory in use now. */
  readonly buffers: number
  /** Bytes of engine memory in use now. */
  readonly bufferBytes: number
  /** How long reads and writes took, from acceptance to settlement: waiting for their turn included. */
  readonly latency: LatencySummary
}

/** A summary of many durations, in microseconds. */
export interface LatencySummary {
  /** How many were measured. */
  readonly count: number
  /** The shortest. */
  readonly minUs: number
  /** The longest. */
  readonly maxUs: number
  /** The mean. */
  readonly meanUs: number
  /** Half were shorter. */
  readonly p50Us: number
  /** 90 of 100 were shorter. */
  readonly p90Us: number
  /** 99 of 100 were shorter. */
  readonly p99Us: number
  /** 999 of 1000 were shorter. */
  readonly p999Us: number
}
