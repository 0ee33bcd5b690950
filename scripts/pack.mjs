// Packs what would be published: the npm package, one package for each platform, and the crates, into target/pack.
//
//   npm run pack                       builds the binaries of all platforms (scripts/binaries.mjs), then packs
//   node scripts/pack.mjs --built      packs the binaries that are in target/binaries; all must be there
//   node scripts/pack.mjs --here       packs only the package and the binary of this checkout, as built for this machine
//   node scripts/pack.mjs --here --crates   the same, and the crates
//   node scripts/pack.mjs --out NAME   into target/NAME
//
// A bare `npm pack` is not enough, because the committed package.json cannot name the platform
// packages. Until they are published, `npm ci` would fail on them in every clone. So a copy is
// staged. Its package.json names each platform at exactly this version and drops what only a
// checkout needs. Its dist/ is compiled from the staged sources, so it has no stale file of an
// earlier build.

import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, relative } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { CRATES, TIER } from './crates.mjs'

const root = join(import.meta.dirname, '..')
const { values: chosen } = parseArgs({
  options: {
    out: { type: 'string', default: 'pack' },
    built: { type: 'boolean', default: false },
    here: { type: 'boolean', default: false },
    crates: { type: 'boolean', default: false },
  },
})
// Under target/, so that the compiler finds the checkout's node_modules from the staged sources.
const out = join(root, 'target', chosen.out)
const binaries = chosen.here ? root : join(root, 'target', 'binaries')

/** The keys of package.json that only a checkout needs. */
const CHECKOUT_ONLY = ['devDependencies', 'overrides', 'scripts', 'ava', 'napi', 'allowScripts']

/** The newest glibc that a released binary can ask for: 2.17. */
const GLIBC_FLOOR_MINOR = 17

const manifest = readManifest(root)
const platforms = readdirSync(join(root, 'npm'))
checkVersions()
if (!chosen.here && !chosen.built) run(process.execPath, [join(root, 'scripts', 'binaries.mjs')])
rmSync(out, { recursive: true, force: true })

const built = platforms.filter((triple) => existsSync(binaryOf(triple)))
const missing = platforms.filter((triple) => !built.includes(triple))
if (!chosen.here && missing.length > 0) stop(`${missing.join(', ')} has not been built`)
for (const triple of built) checkBinary(triple)
const tarballs = [packRoot(), ...built.map(packPlatform)]
for (const { filename, size, unpackedSize, entryCount } of tarballs) report(filename, size, unpackedSize, entryCount)
if (!chosen.here || chosen.crates) packCrates()

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
  run(process.execPath, [join(root, 'scripts/build-ts.mjs'), stage])
  return pack(stage)
}

function packPlatform(triple) {
  const stage = join(out, 'stage', triple)
  cpSync(join(root, 'npm', triple), stage, { recursive: true })
  cpSync(binaryOf(triple), join(stage, `deepring.${triple}.node`))
  cpSync(join(root, 'LICENSE'), join(stage, 'LICENSE'))
  return pack(stage)
}

/** Makes the files that crates.io would serve. `npm run install-check` builds with them. */
function packCrates() {
  const target = join(out, 'stage', 'crates')
  // In a checkout with changes, what is packed is the checkout as it is: so are the other tarballs.
  const parameters = ['package', '--quiet', '--no-verify', '--allow-dirty', '--target-dir', target]
  run('cargo', [...parameters, ...CRATES.flatMap((name) => ['-p', name])])
  for (const name of CRATES) {
    const file = `${name}-${manifest.version}.crate`
    cpSync(join(target, 'package', file), join(out, file))
    const sizes = execFileSync('tar', ['-tvzf', join(out, file)], { encoding: 'utf8' })
      .trim()
      .split('\n')
    const unpackedSize = sizes.reduce((sum, line) => sum + Number(line.split(/\s+/)[2]), 0)
    report(file, statSync(join(out, file)).size, unpackedSize, sizes.length)
  }
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
  const tier = /^version = "([^"]+)"/m.exec(readFileSync(join(root, TIER.manifest), 'utf8'))?.[1]
  if (tier !== manifest.version) stop(`${TIER.manifest} is at version ${tier}, package.json at ${manifest.version}`)
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
  const file = binaryOf(triple)
  if (triple.endsWith('gnu')) {
    const symbols = execFileSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 1 << 26 })
    const floor = Math.max(...Array.from(symbols.matchAll(/GLIBC_2\.(\d+)/g), ([, minor]) => Number(minor)))
    console.log(`deepring.${triple}.node  needs glibc 2.${floor}`)
    if (!chosen.here && !(floor <= GLIBC_FLOOR_MINOR))
      stop(`deepring.${triple}.node needs glibc 2.${floor}; a release needs 2.${GLIBC_FLOOR_MINOR} at most`)
  }
  const content = readFileSync(file, 'latin1')
  const named = [root, homedir(), process.env.CARGO_HOME].find((folder) => folder && content.includes(folder))
  const [folder = named] = /\/[\w./-]*(?:\.cargo\/registry|crates\/deepring|usr\/src)[\w./-]*/.exec(content) ?? []
  if (folder !== undefined) stop(`deepring.${triple}.node names a folder of the machine it was built on: ${folder}`)
}

function binaryOf(triple) {
  return join(binaries, `deepring.${triple}.node`)
}

/** Runs a program to its end, or stops. */
function run(command, parameters) {
  const { status, error } = spawnSync(command, parameters, { cwd: root, stdio: ['ignore', 2, 2] })
  if (status !== 0) stop(`\`${command} ${parameters.join(' ')}\` failed${error ? `: ${error.message}` : ''}`)
}

function report(file, size, unpackedSize, entryCount) {
  const path = relative(root, join(out, file))
  console.log(`${path}  ${kilobytes(size)} packed, ${kilobytes(unpackedSize)} unpacked, ${entryCount} files`)
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
