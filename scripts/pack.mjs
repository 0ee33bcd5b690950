// Packs what npm would publish: the root tarball and one tarball for each platform whose binary has
// been built.
//
//   npm run pack                 into target/pack
//   npm run pack -- --out NAME   into target/NAME
//   npm run pack -- --all        fails if a platform under npm/ lacks its binary, for a release
//
// A bare `npm pack` is not enough, because the committed package.json cannot name the platform
// packages. Until they are published, `npm ci` would fail on them in every clone. So a copy is
// staged. Its package.json names each platform at exactly this version and drops what only a
// checkout needs. Its dist/ is compiled from the staged sources, so it has no stale file of an
// earlier build.

import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'

const root = join(import.meta.dirname, '..')
const options = { out: { type: 'string', default: 'pack' }, all: { type: 'boolean', default: false } }
const { values: chosen } = parseArgs({ options })
// Under target/, so that the compiler finds the checkout's node_modules from the staged sources.
const out = join(root, 'target', chosen.out)

/** The keys of package.json that only a checkout needs. */
const CHECKOUT_ONLY = ['devDependencies', 'overrides', 'scripts', 'ava', 'napi', 'allowScripts']

/** The newest glibc that a released binary can ask for: 2.17. */
const GLIBC_FLOOR_MINOR = 17

const manifest = readManifest(root)
const platforms = readdirSync(join(root, 'npm'))
checkVersions()
rmSync(out, { recursive: true, force: true })

const tarballs = [packRoot()]
for (const triple of platforms) {
  const binary = `deepring.${triple}.node`
  if (existsSync(join(root, binary))) tarballs.push(packPlatform(triple, binary))
  else if (chosen.all) stop(`${binary} has not been built`)
}
for (const triple of platforms.filter((name) => existsSync(join(root, `deepring.${name}.node`)))) checkBinary(triple)
for (const { filename, size, unpackedSize, entryCount } of tarballs) {
  const path = relative(root, join(out, filename))
  console.log(`${path}  ${kilobytes(size)} packed, ${kilobytes(unpackedSize)} unpacked, ${entryCount} files`)
}

function packRoot() {
  const stage = join(out, 'stage', 'deepring')
  const compilerInput = ['tsconfig.json', 'tsconfig.build.json']
  const given = manifest.files.filter((name) => name !== 'dist')
  for (const name of [...given, 'README.md', 'LICENSE', ...compilerInput])
    cpSync(join(root, name), join(stage, name), { recursive: true })
  const published = { ...manifest }
  for (const key of CHECKOUT_ONLY) delete published[key]
  published.optionalDependencies = Object.fromEntries(
    platforms.map((triple) => [`deepring-${triple}`, manifest.version]),
  )
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(published, null, 2)}\n`)
  execFileSync(
    process.execPath,
    [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(stage, 'tsconfig.build.json')],
    { stdio: 'inherit' },
  )
  return pack(stage)
}

function packPlatform(triple, binary) {
  const stage = join(out, 'stage', triple)
  cpSync(join(root, 'npm', triple), stage, { recursive: true })
  for (const name of [binary, 'LICENSE']) cpSync(join(root, name), join(stage, name))
  return pack(stage)
}

function pack(stage) {
  const parameters = ['pack', '--json', '--ignore-scripts', '--loglevel=error', '--pack-destination', out]
  const [packed] = JSON.parse(execFileSync('npm', parameters, { cwd: stage, encoding: 'utf8' }))
  return packed
}

/**
 * One version everywhere: the loader refuses a platform package of another version, and the binary
 * reports the crate's.
 */
function checkVersions() {
  const crates = /^\[workspace\.package\]\n(?:[^[].*\n)*?version = "([^"]+)"/m.exec(
    readFileSync(join(root, 'Cargo.toml'), 'utf8'),
  )?.[1]
  if (crates !== manifest.version) stop(`Cargo.toml is at version ${crates}, package.json at ${manifest.version}`)
  for (const triple of platforms) {
    const { version } = readManifest(join(root, 'npm', triple))
    if (version !== manifest.version)
      stop(`npm/${triple} is at version ${version}, package.json at ${manifest.version}`)
  }
}

/**
 * What a binary asks of the machine it runs on, and what it reveals of the one it was built on. A
 * release must ask for no newer glibc than README.md says; a build for this machine only reports it.
 */
function checkBinary(triple) {
  const content = readFileSync(join(root, `deepring.${triple}.node`), 'latin1')
  if (triple.endsWith('gnu')) {
    const minors = Array.from(content.matchAll(/GLIBC_2\.(\d+)/g), ([, minor]) => Number(minor))
    const floor = Math.max(...minors)
    console.log(`deepring.${triple}.node  needs glibc 2.${floor}`)
    if (chosen.all && floor > GLIBC_FLOOR_MINOR)
      stop(`deepring.${triple}.node needs glibc 2.${floor}; a release needs 2.${GLIBC_FLOOR_MINOR} at most`)
  }
  const [folder] = /\/[\w./-]*(?:\.cargo\/registry|crates\/deepring)[\w./-]*/.exec(content) ?? []
  if (folder === undefined) return
  if (chosen.all) stop(`deepring.${triple}.node names a folder of the machine it was built on: ${folder}`)
  console.log(`deepring.${triple}.node  names ${folder}`)
}

function readManifest(folder) {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1)} kB`
}

function stop(message) {
  console.error(`deepring: ${message}`)
  process.exit(1)
}
