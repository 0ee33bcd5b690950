// smoke.mjs in a worker.

import process from 'node:process'
import { Worker } from 'node:worker_threads'

const worker = new Worker(new URL('smoke.mjs', import.meta.url), { argv: process.argv.slice(2) })
worker.on('error', (error) => {
  throw error
})
