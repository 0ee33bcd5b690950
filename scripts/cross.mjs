// Compiles for every platform that has a binary, on this machine: scripts/binaries.mjs, and what tests need there.
//
// cargo-zigbuild links, because zig has every C library: glibc with only the symbols of 2.17, and musl. zig and cargo-zigbuild are
// Python packages, which are installed once into target/zig.
//
// The standard library for a target is that of the Rust toolchain here (`rustup target add TARGET`). If it has none, as where
// rustup's server cannot be reached, Debian's compiler builds it from source; its packages are unpacked into target/debian.

import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { basename, delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { unpack } from './debian.mjs'
import { pathMappings } from './mappings.mjs'
import { pythonPrograms } from './python.mjs'

const root = join(import.meta.dirname, '..')

/** Apart from what cargo builds for this machine: with another linker, cargo would build all of it anew each time. */
const built = join(root, 'target', 'cross')

/** The platforms. A binary for glibc works with 2.17 and newer ones. */
export const TARGETS = {
  'linux-x64-gnu': { target: 'x86_64-unknown-linux-gnu', floor: '.2.17' },
  'linux-arm64-gnu': { target: 'aarch64-unknown-linux-gnu', floor: '.2.17' },
  'linux-x64-musl': { target: 'x86_64-unknown-linux-musl', floor: '' },
  'linux-arm64-musl': { target: 'aarch64-unknown-linux-musl', floor: '' },
}

/** The C library that tests are linked with: a standard library that was built here wants `gettid`, which came with 2.30. */
const TESTS_FLOOR = '.2.31'

const PYTHON_PACKAGES = ['ziglang==0.17.1', 'cargo-zigbuild==0.24.0']

/** Builds the binaries of some platforms into target/binaries. */
export function build(triples) {
  for (const [index, triple] of triples.entries()) {
    const started = performance.now()
    say(`building ${triple}, ${index + 1} of ${triples.length}`)
    // A musl addon is loaded by a dynamic Node, so its C library must be the process's own.
    const flags = triple.endsWith('musl') ? ['-Ctarget-feature=-crt-static'] : []
    crossCargo(triple, ['--release', '-p', 'deepring-node'], { flags })
    const file = join(root, 'target', 'binaries', `deepring.${triple}.node`)
    mkdirSync(join(root, 'target', 'binaries'), { recursive: true })
    // A new file, not new content: a process may have the old one loaded.
    rmSync(file, { force: true })
    copyFileSync(join(built, TARGETS[triple].target, 'release', 'libdeepring_node.so'), file)
    const seconds = Math.round((performance.now() - started) / 1000)
    say(`${triple}  ${(statSync(file).size / 1e6).toFixed(2)} MB, ${seconds} s`)
  }
}

/**
 * Runs `cargo build` with these parameters for a platform, and returns what cargo prints. `std` are the crates of the standard
 * library, where it has to be built. `floor` is the oldest glibc that the result runs with.
 */
function crossCargo(triple, parameters, { flags = [], std = 'std,panic_unwind', floor = TARGETS[triple].floor } = {}) {
  const { target } = TARGETS[triple]
  const tools = pythonPrograms('zig', PYTHON_PACKAGES)
  const standard = standardLibrary(target, std)
  const where = ['--target', `${target}${floor}`, '--target-dir', built]
  const all = ['zigbuild', '--locked', ...where, ...parameters, ...standard.parameters]
  const { status, error, stdout } = spawnSync(join(tools, 'cargo-zigbuild'), all, {
    cwd: root,
    env: {
      ...process.env,
      ...standard.environment,
      PATH: `${tools}${delimiter}${process.env.PATH}`,
      // Separated by a unit separator, because a path can have spaces.
      CARGO_ENCODED_RUSTFLAGS: [...flags, ...pathMappings(standard.sources)].join('\x1f'),
    },
    stdio: ['ignore', 'pipe', 2],
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  })
  if (status !== 0) stop(`${triple} does not build${error ? `: ${error.message}` : ''}`)
  return stdout
}

/**
 * Builds test binaries for a platform, and returns the path of each, its name, and the folder of its crate, which they run in.
 */
export function crossTests(triple, parameters) {
  const all = ['--tests', ...parameters, '--message-format=json-render-diagnostics']
  // A static program begins with files of the C library. zig has them; a standard library that was built here has not.
  const libc = triple.endsWith('musl') ? { flags: ['-Clink-self-contained=no'] } : { floor: TESTS_FLOOR }
  const messages = crossCargo(triple, all, { ...libc, std: 'std,test,panic_unwind' })
  return messages.split('\n').flatMap((line) => {
    if (!line.startsWith('{')) return []
    const { executable: path, manifest_path: manifest, profile } = JSON.parse(line)
    if (!path || !profile?.test) return []
    return { path, name: basename(path).replace(/-[\da-f]{16}$/, ''), folder: dirname(manifest) }
  })
}

/** Where the standard library for a target comes from. */
function standardLibrary(target, std) {
  const parameters = ['--print', 'target-libdir', '--target', target]
  const folder = execFileSync('rustc', parameters, { cwd: root, encoding: 'utf8' }).trim()
  if (existsSync(folder)) return { parameters: [], environment: {}, sources: [] }
  let unpacked
  try {
    // The packages of the compiler that Debian keeps new for its browsers.
    const follow = /^(libstd-rust-web-[\d.]+|libllvm\d+)$/
    unpacked = unpack('rust', ['rustc-web', 'libstd-rust-web-dev', 'rust-web-src'], { follow })
  } catch (error) {
    stop(
      `there is no standard library for ${target}: rustup target add ${target}. Nor is there Debian's: ${error.message}`,
    )
  }
  return {
    parameters: [`-Zbuild-std=${std}`],
    environment: {
      RUSTC: join(unpacked, 'usr/bin/rustc'),
      RUSTC_BOOTSTRAP: '1',
      LD_LIBRARY_PATH: join(unpacked, 'usr/lib/x86_64-linux-gnu'),
    },
    sources: [join(unpacked, 'usr/src')],
  }
}

function say(message) {
  process.stderr.write(`deepring: ${message}\n`)
}

function stop(message) {
  say(message)
  process.exit(1)
}
