/**
 * What an engine reports of itself: its configuration and the reasons for it ({@link Info}), and its counters ({@link
 * Stats}).
 */

import type { Priority } from '../core/options.ts'
import type { Backend } from '../core/record.ts'

/** An engine's configuration, and why it was chosen. */
export interface Info {
  /** The version of the native binding. */
  readonly version: string
  /**
   * The C library that the native binding needs: `glibc 2.17` for version 2.17 or newer, or `musl`. `null` over `node:fs`, and
   * where the binding's file cannot be read.
   */
  readonly libc: string | null
  /** What moves the bytes now. */
  readonly backend: Backend
  /**
   * Why this backend runs, in words that help: a seccomp filter, a sysctl, an old kernel, an environment variable, a
   * lost ring, a platform without a binary.
   */
  readonly reason: string
  /** The release of the running kernel. */
  readonly kernel: string
  /** The set-up flags of the ring; empty without one. */
  readonly flags: readonly string[]
  /** Entries of the ring's submission queue; 0 without one. */
  readonly ringEntries: number
  /** The limit on locked memory, which includes rings, in bytes; -1 if there is none. */
  readonly memlockBytes: number
  /**
   * Whether the kernel backs memory with transparent huge pages: everywhere, where it is asked to (as in engine memory),
   * or not at all. Without them large transfers are slower and take several times the CPU.
   */
  readonly hugePages: 'always' | 'madvise' | 'never' | 'unknown'
  /** Blocks in flight at most, per device. */
  readonly queueDepth: number
  /** Bytes per block. */
  readonly blockSize: number
  /** Bytes in flight at most, per device. */
  readonly inFlightBytes: number
  /** Whether the engine finds its windows within these bounds. */
  readonly window: 'auto' | 'fixed'
  /**
   * Requests accepted and not yet settled, in flight included; one more fails with `ERR_DEEPRING_QUEUE_FULL`.
   */
  readonly maxQueued: number
  /** Threads for each file system, where threads move the bytes. */
  readonly threads: number
  /** Where profiles of devices are looked for, and whether one was used. */
  readonly profile: ProfileInfo
  /** About the path passed to `info`; absent without one. */
  readonly path?: PathInfo | undefined
}

/** What real operations on a path found out. */
export interface PathInfo {
  /** The path, as it was given. */
  readonly path: string
  /** The block device that holds it, such as `nvme0n1`; `major:minor` where it has no name. */
  readonly device: string
  /** Requests that the device's queue holds. */
  readonly deviceRequests: number
  /** Blocks that this engine keeps in flight there at most. */
  readonly queueDepth: number
  /** What this engine keeps in flight there, as it found out; before it has used the device, what it begins with. */
  readonly window: DeviceWindow
  /** The kind of file system: `ext4`, `xfs`, `tmpfs`. */
  readonly fileSystem: string
  /** True if direct I/O works there. */
  readonly direct: boolean
  /** Why direct I/O does not work there; or, where it does, what says so (`'statx'`). */
  readonly directReason: string
  /** The alignment of positions and lengths of direct transfers, in bytes. */
  readonly offsetAlignment: number
  /** The alignment of memory addresses of direct transfers, in bytes. Writes from memory that is not on a page are copied. */
  readonly memoryAlignment: number
  /** True if writes of several processes to one file there do not lose each other's bytes. */
  readonly locks: boolean
  /** What keeps them apart, or why nothing does. */
  readonly locksReason: string
  /** The profile of the device. Once the engine has used the device: the one that it found then. */
  readonly profile: ProfileInfo
}

/** A profile, which `deepring tune` writes, and what became of it. */
export interface ProfileInfo {
  /**
   * What profiles name the device by: its model and serial number, or the UUID of the file system. Absent for a device that has
   * neither, and where no device is meant.
   */
  readonly device?: string | undefined
  /**
   * The file in which the device's profile is looked for. Where no device is meant: that of `DEEPRING_PROFILE`, or the directory
   * of all. Absent if none is looked for.
   */
  readonly path?: string | undefined
  /** Whether the search for windows began with it. Where no device is meant: whether it did at any. */
  readonly used: boolean
  /** Why it is used or not, in words that help. */
  readonly reason: string
}

/** What an engine keeps in flight at a device, as it found out. */
export interface DeviceWindow {
  /** The name of the device. */
  readonly device: string
  /** Of reads. */
  readonly read: WindowSize
  /** Of writes. */
  readonly write: WindowSize
}

/** One window. */
export interface WindowSize {
  /**
   * Bytes in flight while one file or handle has the device alone: the fewest with which it is within 2 % of its best
   * rate.
   */
  readonly bytes: number
  /** Bytes in flight while several share it: the fewest with which it is within 5 %. */
  readonly sharedBytes: number
  /** Blocks in flight of requests of at most 64 KiB. */
  readonly blocks: number
}

/**
 * Counters of an engine since its start. A request is one call; blocks are its pieces at the device.
 */
export interface Stats {
  /** Requests accepted. */
  readonly submitted: number
  /** Requests that succeeded. */
  readonly completed: number
  /** Requests that failed, without canceled ones. */
  readonly failed: number
  /** Requests that were canceled before they had finished. */
  readonly canceled: number
  /** Short transfers that were continued. */
  readonly resumed: number
  /** Transfers that were submitted again after `EINTR` or `EAGAIN`. */
  readonly retried: number
  /** Bytes copied through bounce blocks, because they were not aligned. */
  readonly bouncedBytes: number
  /** Writes that the kernel could not start without waiting: a thread of the file system carried them out. */
  readonly punted: number
  /** Files whose direct I/O was refused by a transfer, and that continued through the page cache. */
  readonly downgraded: number
  /** Blocks whose memory is never reused, because a lost ring can still write to it. */
  readonly leaked: number
  /** Bytes of that memory. */
  readonly leakedBytes: number
  /** Panics of Rust code of the program on threads of the engine. JavaScript cannot cause one. */
  readonly panics: number
  /** Bytes read for callers. */
  readonly readBytes: number
  /** Bytes written for callers. */
  readonly writtenBytes: number
  /** Blocks at the device now. */
  readonly inFlight: number
  /** The most blocks at the device at a time. */
  readonly inFlightMax: number
  /** Bytes at the device now. */
  readonly inFlightBytes: number
  /** The most bytes at the device at a time. */
  readonly inFlightBytesMax: number
  /** Requests accepted and not yet settled, in flight included. */
  readonly queued: number
  /** Pieces of engine memory in use now. */
  readonly buffers: number
  /** Bytes of engine memory in use now. */
  readonly bufferBytes: number
  /**
   * Bytes of returned engine memory that are kept for reuse. Most of them the system can take when it needs memory, and
   * then they count here without being present. `trim` gives them back.
   */
  readonly pooledBytes: number
  /** How long reads and writes took from acceptance to settlement, their time in queues included. */
  readonly latency: LatencySummary
  /** The same of each class of requests, with histograms. */
  readonly classes: Readonly<Record<Priority, ClassLatency>>
  /** What the engine keeps in flight at the devices that it has used. */
  readonly windows: readonly DeviceWindow[]
}

/** A summary of many durations, in microseconds. */
export interface LatencySummary {
  /** The number of durations. */
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

/**
 * The durations of one class of requests. The histogram has the buckets that are not empty: a duration is at most the upper end
 * of its bucket, and more than 15/16 of it.
 */
export interface ClassLatency extends LatencySummary {
  /** The sum of all, in microseconds. */
  readonly sumUs: number
  /** The upper end of each bucket, included, in microseconds; they grow. */
  readonly upToUs: readonly number[]
  /** How many durations are in each bucket. */
  readonly counts: readonly number[]
}
