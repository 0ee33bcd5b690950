'use strict'

// The loader of the native binding: what `#native` in package.json stands for.
//
// It is lazy. Importing deepring runs this file but loads no binary; `load()` does, at the first use. So importing never throws,
// on any platform, and a program that only wants the types or the errors needs no binary at all.
//
// The contract with lib/core/native.ts (types in native.d.cts):
//
//   load()    gives the binding, the same object every time, or throws an Error with `code: 'ERR_DEEPRING_LOAD'`, `triple` (the
//             platform as the napi CLI names it, e.g. 'linux-x64-gnu') and `attempts`, in the order they were made:
//             [{ candidate, kind, cause }], where `candidate` is the path or package, `kind` is 'override', 'checkout' or 'package',
//             and `cause` is the Error that ended the attempt. A failed load is tried anew at the next call.
//
// Where it looks:
//
//   1. DEEPRING_NATIVE_PATH, the path of a .node file. If it is set, nothing else is tried: an override that fails must not be
//      papered over by some other binary.
//   2. deepring.<triple>.node beside this file: a checkout after `npm run build:native`.
//   3. The package deepring-<triple>, of exactly this version: what npm installs. Another version would speak another protocol.

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
  const { version: wanted } = require('./package.json')
  const { version: found } = require(`${name}/package.json`)
  if (found !== wanted)
    throw new Error(`${name} is version ${found}, but deepring is version ${wanted}; install both at one version`)
  return require(name)
}

// The C library is told by the dynamic linker that the running executable names in its ELF header, which stands within the first
// kilobytes. Asking `process.report` instead would take milliseconds, and reading /usr/bin/ldd errs in mixed images.
function platformTriple() {
  const base = `${process.platform}-${process.arch}`
  if (process.platform !== 'linux') return base
  const head = Buffer.alloc(4096)
  try {
    const executable = openSync(process.execPath, 'r')
    readSync(executable, head, 0, head.length, 0)
    closeSync(executable)
  } catch {
    // An unreadable executable leaves the guess at glibc; the attempts then say what came of it.
  }
  return `${base}-${head.includes('/ld-musl-') ? 'musl' : 'gnu'}`
}
