/// <reference lib="es2024.sharedmemory" />
/**
 * Page-aligned memory in plain JavaScript. Direct I/O requires it, and `Buffer.alloc` does not
 * provide it.
 *
 * A growable shared buffer is its own mapping, so it starts on a page. Without an addon there is no
 * other way.
 */

/** `bytes` bytes of memory that start on a page. */
export function pageAligned(bytes: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes)
}
