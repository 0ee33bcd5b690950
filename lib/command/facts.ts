/** A machine in rows of two words each, for a terminal and for a page: {@link factsOf}. */

import type { Info, PathInfo } from '../engine/info.ts'
import type { Container, Host, Machine } from './machine.ts'
import type { Paint } from './screen.ts'
import { bytesText, countText, digits, printable } from './text.ts'

/** What it is, and its value. */
export type Fact = readonly [what: string, value: string]

/** Rows that belong together. */
export interface Facts {
  readonly about: string
  readonly rows: readonly Fact[]
}

/** All of them. */
export function factsOf(machine: Machine, paint: Paint): Facts[] {
  const { container, deviceQueue, host, path } = machine
  return [
    { about: 'Engine', rows: [...engineRows(machine, paint)] },
    { about: 'Machine', rows: [...hostRows(host), ...containerRows(machine, container)] },
    ...(path === undefined ? [] : [{ about: 'Path', rows: [...pathRows(path, deviceQueue, paint)] }]),
  ]
}

function* engineRows(found: Info, paint: Paint): Generator<Fact> {
  const { version, libc, backend, reason, kernel, flags, ringEntries, queueDepth, blockSize, inFlightBytes, window } =
    found
  yield ['deepring', libc === null ? version : `${version} for ${libc}`]
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

function* hostRows({ processor, processors, memoryBytes, node, platform, architecture }: Host): Generator<Fact> {
  yield ['processors', processor === undefined ? String(processors) : `${processors} (${printable(processor)})`]
  yield ['memory', bytesText(memoryBytes)]
  yield ['Node', `${node}, ${platform} on ${architecture}`]
}

function* containerRows({ memlockBytes }: Info, { seccomp, memoryMaxBytes, cpus, io }: Container): Generator<Fact> {
  yield ['locked memory', memlockBytes < 0 ? 'no limit' : `${bytesText(memlockBytes)} at most`]
  yield ['seccomp', seccomp ?? 'unknown']
  const cgroup = [
    memoryMaxBytes === undefined ? '' : `${bytesText(memoryMaxBytes)} of memory`,
    cpus === undefined ? '' : `${digits(cpus)} processors`,
    io === undefined ? '' : `I/O ${io.join('; ')}`,
  ].filter((limit) => limit !== '')
  yield ['cgroup', cgroup.length === 0 ? 'no limit' : cgroup.join(', ')]
}

function* pathRows(place: PathInfo, queue: Readonly<Record<string, string>>, paint: Paint): Generator<Fact> {
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
  const { profile } = place
  yield ['profile', `${profile.used ? paint('green', 'used') : 'not used'} (${printable(profile.reason)})`]
  if (profile.path !== undefined) yield ['profile file', printable(profile.path)]
}
