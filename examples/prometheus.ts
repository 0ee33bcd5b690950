/**
 * Serves the counters and latencies of deepring as metrics of Prometheus.
 *
 *   node examples/prometheus.ts                reads a little, asks itself for the metrics, and checks them
 *   node examples/prometheus.ts PORT           serves them at /metrics until it is stopped
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import is
 * `from 'deepring'`, and the process that serves is the one that works.
 *
 * Buckets of a histogram must be the same at each scrape. So the fine buckets of `stats()` are added up into powers of two.
 */

import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import process from 'node:process'
import { open, stats, writeFile, type ClassLatency } from '../index.ts'

/** 16 us to 33 s. */
const BOUNDS_US = Array.from({ length: 22 }, (_, power) => 16 * 2 ** power)

const COUNTERS = [
  'submitted',
  'completed',
  'failed',
  'canceled',
  'readBytes',
  'writtenBytes',
  'bouncedBytes',
  'punted',
] as const
const GAUGES = ['queued', 'inFlight', 'inFlightBytes', 'bufferBytes', 'pooledBytes'] as const

/** `readBytes` as `deepring_read_bytes`. */
function named(name: string): string {
  return `deepring_${name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`
}

function* histogram(name: string, { upToUs, counts, sumUs, count }: ClassLatency): Generator<string> {
  let [bucket, sum] = [0, 0]
  for (const bound of BOUNDS_US) {
    // A fine bucket counts where it ends.
    while (bucket < upToUs.length && (upToUs[bucket] as number) <= bound) sum += counts[bucket++] as number
    yield `deepring_latency_seconds_bucket{class="${name}",le="${bound / 1e6}"} ${sum}`
  }
  yield `deepring_latency_seconds_bucket{class="${name}",le="+Inf"} ${count}`
  yield `deepring_latency_seconds_sum{class="${name}"} ${sumUs / 1e6}`
  yield `deepring_latency_seconds_count{class="${name}"} ${count}`
}

function metrics(): string {
  const now = stats()
  const counters = COUNTERS.flatMap((name) => [
    `# TYPE ${named(name)}_total counter`,
    `${named(name)}_total ${now[name]}`,
  ])
  const gauges = GAUGES.flatMap((name) => [`# TYPE ${named(name)} gauge`, `${named(name)} ${now[name]}`])
  const latencies = Object.entries(now.classes).flatMap(([name, latency]) => Array.from(histogram(name, latency)))
  return `${[...counters, ...gauges, '# TYPE deepring_latency_seconds histogram', ...latencies].join('\n')}\n`
}

const server = createServer((request, response) => {
  if (request.url !== '/metrics') {
    response.writeHead(404).end()
    return
  }
  response.setHeader('Content-Type', 'text/plain; version=0.0.4').end(metrics())
})

/** Reads a sample with two classes of requests. */
async function work(path: string): Promise<void> {
  await writeFile(path, new Uint8Array(1 << 20))
  await using file = await open(path)
  const positions = Array.from({ length: 100 }, (_, index) => index * 4096)
  await Promise.all(positions.map((position) => file.read(new Uint8Array(4096), { position, priority: 'latency' })))
  await file.read(new Uint8Array(1 << 20), { position: 0 })
}

const [port] = process.argv.slice(2)
await new Promise<void>((resolve) => void server.listen(Number(port ?? 0), resolve))
const { port: taken } = server.address() as AddressInfo
console.log(`http://localhost:${taken}/metrics`)
if (port === undefined) {
  const directory = await mkdtemp(join(process.cwd(), 'prometheus-'))
  try {
    await work(join(directory, 'sample.bin'))
    const text = await (await fetch(`http://localhost:${taken}/metrics`)).text()
    const wanted = [
      /^deepring_latency_seconds_count\{class="latency"\} 100$/m,
      /^deepring_latency_seconds_bucket\{class="latency",le="\+Inf"\} 100$/m,
      /^deepring_read_bytes_total \d{7,}$/m,
    ]
    const right = wanted.every((line) => line.test(text))
    console.log(right ? `${text.split('\n').length - 1} lines of metrics: they count what was read` : `WRONG:\n${text}`)
    if (!right) process.exitCode = 1
  } finally {
    await rm(directory, { recursive: true })
    server.close()
    server.closeAllConnections()
  }
}
