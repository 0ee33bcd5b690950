/** Opens what it is sent, reads into the memory that it is sent, writes behind it, and closes the file. */

import { parentPort, workerData } from 'node:worker_threads'
import { Engine, FileHandle, type SharedFile } from '../../index.ts'

const { token, memory, position } = workerData as { token: SharedFile; memory: Uint8Array; position: number }
const file = FileHandle.from(token)
const { receipt } = await file.read(memory, { position, exact: true })
await file.write(Buffer.from(`worker ${position}\n`), { position: 1_000_000 + position })
const { ino } = await file.stat({ bigint: true })
const { fd } = file
const isDefault = file.engine === Engine.default
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
parentPort?.postMessage({ fd, ino, receipt, isDefault, path: file.path, again: file.share().token === token.token })
// The thread that has sent it closes the file meanwhile.
await new Promise((resolve) => void parentPort?.once('message', resolve))
await file.write(Buffer.from('last'), { position: 2_000_000 })
await file.close()
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a worker is no window
parentPort?.postMessage('closed')
