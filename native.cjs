'use strict'

// The loader of the native binding, which `#native` in package.json names.
//
// It is lazy. Importing deepring runs this file but loads no binary; `load()` does, at the first use. So importing never
// throws, on any platform, and a program that uses only the types or the errors needs no binary.
//
// The contract with lib/core/native.ts (types in native.d.cts):
//
//   load()    returns the binding, the same object every time. If it cannot, it throws an Error with `code:
//             'ERR_DEEPRING_LOAD'`, `triple` (the platform as the napi CLI names it, e.g. 'linux-x64-gnu') and
//             `attempts`, in the order they were made: [{ candidate, kind, cause }]. `candidate` is the path or package,
//             `kind` is 'override', 'checkout' or 'package', and `cause` is the Error that ended the attempt. After a
//             failure, the next call tries again.
//
// Where it looks:
//
//   1. DEEPRING_NATIVE_PATH, the path of a .node file. If it is set, nothing else is tried: a failed override must not
//      be hidden by another binary.
//   2. deepring.<triple>.node beside this file: a checkout after `npm run build:native`.
//   3. The package deepring-<triple>, of exactly this version: what npm installs. Other versions have other protocols.

const { closeSync, openSync, readSync } = require('node:fs')
const { join, resolve } = require('node:path')

let binding

exports.load = function load() {
  if (binding) return binding
  const triple = platformTriple()
  const attempts = []
  for (const { kind, candidate, open } of candidates(triple)) {
    try {
      return (binding = open())
    } catch (cause) {
      attempts.push({ candidate, kind, cause })
    }
  }
  const message = `No native binding for ${triple} could be loaded; tried ${attempts.map((a) => a.candidate).join(', ')}`
  throw Object.assign(new Error(message), { code: 'ERR_DEEPRING_LOAD', triple, attempts })
}

function candidates(triple) {
  const override = process.env.DEEPRING_NATIVE_PATH
  if (override) return [{ kind: 'override', candidate: override, open: () => require(resolve(override)) }]
  const local = join(__dirname, `deepring.${triple}.node`)
  const name = `deepring-${triple}`
  return [
    { kind: 'checkout', candidate: local, open: () => require(local) },
    { kind: 'package', candidate: name, open: () => requireSameVersion(name) },
  ]
}

function requireSameVersion(name) {
  const { version: expected } = require('./package.json')
  const { version: found } = require(`${name}/package.json`)
  if (found !== expected)
    throw new Error(`${name} is version ${found}, but deepring is version ${expected}; install both at one version`)
  return require(name)
}

// The executable's ELF header names its dynamic linker, and so the C library, within the first kilobytes.
// `process.report` would take milliseconds, and reading /usr/bin/ldd errs in mixed images.
function platformTriple() {
  const base = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux') return base
  const head = Buffer.alloc(4096)
  try {
    const executable = openSync(process.execPath, 'r')
    readSync(executable, head, 0, head.length, 0)
    closeSync(executable)
  } catch {
    // If the executable cannot be read, glibc is assumed; the attempts report how that ended.
  }
  return `${base}-${head.includes('/ld-musl-') ? 'musl' : 'gnu'}`
}
