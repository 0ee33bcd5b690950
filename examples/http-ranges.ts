/**
 * An HTTP server for large files, with ranges: what a browser, a video player or a loader of weights asks for.
 *
 *   node examples/http-ranges.ts               a 64 MiB sample that it creates, downloads in parts and removes
 *   node examples/http-ranges.ts FOLDER        serves a folder on port 8080
 *
 * Run it in a checkout after `npm run build:native`, with Node 24 or newer (`await using`). In your own project the import is
 * `from 'deepring'`.
 *
 * The response gets each chunk on loan: its memory is read into again when the kernel has the bytes. A client that goes away
 * in the middle ends the pipe, and the file is closed.
 */

import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join, normalize } from 'node:path'
import process from 'node:process'
import { hashFile, open, writeFile } from '../index.ts'

const SAMPLE_BYTES = 64 << 20

let sentBytes = 0
let goneClients = 0

/** The bytes that `Range: bytes=first-last` means, or null if there are none. */
function rangeOf(header: string, size: number): { start: number; end: number } | null {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header) ?? []
  if (first === '' && last === '') return null
  const start = first === '' ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === '' || last === '' ? size - 1 : Math.min(Number(last), size - 1)
  return start <= end ? { start, end } : null
}

async function answer(folder: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost')
  await using file = await open(join(folder, normalize(decodeURIComponent(pathname))))
  const { size } = await file.stat()
  response.setHeader('Accept-Ranges', 'bytes')
  const { range } = request.headers
  const part = range === undefined ? { start: 0, end: size - 1 } : rangeOf(range, size)
  if (part === null) {
    response.writeHead(416, { 'Content-Range': `bytes */${size}` }).end()
    return
  }
  const { start, end } = part
  const length = { 'Content-Length': end - start + 1 }
  if (range === undefined) response.writeHead(200, length)
  else response.writeHead(206, { ...length, 'Content-Range': `bytes ${start}-${end}/${size}` })
  const { bytes } = await file.pipeTo(response, { start, end })
  sentBytes += bytes
}

function serve(folder: string): ReturnType<typeof createServer> {
  return createServer((request, response) => {
    answer(folder, request, response).catch((error: { code?: string }) => {
      if (response.headersSent) goneClients += 1
      else response.writeHead(error.code === 'ENOENT' ? 404 : 500).end()
    })
  })
}

/** Downloads a file in four parts at a time, as a loader does, and begins one that it gives up. */
async function download(url: string): Promise<Uint8Array> {
  const given = new AbortController()
  const started = await fetch(url, { signal: given.signal })
  await started.body?.getReader().read()
  given.abort()
  const size = Number(started.headers.get('content-length'))
  const length = Math.ceil(size / 4)
  const parts = Array.from({ length: 4 }, async (_, nth) => {
    const headers = { range: `bytes=${nth * length}-${(nth + 1) * length - 1}` }
    const response = await fetch(url, { headers })
    return Buffer.from(await response.arrayBuffer())
  })
  return Buffer.concat(await Promise.all(parts))
}

const [folder] = process.argv.slice(2)
if (folder !== undefined) {
  serve(folder).listen(8080, () => console.log(`serving ${folder} on http://localhost:8080/`))
} else {
  // Not in the system's temporary directory, which is often memory. Direct I/O needs a drive.
  const directory = await mkdtemp(join(process.cwd(), 'http-'))
  const server = serve(directory)
  try {
    const path = join(directory, 'sample.bin')
    await writeFile(
      path,
      new Uint32Array(SAMPLE_BYTES / 4).map((_, index) => Math.imul(index, 2_654_435_761)),
    )
    await new Promise<void>((resolve) => void server.listen(0, resolve))
    const bytes = await download(`http://localhost:${(server.address() as AddressInfo).port}/sample.bin`)
    const same = createHash('sha256').update(bytes).digest('hex') === (await hashFile(path, 'sha256'))
    console.log(
      `sent ${sentBytes} bytes in parts, ${goneClients} client went away: ${same ? 'every byte is right' : 'WRONG'}`,
    )
    if (!same) process.exitCode = 1
  } finally {
    server.close()
    server.closeAllConnections()
    await rm(directory, { recursive: true })
  }
}
