/**
 * `deepring tune`: how much a drive needs in flight, in half a minute, written down for the engines that come later.
 *
 * ```text
 *   room ──► a file of random bytes ──► reads, then writes: search, grid, choice ──► a profile, and DeepSpeed's section `aio`
 * ```
 *
 * An engine finds the same by itself while it works; a profile spares it the first seconds. The file is read and written by
 * engines without a profile, so that a tuning does not find what the last one has said.
 */

import { accessSync, constants, mkdirSync, statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { writeFile } from '../../index.ts'
import { idleNoise, NOISE_MAX } from '../measure/meter.ts'
import { examine } from './bench/place.ts'
import { BAR, tuneDirection, type Aim, type Found } from './tune/direction.ts'
import type { TuneDocument } from './tune/document.ts'
import { openGround } from './tune/ground.ts'
import { deepSpeedAio, profileText } from './tune/profile.ts'
import type { Direction } from './tune/stream.ts'
import { Misuse, Refusal } from './failure.ts'
import type { Invocation, Options, Report } from './invocation.ts'
import type { Paint } from './screen.ts'
import { binaryText, bytesText, digits, grid, printable, quotedOf } from './text.ts'

/** The file, if nothing else is said. */
const IO_BYTES = 2 ** 30

/** The time, if nothing else is said, and its bounds: less than that measures nothing. */
const SECONDS = 30
const [SECONDS_MIN, SECONDS_MAX] = [10, 3600]

/** Of the time, what each part ends at. The rest is for what ends late. */
const ENDS = { file: 0.12, read: 0.52, write: 0.91 }

/** How long the machine is watched before. */
const NOISE_WINDOW_MS = 300

/** Finds what a device needs, and writes it down. */
export async function tune({ words: [folder = '.'], options, screen, signal }: Invocation): Promise<Report> {
  const begin = performance.now()
  const seconds = secondsOf(options)
  const aim = options.word<Aim>('for') ?? 'throughput'
  const examined = await examine(folder, options.size('io-size') ?? IO_BYTES, { files: 1, verb: 'tune', signal })
  if (examined.backend === 'node')
    throw new Refusal(`node:fs moves the bytes here (${examined.info.reason}): it has no window to tune`)
  const { profile, deviceRequests } = examined.info.path as NonNullable<typeof examined.info.path>
  const output = outputOf(options.text('output'), profile)
  if (output.path !== undefined) prepare(output.path)
  const noise = await idleNoise(NOISE_WINDOW_MS, signal)
  const notes = [...examined.notes, ...(output.why === undefined ? [] : [output.why])]
  if (noise > NOISE_MAX)
    notes.push(`other processes use ${digits(noise)} seconds of CPU per second: wait until they end`)

  const deadline = (share: number): number => begin + seconds * share * 1e3
  const clock = (): string => `${Math.round((performance.now() - begin) / 1e3)} of ${seconds} s`
  const show = (what: string): void => screen.status(`tune  ${clock()}  ${what}`)
  await using ground = await openGround(examined, deadline(ENDS.file), signal, (bytes, total) =>
    show(`writing random bytes, ${bytesText(bytes)} of ${bytesText(total)}`),
  )
  const found = {} as Record<Direction, Found>
  for (const direction of ['read', 'write'] as const) {
    // oxlint-disable-next-line no-await-in-loop -- one at a time, or they would measure each other
    found[direction] = await tuneDirection(ground, direction, {
      aim,
      seconds: Math.max(1, (deadline(ENDS[direction]) - performance.now()) / 1e3),
      depthMax: Math.max(1, Math.floor(deviceRequests / 2)),
      show: (what) => show(`${direction}s: ${what}`),
    })
  }
  const confidence = Math.min(found.read.confidence, found.write.confidence)
  const date = new Date()
  const aio = deepSpeedAio(found)
  if (output.path !== undefined) {
    const { version, kernel } = examined.info
    const text = profileText({ device: output.device, kernel, version, aim, date, confidence, tuned: found })
    await writeFile(output.path, text, { replace: true, mode: 0o600, signal })
  }
  const tookSeconds = (performance.now() - begin) / 1e3
  const data: TuneDocument = {
    folder,
    fileSystem: examined.fileSystem,
    device: examined.device,
    deviceId: profile.device ?? null,
    kernel: examined.info.kernel,
    version: examined.info.version,
    backend: examined.backend,
    direct: examined.direct,
    inMemory: examined.inMemory,
    aim,
    ioBytes: ground.bytes,
    seconds: tookSeconds,
    tunedAt: date.toISOString(),
    idleNoise: noise,
    bar: BAR,
    confidence,
    read: found.read,
    write: found.write,
    profile: output.path ?? null,
    deepSpeed: { aio },
    notes,
  }
  const head = `${printable(folder)}: ${examined.fileSystem} on ${examined.device}, ${bytesText(ground.bytes)}, ${digits(tookSeconds)} s, for ${aim}`
  const where =
    output.path === undefined
      ? []
      : [
          `profile: ${printable(output.path)}${output.isLoaded ? '' : ` (DEEPRING_PROFILE=${printable(output.path)} loads it)`}`,
        ]
  return {
    data,
    lines: [
      head,
      '',
      ...choiceLines(found, screen.paint),
      '',
      ...gridLines(found, screen.paint),
      '',
      ...where,
      `DeepSpeed: ${JSON.stringify({ aio })}`,
      ...notes,
    ],
  }
}

function secondsOf(options: Options): number {
  const seconds = options.count('seconds', SECONDS_MIN) ?? SECONDS
  if (seconds > SECONDS_MAX) throw new Misuse(`--seconds '${seconds}' is more than ${SECONDS_MAX}`)
  return seconds
}

/** Where the profile goes. */
interface Output {
  readonly path?: string
  readonly device: string
  /** Whether engines find it there by themselves. */
  readonly isLoaded: boolean
  /** Why none is written. */
  readonly why?: string
}

function outputOf(
  given: string | undefined,
  {
    device,
    path,
    reason,
  }: { readonly device?: string | undefined; readonly path?: string | undefined; readonly reason: string },
): Output {
  if (device === undefined)
    return {
      device: '',
      isLoaded: false,
      why: 'no profile is written: nothing names this device, so no engine would know it again',
    }
  if (given !== undefined) return { path: resolve(given), device, isLoaded: resolve(given) === path }
  if (path === undefined)
    return {
      device,
      isLoaded: false,
      why: `no profile is written, because none is read: ${reason}; --output FILE writes one`,
    }
  return { path, device, isLoaded: true }
}

/** Half a minute of work is not to end with a profile that cannot be written. */
function prepare(path: string): void {
  const parent = dirname(path)
  if (statSync(parent, { throwIfNoEntry: false })?.isDirectory() === false)
    throw new Refusal(`${quotedOf(parent)} is not a directory`)
  mkdirSync(parent, { recursive: true, mode: 0o700 })
  accessSync(parent, constants.W_OK)
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Refusal(`${quotedOf(path)} is a directory`)
}

function choiceLines(found: Readonly<Record<Direction, Found>>, paint: Paint): string[] {
  const head = ['', 'window', 'shared', 'block', 'small', 'GB/s', 'of best', 'confidence', 'search found']
  const rows = (['read', 'write'] as const).map((direction) => {
    const { windowBytes, sharedBytes, blockBytes, blocks, gigabytesPerSecond, shareOfBest, confidence, searched } =
      found[direction]
    return [
      direction,
      paint('bold', binaryText(windowBytes)),
      binaryText(sharedBytes),
      binaryText(blockBytes),
      String(blocks),
      digits(gigabytesPerSecond),
      digits(shareOfBest),
      `${Math.floor(confidence * 100)} %`,
      binaryText(searched.windowBytes),
    ]
  })
  return [
    ...grid([head.map((word) => paint('dim', word)), ...rows], '<>>>>>>>>'),
    '',
    `confidence: that the choice has ${BAR} of the best rate or more, by rounds in turns with the best that was measured`,
  ]
}

function gridLines(found: Readonly<Record<Direction, Found>>, paint: Paint): string[] {
  const head = ['tried', 'size', 'rate', '', 'interval', 'of best', 'rounds', '']
  const rows = (['read', 'write'] as const).flatMap((direction) => {
    const { grid: tried, windowBytes, blockBytes, blocks } = found[direction]
    const parts = [
      { what: 'window', cells: tried.windows, unit: 'GB/s', chosen: windowBytes },
      { what: 'block', cells: tried.blocks, unit: 'GB/s', chosen: blockBytes },
      { what: 'small', cells: tried.small, unit: 'k/s', chosen: blocks },
    ]
    return parts.flatMap(({ what, cells, unit, chosen }) =>
      cells.map(({ size, rate, lower, upper, share, rounds }) => {
        const by = unit === 'k/s' ? 1e3 : 1
        return [
          `${direction} ${what}`,
          what === 'small' ? String(size) : binaryText(size),
          digits(rate / by),
          unit,
          `${digits(lower / by)} to ${digits(upper / by)}`,
          digits(share),
          String(rounds),
          size === chosen ? paint('green', 'chosen') : '',
        ]
      }),
    )
  })
  return grid([head.map((word) => paint('dim', word)), ...rows], '<>><>>><')
}
