/// <reference lib="es2024.sharedmemory" />
/**
 * Page-aligned memory in plain JavaScript, which direct I/O wants and `Buffer.alloc` does not give.
 *
 * A shared buffer that may grow is a mapping of its own, and so starts on a page. There is no other way without an addon.
 */

/** `bytes` bytes that start on a page. */
export function pageAligned(bytes: number): Uint8Array<SharedArrayBuffer> {
  return new Uint8Array(new SharedArrayBuffer(bytes, { maxByteLength: bytes }), 0, bytes)
}
