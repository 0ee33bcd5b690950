/**
 * Memory that must not be in a transfer list of `postMessage` or `structuredClone`.
 *
 * Node marks external memory itself, and since Node 21 such a transfer fails with a `DataCloneError`. Node 20 leaves
 * marked memory out of the list and **copies it silently**, gigabytes of it. So on Node 20, and only there, the two
 * functions that all transfers pass through look at the list first.
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

/** `Worker` uses `MessagePort.prototype.postMessage`, too. */
function watchTransfers(): void {
  if (watching) return
  watching = true
  guard(threads.MessagePort.prototype, 'postMessage')
  guard(globalThis, 'structuredClone')
}

/** Replaces a function by one that looks at its transfer list first: an array, or in an object as `transfer`. */
function guard<K extends string>(owner: { [name in K]: (...parameters: never[]) => unknown }, name: K): void {
  const original = owner[name]
  const value = function (this: unknown, ...parameters: unknown[]): unknown {
    const [, second] = parameters
    const list = Array.isArray(second) ? second : (second as { transfer?: unknown } | null | undefined)?.transfer
    if (Array.isArray(list) && list.some((entry) => marked.has(entry as ArrayBuffer))) {
      throw new DOMException('Engine memory of deepring cannot be transferred, only copied', 'DataCloneError')
    }
    return Reflect.apply(original, this, parameters)
  }
  Object.defineProperty(value, 'name', { value: name })
  Object.defineProperty(owner, name, { value, configurable: true, writable: true, enumerable: true })
}
