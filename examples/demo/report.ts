/** The final output of the demo: the table of the comparison, and the path of the bytes. */

import { CONTENDERS, type Comparison } from './comparison.ts'
import { formatSize, gigabytesPerSecond } from './size.ts'
import type { PathTaken } from './swap.ts'
import { formatTable } from './table.ts'

/** One row per contender. A contender that failed keeps its row: its limit is a result too. */
export function formatComparison({ results, warmBecause }: Comparison, bytes: number): string {
  const rows = CONTENDERS.map(({ name, kind, title, reference }) => {
    const result = results.find((candidate) => candidate.name === name)
    const cost = result?.median
    const label = `${kind}   ${title}`
    if (!cost) return [label, 'failed', '', '', '']
    return [
      label,
      gigabytesPerSecond(bytes, cost.seconds).toFixed(2),
      (cost.cpuSeconds / (bytes / 1e9)).toFixed(3),
      formatSize(cost.peakBytes),
      reference ? '' : `${cost.loopP99Ms.toFixed(1)} ms`,
    ]
  })
  const rounds = Math.max(...results.map((result) => result.rounds.length))
  const cold =
    warmBecause === undefined ? 'page cache dropped before each load' : `buffered reads are WARM: ${warmBecause}`
  const failures = results.flatMap(({ name, failure }) => (failure === undefined ? [] : [`${name} failed: ${failure}`]))
  return [
    formatTable(
      [`${formatSize(bytes)}, median of ${rounds}`, 'GB/s', 'CPU s/GB', 'peak memory', 'loop delay p99'],
      rows,
    ),
    `Memory is allocated inside the timed region unless reused, saves end with fsync; ${cold}.`,
    'What is only mapped stays in the page cache, and cannot be written to.',
    ...failures,
  ].join('\n')
}

export function formatTaken(taken: PathTaken): string {
  const way = taken.direct ? 'direct' : 'buffered'
  const place = [taken.fileSystem, taken.device].filter((name) => name !== '').join(' on ')
  const limits = `queue depth ${taken.queueDepth}, blocks of ${formatSize(taken.blockBytes)}, at most ${formatSize(taken.inFlightBytes)} in flight`
  const lines = [
    `path that ran: ${taken.backend}, ${way}, ${limits}`,
    `  file system  ${place}; direct transfers are aligned to ${taken.offsetAlignment} in the file, ${taken.memoryAlignment} in memory`,
    `  ${taken.backend.padEnd(11)}  ${taken.backendReason}`,
    `  load         ${formatSize(taken.bouncedBytes)} of it copied on the way, ${taken.realignedTensors} tensors moved to suit their type`,
  ]
  if (!taken.direct) lines.push(`  buffered     ${taken.directReason}`)
  return lines.join('\n')
}
