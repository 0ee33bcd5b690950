// Publishes what `npm run pack` makes to a registry on loopback, as the workflow does to the real one, and installs it from there
// into empty projects, as its users do.
//
//   npm run install-check               builds the binaries of all platforms first, which takes minutes
//   npm run install-check -- --built    with the binaries that are in target/binaries
//   npm run install-check -- --here     with the binary of this checkout; the packages of other platforms have none
//   npm run install-check -- --record   writes the result into docs/platforms.md
//
// Each package manager installs it, and each runtime runs the result. Then: packages for other machines, an installation without
// the platform's package, a checkout that refuses to be published, the checks of publint and attw, and the crates as crates.io
// would serve them, used by a program. Ends with one line, `install-check: N checks, 0 failures, ...`, and with status 1 if
// anything failed.

import { execFileSync, spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import process from 'node:process'
import { parseArgs } from 'node:util'
import { CRATES } from './crates.mjs'
import { obtain, RUNTIMES } from './obtain.mjs'
import { record, thisMachine } from './record.mjs'
import { startRegistry } from './registry.mjs'

// `ignoresLibc`: it looks at `os` and `cpu` of a package alone, and so installs the binaries for glibc and for musl.
const PACKAGE_MANAGERS = [
  { name: 'npm', install: ['install', '--no-audit', '--no-fund'], without: '--omit=optional' },
  { name: 'pnpm', version: '12.21.0', install: ['add'], without: '--no-optional' },
  {
    name: 'yarn1',
    host: 'yarn',
    version: '1.22.22',
    install: ['add'],
    without: '--ignore-optional',
    ignoresLibc: true,
  },
  { name: 'yarn4', host: 'yarn', from: '@yarnpkg/cli-dist', version: '4.18.1', install: ['add'] },
  {
    name: 'yarn4 pnp',
    host: 'yarn',
    from: '@yarnpkg/cli-dist',
    version: '4.18.1',
    install: ['add'],
    launcher: 'node',
    cannot: ['node20 commonjs.cjs', 'on Node 20, `require` of an ES module does not look into archives'],
  },
  { name: 'bun', version: '1.4.5', install: ['add'], without: '--omit=optional' },
  { name: 'deno', version: '2.9.6', install: ['add'], specifier: 'npm:deepring', ignoresLibc: true },
]

const root = join(import.meta.dirname, '..')
const flag = { type: 'boolean', default: false }
const options = { built: flag, here: flag, record: flag }
const { values: chosen } = parseArgs({ options })
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const started = performance.now()
const count = { passed: 0, failed: 0, skipped: 0 }

const packed = join(root, 'target', 'install-check', 'pack')
const scratch = mkdtempSync(join(tmpdir(), 'deepring-install-'))
// Programs do direct I/O there, which memory does not take.
const data = join(root, 'target', 'install-check', 'data')
mkdirSync(data, { recursive: true })
process.on('exit', () => {
  for (const folder of [scratch, data]) rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

say('packing')
const how = chosen.here ? ['--here', '--crates'] : chosen.built ? ['--built'] : []
execFileSync(process.execPath, [join(root, 'scripts/pack.mjs'), ...how, '--out', 'install-check/pack'], {
  stdio: ['ignore', 2, 2],
})
if (chosen.here) packOthers()
const tarballs = readdirSync(packed).filter((name) => name.endsWith('.tgz'))
const rootTarball = `deepring-${manifest.version}.tgz`
const platform = hostPlatform()
const platformTarball = `deepring-${platform}-${manifest.version}.tgz`

say('starting a registry on loopback, and obtaining runtimes and package managers')
const registry = await startRegistry()
const runtimes = RUNTIMES.map((runtime) => Object.assign(runtime, { command: obtain(runtime) }))
const node = runtimes.find(({ name }) => name === 'node24').command
const managers = PACKAGE_MANAGERS
for (const manager of managers) {
  const program = { host: manager.name, ...manager, name: manager.name.split(' ')[0] }
  manager.command = manager.version === undefined ? 'npm' : obtain(program)
}

await publish()
for (const manager of managers) await installWith(manager)
await installForOthers()
for (const manager of managers.filter(({ without }) => without !== undefined)) await installWithout(manager)
await refusePublication()
await lintPackage()
await useCrates()
await registry.close()
const total = Math.round((performance.now() - started) / 1000)
const result =
  `install-check: ${count.passed + count.failed} checks, ${count.failed} failures, ${count.skipped} skipped, ` +
  `${managers.length} package managers, ${runtimes.length} runtimes, ${tarballs.length} tarballs, ${total} s`
console.log(result)
if (chosen.record) record('install-check', thisMachine(), result)
process.exitCode = count.failed > 0 ? 1 : 0

/** Packs the packages of other platforms, without their binaries, because package managers look at all. */
function packOthers() {
  const made = readdirSync(packed)
  for (const triple of readdirSync(join(root, 'npm')))
    if (!made.includes(`deepring-${triple}-${manifest.version}.tgz`))
      execFileSync('npm', ['pack', '--silent', '--pack-destination', packed], { cwd: join(root, 'npm', triple) })
}

/** Publishes the tarballs as the workflow does: the platform packages first. */
async function publish() {
  const names = tarballs.toSorted((a, b) => Number(a === rootTarball) - Number(b === rootTarball))
  const folder = project('publish', {
    '.npmrc': `registry=${registry.url}\n//${new URL(registry.url).host}/:_authToken=none\n`,
  })
  for (const name of names) {
    const { status, output } = await run('npm', ['publish', join(packed, name), '--access', 'public'], folder)
    check(`npm publishes ${name}`, status === 0, output)
  }
  const again = await run('npm', ['publish', join(packed, rootTarball)], folder)
  check('a version that exists is not replaced', again.status !== 0, again.output)
}

/** Installs with one package manager, looks at what came, and runs it on every runtime. */
async function installWith(manager) {
  const folder = project(manager.name, settings(manager))
  const before = registry.requests.length
  const { status, output, seconds } = await install(manager, folder)
  const tarballsFetched = registry.requests.slice(before).filter((request) => request.endsWith('.tgz'))
  const installed = measure(folder)
  const figures = `${seconds.toFixed(2)} s, ${installed.files} files, ${(installed.bytes / 1e6).toFixed(2)} MB`
  if (!check(`${manager.name} installs`, status === 0, output, figures)) return
  const wanted = [rootTarball, platformTarball].toSorted().join(', ')
  const fetched = [...new Set(tarballsFetched.map((request) => request.split('/').at(-1)))].toSorted().join(', ')
  // Some fetch all platforms, and leave what does not fit out of the project.
  check(
    `${manager.name} fetches the package and its binary`,
    wanted.split(', ').every((name) => fetched.includes(name)),
    fetched,
  )
  if (manager.launcher === undefined) {
    const [what, fitting] = manager.ignoresLibc
      ? ['processors', builtFor(`${process.platform}-${process.arch}-`)]
      : ['platforms', [platform]]
    const binaries = binariesIn(folder).join()
    check(`${manager.name} leaves out the binaries of other ${what}`, binaries === fitting.join(), binaries)
  }
  for (const program of ['esm.mjs', 'commonjs.cjs'])
    cpSync(join(root, '__test__/consumers', program), join(folder, program))
  if (manager.name === 'npm')
    for (const { name, command } of runtimes.filter(({ host }) => host === 'node'))
      console.log(`an import takes ${await importMs(command, folder)} on ${name}`)
  const able = manager.launcher === undefined ? runtimes : runtimes.filter(({ host }) => host === manager.launcher)
  for (const { name, host, command } of able) {
    for (const program of ['esm.mjs', 'commonjs.cjs']) {
      if (manager.cannot?.[0] === `${name} ${program}`) {
        skip(`${manager.name}: ${program} runs on ${name}`, manager.cannot[1])
        continue
      }
      const loader =
        manager.launcher === undefined ? [] : ['--require', './.pnp.cjs', '--experimental-loader', './.pnp.loader.mjs']
      const flags = host === 'deno' ? ['run', '--allow-all'] : loader
      const ran = await run(command, [...flags, program, data], folder)
      const { backend } = lastJson(ran.output) ?? {}
      check(`${manager.name}: ${program} runs on ${name}`, ran.status === 0 && backend !== 'node', ran.output, backend)
    }
  }
}

/** How long an import takes: the least of some processes, in milliseconds. */
async function importMs(command, folder) {
  const program = `const start = performance.now(); await import('deepring'); console.log('{"ms":' + (performance.now() - start) + '}')`
  const times = []
  for (let round = 0; round < 5; round += 1) {
    const { output } = await run(command, ['--input-type=module', '-e', program], folder)
    times.push(lastJson(output)?.ms)
  }
  return `${Math.min(...times).toFixed(1)} ms`
}

/** npm, asked for another machine: it takes that binary, and no other. */
async function installForOthers() {
  for (const triple of chosen.here ? [] : published().filter((name) => name !== platform)) {
    const [os, cpu, libc] = triple.split('-')
    const manager = managers.find(({ name }) => name === 'npm')
    const folder = project(`for-${triple}`, settings(manager))
    const flags = [`--os=${os}`, `--cpu=${cpu}`, `--libc=${libc === 'gnu' ? 'glibc' : libc}`]
    const { status, output } = await install(manager, folder, flags)
    const found = binariesIn(folder).join()
    check(`npm installs for ${triple}, when asked`, status === 0 && found === triple, `${output}\n${found}`)
  }
}

/** Without the platform's package, importing works, and the first use says what is missing and what to do. */
async function installWithout(manager) {
  const folder = project(`${manager.name}-without`, settings(manager))
  const { status, output } = await install(manager, folder, [manager.without])
  if (!check(`${manager.name} ${manager.without} installs`, status === 0 && binariesIn(folder).length === 0, output))
    return
  writeFileSync(
    join(folder, 'first-use.mjs'),
    `import { open } from 'deepring'
     console.log('imported')
     await open('x').catch(({ code, message }) => console.log(code, message))`,
  )
  for (const { name, host, command } of runtimes) {
    const flags = host === 'deno' ? ['run', '--allow-all'] : []
    const ran = await run(command, [...flags, 'first-use.mjs'], folder)
    const isClear =
      ran.output.startsWith('imported\nERR_DEEPRING_LOAD ') && ran.output.includes(`--cpu=${process.arch}`)
    check(
      `${manager.name} ${manager.without}: the first use says what to do on ${name}`,
      ran.status === 0 && isClear,
      ran.output,
    )
  }
}

/** The checkout itself is not what is published. */
async function refusePublication() {
  const before = registry.requests.length
  const flags = ['publish', '--registry', registry.url, `--//${new URL(registry.url).host}/:_authToken=none`]
  const { status, output } = await run('npm', flags, root)
  const sent = registry.requests.slice(before).filter((request) => request.startsWith('PUT'))
  const isRefused = status !== 0 && sent.length === 0 && output.includes('the checkout is not what is published')
  check('npm publish in the checkout is refused', isRefused, `${output}\n${sent.join('\n')}`)
}

async function lintPackage() {
  const tools = join(root, 'node_modules', '.bin')
  for (const name of chosen.here ? [rootTarball, platformTarball] : tarballs) {
    const { status, output } = await run(join(tools, 'publint'), ['--strict', join(packed, name)], scratch)
    check(`publint ${name}`, status === 0 && !/warning|error/i.test(output), output)
  }
  const { status, output } = await run(
    join(tools, 'attw'),
    ['--profile', 'esm-only', join(packed, rootTarball)],
    scratch,
  )
  check(`attw ${rootTarball}`, status === 0, output)
}

/** The crates, unpacked and used by path, as cargo would use them from crates.io. */
async function useCrates() {
  const crates = readdirSync(packed).filter((name) => name.endsWith('.crate'))
  check('the crates are packed', crates.length === 3, crates.join(', '))
  const folder = join(scratch, 'crates')
  mkdirSync(join(folder, 'src'), { recursive: true })
  for (const name of crates) execFileSync('tar', ['-xzf', join(packed, name), '-C', folder])
  const unpacked = (name) => join(folder, `${name}-${manifest.version}`)
  for (const name of CRATES) {
    const files = ['Cargo.toml', 'README.md', 'LICENSE', 'src/lib.rs'].filter(
      (file) => !existsSync(join(unpacked(name), file)),
    )
    check(`the crate ${name} is whole`, files.length === 0, `without ${files.join(', ')}`)
  }
  writeFileSync(
    join(folder, 'Cargo.toml'),
    `[package]
name = "consumer"
version = "0.0.0"
edition = "2021"
[dependencies]
deepring = "=${manifest.version}"
deepring-tensors = "=${manifest.version}"
deepring-object-store = { version = "=${manifest.version}", features = ["v014"] }
pollster = "0.4"
[patch.crates-io]
${CRATES.map((name) => `${name} = { path = "${name}-${manifest.version}" }`).join('\n')}
[workspace]
`,
  )
  cpSync(join(root, '__test__/consumers/crates.rs'), join(folder, 'src/main.rs'))
  const target = join(root, 'target', 'install-check', 'build')
  const { status, output } = await run('cargo', ['run', '--quiet', '--target-dir', target, '--', data], folder)
  check('a program uses all crates', status === 0 && output.includes('the bytes came back'), output)
}

/** An empty project. */
function project(name, files = {}) {
  const folder = join(scratch, name.replaceAll(' ', '-'))
  const content = { name: 'consumer', version: '1.0.0', private: true, type: 'module' }
  mkdirSync(folder, { recursive: true })
  for (const [file, text] of Object.entries({ 'package.json': `${JSON.stringify(content)}\n`, ...files }))
    writeFileSync(join(folder, file), text)
  return folder
}

/** What makes a package manager use the registry. */
function settings({ name, launcher }) {
  const npmrc = { '.npmrc': `registry=${registry.url}\n` }
  if (name.startsWith('yarn4')) {
    const lines = [
      `npmRegistryServer: ${JSON.stringify(registry.url)}`,
      'unsafeHttpWhitelist: ["127.0.0.1"]',
      `nodeLinker: ${launcher === undefined ? 'node-modules' : 'pnp'}`,
      'enableTelemetry: false',
      'enableGlobalCache: false',
    ]
    return { '.yarnrc.yml': `${lines.join('\n')}\n`, 'yarn.lock': '' }
  }
  if (name === 'yarn1') return { ...npmrc, '.yarnrc': `registry "${registry.url}"\n` }
  if (name === 'bun') return { 'bunfig.toml': `[install]\nregistry = "${registry.url}"\n` }
  if (name === 'deno') return { ...npmrc, 'deno.json': '{ "nodeModulesDir": "auto" }\n' }
  return npmrc
}

/** Runs an installation with an empty cache. */
async function install({ command, install: words, specifier = 'deepring' }, folder, flags = []) {
  const cache = `${folder}-cache`
  mkdirSync(cache)
  // Every manager keeps more than its cache below the home directory, such as what it knows of packages.
  const variables = {
    HOME: cache,
    XDG_CACHE_HOME: cache,
    XDG_DATA_HOME: cache,
    npm_config_cache: join(cache, 'npm'),
    YARN_GLOBAL_FOLDER: join(cache, 'yarn'),
    DENO_DIR: join(cache, 'deno'),
    NPM_CONFIG_REGISTRY: registry.url,
  }
  const start = performance.now()
  const ended = await run(command, [...words, ...flags, specifier], folder, variables)
  return { ...ended, seconds: (performance.now() - start) / 1000 }
}

/** Files and bytes of a project's packages. */
function measure(folder) {
  const sizes = installedFiles(folder).map((path) => lstatSync(path).size)
  return { files: sizes.length, bytes: sizes.reduce((sum, size) => sum + size, 0) }
}

/** The platforms whose binaries are published, of those whose names begin like this. */
function builtFor(beginning) {
  const built = chosen.here ? [platform] : published()
  return built.filter((triple) => triple.startsWith(beginning)).toSorted()
}

/** The platforms whose binaries are in a project. */
function binariesIn(folder) {
  const found = installedFiles(folder).flatMap((path) => /deepring\.([\w-]+)\.node$/.exec(path)?.[1] ?? [])
  return [...new Set(found)].toSorted()
}

/** The files of a project's packages, without those that links lead to once more. */
function installedFiles(folder) {
  const files = []
  // Plug'n'Play has no node_modules.
  const folders = [['node_modules', '.yarn'].map((name) => join(folder, name)).find((path) => existsSync(path))]
  for (const path of folders) {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory()) folders.push(join(path, entry.name))
      else if (entry.isFile()) files.push(join(path, entry.name))
    }
  }
  return files
}

function published() {
  return tarballs.flatMap((name) => /^deepring-(\w+-\w+-\w+)-/.exec(name)?.[1] ?? [])
}

function hostPlatform() {
  const { glibcVersionRuntime } = process.report.getReport().header
  return `${process.platform}-${process.arch}-${glibcVersionRuntime === undefined ? 'musl' : 'gnu'}`
}

/** Runs a program to its end, with a Node in PATH for those that need one; `output` is all that it printed. */
function run(command, parameters, cwd, variables = {}) {
  const PATH = `${dirname(node)}${delimiter}${process.env.PATH}`
  // Settings of the `npm run` that started this must not reach the package managers.
  const own = Object.entries(process.env).filter(([name]) => !/^(npm_|DEEPRING_|INIT_CWD)/i.test(name))
  return new Promise((resolve, reject) => {
    const env = { ...Object.fromEntries(own), PATH, NO_COLOR: '1', NODE_NO_WARNINGS: '1', ...variables }
    const child = spawn(command, parameters, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text))
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, output }))
  })
}

/** The last line of an output that is JSON. */
function lastJson(output) {
  const line = output.split('\n').findLast((text) => text.startsWith('{'))
  return line === undefined ? undefined : JSON.parse(line)
}

/** Counts one check, and prints it. */
function check(name, isRight, found, figures = '') {
  count[isRight ? 'passed' : 'failed'] += 1
  console.log(`${isRight ? 'ok' : 'not ok'} - ${name}${figures === '' ? '' : `  ${figures}`}`)
  if (!isRight) console.log(String(found).trim().replace(/^/gm, '    '))
  return isRight
}

function skip(name, reason) {
  count.skipped += 1
  console.log(`skipped - ${name}: ${reason}`)
}

function say(message) {
  process.stderr.write(`deepring: ${message}\n`)
}
