/**
 * Which streams have consumed the bytes of a chunk when they call back: {@link consumesByCallback}.
 *
 * A stream that keeps a chunk would see the bytes of another one later. So these are recognized by what they are, and not by what they
 * look like: streams whose code is Node's own, or ours. Middleware that replaces `write` (compression), a subclass, a socket over another stream, or
 * a file system that is not Node's are not among them.
 */

import fs from 'node:fs'
import type { ServerResponse } from 'node:http'
import net from 'node:net'
import { Writable } from 'node:stream'
import { FileWritable } from './write-stream.ts'

/** Methods through which the bytes of a chunk go. */
const METHODS = ['write', '_write', '_writev', 'cork', 'uncork'] as const

/** Of `OutgoingMessage`. */
const RESPONSE_METHODS = ['write', '_send', '_writeRaw'] as const

/** Whether a chunk's memory is free when this stream has called back. */
export function consumesByCallback(sink: Writable): boolean {
  if (sink instanceof FileWritable) return isUnchanged(sink, FileWritable.prototype, METHODS)
  if (sink instanceof net.Socket) return isPlainSocket(sink)
  if (sink instanceof fs.WriteStream) return isUnchanged(sink, fs.WriteStream.prototype, METHODS) && writesByNode(sink)
  return isPlainResponse(sink)
}

function isPlainSocket(socket: net.Socket): boolean {
  // A TLS socket and one over another stream are of derived classes.
  return Object.getPrototypeOf(socket) === net.Socket.prototype && isUnchanged(socket, net.Socket.prototype, METHODS)
}

/** Frameworks put an object of their own between a response and its class. */
function isPlainResponse(sink: object): boolean {
  // Only a program that has loaded `node:http` has a response. To import it here would take several times as long as all of deepring.
  const http = 'writeHead' in sink ? process.getBuiltinModule('node:http') : undefined
  if (http === undefined || !(sink instanceof http.ServerResponse)) return false
  const { socket } = sink as ServerResponse
  if (socket === null || !isPlainSocket(socket)) return false
  return isUnchanged(sink, http.OutgoingMessage.prototype, RESPONSE_METHODS)
}

function isUnchanged(stream: object, prototype: object, methods: readonly string[]): boolean {
  return methods.every((name) => Reflect.get(stream, name) === Reflect.get(prototype, name))
}

/** Node's write stream keeps the file system that it writes with under a symbol of its own. */
function writesByNode(stream: fs.WriteStream): boolean {
  const symbol = Object.getOwnPropertySymbols(stream).find(({ description }) => description === 'kFs')
  return symbol !== undefined && (stream as unknown as Record<symbol, unknown>)[symbol] === fs
}
