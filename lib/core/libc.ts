/** What a binary needs of the C library, and which one a process has: read from what the dynamic linker reads, too. */

import { Buffer } from 'node:buffer'
import { closeSync, openSync, readSync } from 'node:fs'

/** Fields of an ELF file for 64-bit processors with little-endian numbers: their places in it. */
const SECTIONS_AT = 0x28
const SECTION_BYTES_AT = 0x3a
const SECTION_COUNT_AT = 0x3c

const PROGRAM_HEADERS_AT = 0x20
const PROGRAM_HEADER_BYTES_AT = 0x36
const PROGRAM_HEADER_COUNT_AT = 0x38

/** How such a file begins. */
const ELF64_LITTLE_ENDIAN = Buffer.from([0x7f, 0x45, 0x4c, 0x46, 2, 1])

/** Fields of a program header: their places in it. Its type is in its first bytes. */
const SEGMENT_OFFSET_AT = 0x08
const SEGMENT_SIZE_AT = 0x20

/** The type of the program header of the dynamic linker's path. */
const INTERPRETER = 3

/** Linux takes no longer path. */
const PATH_BYTES_MAX = 4096

/** Fields of the header of a section: their places in it. */
const TYPE_AT = 0x04
const OFFSET_AT = 0x18
const SIZE_AT = 0x20
const LINK_AT = 0x28

/** The type of the section with the symbols that are looked up in other libraries; it links to the section of their names. */
const DYNAMIC_SYMBOLS = 11

/** The newest version of glibc that a binary needs, such as `2.17`; `undefined` if it needs none, or cannot be read. */
export function glibcOf(file: string): string | undefined {
  const minors = Array.from((namesOf(file) ?? '').matchAll(/\bGLIBC_2\.(\d+)/g), ([, minor]) => Number(minor))
  return minors.length === 0 ? undefined : `2.${Math.max(...minors)}`
}

/** `glibc` and the version that a binary needs, or `musl`; `null` if it cannot be read. */
export function libcOf(file: string): string | null {
  const names = namesOf(file)
  if (names === undefined) return null
  const version = glibcOf(file)
  if (version !== undefined) return `glibc ${version}`
  return names.includes('libc.so\0') ? 'musl' : null
}

/**
 * The path of the dynamic linker that an executable names, and so the C library of its process; `undefined` if it names none, or
 * cannot be read. It can be anywhere in the file: patchelf puts a path that is longer than the old one at the end.
 */
export function dynamicLinkerOf(executable: string): string | undefined {
  try {
    const descriptor = openSync(executable, 'r')
    try {
      const header = bytesOf(descriptor, 0, 64)
      if (!header.subarray(0, ELF64_LITTLE_ENDIAN.length).equals(ELF64_LITTLE_ENDIAN)) return undefined
      const size = header.readUInt16LE(PROGRAM_HEADER_BYTES_AT)
      const count = header.readUInt16LE(PROGRAM_HEADER_COUNT_AT)
      const segments = bytesOf(descriptor, Number(header.readBigUInt64LE(PROGRAM_HEADERS_AT)), size * count)
      for (let at = 0; at < segments.length; at += size) {
        if (segments.readUInt32LE(at) !== INTERPRETER) continue
        const bytes = Math.min(Number(segments.readBigUInt64LE(at + SEGMENT_SIZE_AT)), PATH_BYTES_MAX)
        const path = bytesOf(descriptor, Number(segments.readBigUInt64LE(at + SEGMENT_OFFSET_AT)), bytes)
        return path.toString('latin1').split('\0')[0]
      }
    } finally {
      closeSync(descriptor)
    }
  } catch {
    // No such file, or no permission to read it.
  }
  return undefined
}

/** The names of the libraries, symbols and versions that a binary needs, each with a zero behind it. */
function namesOf(file: string): string | undefined {
  try {
    const descriptor = openSync(file, 'r')
    try {
      const header = bytesOf(descriptor, 0, 64)
      const size = header.readUInt16LE(SECTION_BYTES_AT)
      const count = header.readUInt16LE(SECTION_COUNT_AT)
      const sections = bytesOf(descriptor, Number(header.readBigUInt64LE(SECTIONS_AT)), size * count)
      for (let at = 0; at < sections.length; at += size) {
        if (sections.readUInt32LE(at + TYPE_AT) !== DYNAMIC_SYMBOLS) continue
        const names = sections.readUInt32LE(at + LINK_AT) * size
        const offset = Number(sections.readBigUInt64LE(names + OFFSET_AT))
        return bytesOf(descriptor, offset, Number(sections.readBigUInt64LE(names + SIZE_AT))).toString('latin1')
      }
    } finally {
      closeSync(descriptor)
    }
  } catch {
    // No such file, no permission to read it, or another kind of file.
  }
  return undefined
}

function bytesOf(descriptor: number, position: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes)
  const done = readSync(descriptor, buffer, 0, bytes, position)
  return buffer.subarray(0, done)
}
