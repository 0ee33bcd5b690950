/** `deepring info`. */

import type { Info, PathInfo } from '../../index.ts'
// Of the public API only what it needs: every module takes time at the start.
import { Engine } from '../engine/engine.ts'
import type { Invocation, Report } from './invocation.ts'
import { containerOf, deviceFacts, type Container } from './machine.ts'
import type { Paint } from './screen.ts'
import { bytesText, countText, digits, grid, printable } from './text.ts'

type Row = readonly [what: string, value: string]

/** What moves the bytes at a path, and why. */
export async function info({ words, screen, signal }: Invocation): Promise<Report> {
  const path = words[0] ?? '.'
  const found = await Engine.default.info(path, { signal })
  const container = containerOf()
  const queue = deviceFacts(path)
  const { paint } = screen
  const rows = [...engineRows(found, paint), ...containerRows(found, container)]
  if (found.path !== undefined) rows.push(['', ''], ...pathRows(found.path, queue, paint))
  return { data: { ...found, container, deviceQueue: queue }, lines: grid(rows, '<<') }
}

function* engineRows(found: Info, paint: Paint): Generator<Row> {
  const { version, backend, reason, kernel, flags, ringEntries, queueDepth, blockSize, inFlightBytes, window } = found
  yield ['deepring', version]
  yield ['backend', `${paint(backend === 'uring' ? 'green' : 'yellow', backend)} (${reason})`]
  yield ['kernel', kernel]
  if (backend === 'uring') yield ['ring', `${ringEntries} entries, ${flags.join(' ')}`]
  else yield ['threads', `${found.threads} for each file system`]
  yield [
    'limits',
    `${queueDepth} blocks of ${bytesText(blockSize)}, ${bytesText(inFlightBytes)} in flight for each device`,
  ]
  yield ['window', window === 'auto' ? 'found by the engine' : 'fixed']
  yield ['huge pages', found.hugePages === 'never' ? paint('yellow', 'never') : found.hugePages]
}

function* containerRows({ memlockBytes }: Info, { seccomp, memoryMaxBytes, cpus, io }: Container): Generator<Row> {
  yield ['locked memory', memlockBytes < 0 ? 'no limit' : `${bytesText(memlockBytes)} at most`]
  yield ['seccomp', seccomp ?? 'unknown']
  const cgroup = [
    memoryMaxBytes === undefined ? '' : `${bytesText(memoryMaxBytes)} of memory`,
    cpus === undefined ? '' : `${digits(cpus)} processors`,
    io === undefined ? '' : `I/O ${io.join('; ')}`,
  ].filter((limit) => limit !== '')
  yield ['cgroup', cgroup.length === 0 ? 'no limit' : cgroup.join(', ')]
}

function* pathRows(place: PathInfo, queue: Readonly<Record<string, string>>, paint: Paint): Generator<Row> {
  const { path, fileSystem, direct, directReason, offsetAlignment, memoryAlignment, locks, locksReason, window } = place
  yield ['path', printable(path)]
  yield ['file system', fileSystem]
  yield ['device', [place.device, queue['model'] ?? ''].join(' ').trim()]
  yield [
    'direct I/O',
    direct ? `${paint('green', 'yes')} (${directReason})` : `${paint('yellow', 'no')} (${directReason})`,
  ]
  yield ['alignment', `${countText(offsetAlignment, 'byte')} in the file, ${memoryAlignment} in memory`]
  yield ['locks', `${locks ? 'yes' : paint('yellow', 'no')} (${locksReason})`]
  yield ['queue', `${place.deviceRequests} requests; ${place.queueDepth} blocks of this engine at most`]
  const { scheduler, largestRequestKiB, rotational } = queue
  if (scheduler !== undefined) yield ['scheduler', scheduler]
  if (largestRequestKiB !== undefined) yield ['largest request', `${largestRequestKiB} KiB`]
  if (rotational === '1') yield ['rotational', paint('yellow', 'yes')]
  for (const direction of ['read', 'write'] as const) {
    const { bytes, sharedBytes, blocks } = window[direction]
    yield [`${direction} window`, `${bytesText(bytes)} alone, ${bytesText(sharedBytes)} shared, ${blocks} small blocks`]
  }
}
