/**
 * Memory that must not be in a transfer list of `postMessage` or `structuredClone`.
 *
 * Node marks external memory itself, and since Node 21 such a transfer fails with a `DataCloneError`. Node 20 leaves
 * marked memory out of the list and **copies it silently**, gigabytes of it. So on Node 20, and only there, the one
 * function that all transfers pass through looks at the list first.
 *
 * `markAsUntransferable` is no help: Node 20 takes no notice of it in this place, and later ones can then not detach the
 * memory for its disposal either.
 */

import threads from 'node:worker_threads'

const marked = new WeakSet<ArrayBufferLike>()

const copiesMarkedMemory =
  Number(process.versions.node.split('.')[0]) <= 20 && !('Bun' in globalThis) && !('Deno' in globalThis)

/** Makes transfers of external memory fail. Clones, which copy it, are allowed: they say so. */
export function refuseTransfers(memory: ArrayBuffer): void {
  if (!copiesMarkedMemory) return
  marked.add(memory)
  watchTransfers()
}

let watching = false

/** `structuredClone` and `Worker` use `MessagePort.prototype.postMessage`, too. */
function watchTransfers(): void {
  if (watching) return
  watching = true
  const { prototype } = threads.MessagePort
  const { postMessage } = prototype
  const value = function (this: unknown, ...parameters: unknown[]): void {
    const [, second] = parameters
    const list = Array.isArray(second) ? second : (second as { transfer?: unknown } | null | undefined)?.transfer
    if (Array.isArray(list) && list.some((entry) => marked.has(entry as ArrayBuffer))) {
      throw new DOMException('Engine memory of deepring cannot be transferred, only copied', 'DataCloneError')
    }
    Reflect.apply(postMessage, this, parameters)
  }
  Object.defineProperty(prototype, 'postMessage', { value, configurable: true, writable: true })
}
