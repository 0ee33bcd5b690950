/** A machine in words, and in full. */

import { factsOf } from '../facts.ts'
import type { Machine } from '../machine.ts'
import { bytesText, countText } from '../text.ts'
import { html, type Html } from './html.ts'
import { factsTable } from './parts.ts'

/** How a backend moves bytes. */
const BACKENDS: Readonly<Record<Machine['backend'], string>> = {
  uring: 'io_uring',
  threads: 'threads that block',
  node: 'node:fs',
}

/** Two or three sentences. */
export function machineWords(machine: Machine): string {
  const { host, kernel, version, backend, reason, path, deviceQueue, container } = machine
  const processors =
    countText(host.processors, 'processor') + (host.processor === undefined ? '' : ` (${host.processor})`)
  const sentences = [
    `${processors} and ${bytesText(host.memoryBytes)} of memory under ${systemOf(host.platform)} ${kernel}.`,
  ]
  const how = BACKENDS[backend] + (backend === 'uring' ? '' : ` (${reason})`)
  if (path === undefined) sentences.push(`deepring ${version} moves the bytes with ${how}.`)
  else {
    const cache = path.direct ? 'past the page cache' : `through the page cache (${path.directReason})`
    const model = deviceQueue['model'] === undefined ? '' : ` (${deviceQueue['model']})`
    sentences.push(
      `deepring ${version} moves the bytes with ${how}, ${cache}, on ${path.fileSystem} on ${path.device}${model}${queueWords(machine)}.`,
    )
  }
  const limits = [
    container.seccomp === 'filter' ? 'a seccomp filter' : '',
    container.memoryMaxBytes === undefined ? '' : `${bytesText(container.memoryMaxBytes)} of memory`,
    container.cpus === undefined ? '' : countText(container.cpus, 'processor'),
    container.io === undefined ? '' : `a limit on I/O (${container.io.join('; ')})`,
  ].filter((limit) => limit !== '')
  if (limits.length > 0) sentences.push(`The process is confined to ${limits.join(', ')}.`)
  return sentences.join(' ')
}

function systemOf(platform: string): string {
  return { linux: 'Linux', darwin: 'macOS', win32: 'Windows', freebsd: 'FreeBSD' }[platform] ?? platform
}

function queueWords({ deviceQueue: { requests, largestRequestKiB, scheduler } }: Machine): string {
  if (requests === undefined) return ''
  const size = largestRequestKiB === undefined ? '' : ` of at most ${largestRequestKiB} KiB`
  const chosen = scheduler === undefined ? undefined : (/\[(.+)\]/.exec(scheduler)?.[1] ?? scheduler)
  return `, whose queue holds ${requests} requests${size}${chosen === undefined ? '' : ` (scheduler: ${chosen})`}`
}

/** All that `deepring info` prints. */
export function machineInFull(machine: Machine): Html {
  return html`${factsOf(machine, (_style, text) => text).map(
    ({ about, rows }) =>
      html`<h3>${about}</h3>
        ${factsTable(rows)} `,
  )}`
}
