/** Loading: importing never throws, the first use reports what was tried, and a checkout needs no dist/. */

import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { adviceOf, firstLine } from '../lib/core/advice.ts'
import { dynamicLinkerOf } from '../lib/core/libc.ts'
import { LoadFailure } from '../lib/core/load.ts'
import { VERSION } from '../lib/core/version.ts'
import { directDirectory, emptyDirectory, root, run, type Ended } from './packed.ts'

/** The platform, as the file of the build names it. */
const [triple = ''] = readdirSync(root).flatMap((name) => /^deepring\.([\w-]+)\.node$/.exec(name)?.[1] ?? [])

/** What a program prints about the error of its first use. */
interface Reported {
  readonly imported: boolean
  readonly name: string
  readonly code: string
  readonly message: string
}

const REPORT = `
  console.log(JSON.stringify(await deepring.open('x').then(
    () => null,
    ({ name, code, message }) => ({ imported: typeof deepring.open === 'function', name, code, message }))))`

test('importing works without a binary, and the first use rejects with everything that was tried', async (t) => {
  const folder = unbuilt(t)
  const reported = report(t, await evaluate(`const deepring = await import('./index.ts')\n${REPORT}`, folder))
  t.true(reported.imported)
  t.is(reported.name, 'DeepringError')
  t.is(reported.code, 'ERR_DEEPRING_LOAD')
  t.regex(reported.message, /deepring-\w+-\w+/, 'the platform package was tried')
  t.notRegex(reported.message, /deepring\.\w+-\w+-\w+\.node/, 'outside a checkout, its file is not tried')
  t.regex(adviceIn(reported), /npm install --os=\w+ --cpu=\w+ --libc=\w+ deepring/)
  t.regex(adviceIn(reported), /npm\/cli/, 'the advice names the defect of npm that loses optional dependencies')
})

test('the dynamic linker of an executable is found wherever its name is in the file', (t) => {
  const folder = emptyDirectory()
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const name = '/somewhere/else/ld-musl-x86_64.so.1'
  // The headers, with room before, then the name: as patchelf leaves them.
  const file = Buffer.alloc(100_000)
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1])
  file.writeBigUInt64LE(50_000n, 32)
  file.writeUInt16LE(56, 54)
  file.writeUInt16LE(2, 56)
  file.writeUInt32LE(6, 50_000)
  file.writeUInt32LE(3, 50_056)
  file.writeBigUInt64LE(90_000n, 50_056 + 8)
  file.writeBigUInt64LE(BigInt(name.length + 1), 50_056 + 32)
  file.write(name, 90_000)
  const path = join(folder, 'patched')
  writeFileSync(path, file)
  t.is(dynamicLinkerOf(path), name)

  writeFileSync(path, file.subarray(0, 50_000))
  t.is(dynamicLinkerOf(path), undefined)
  writeFileSync(path, '#!/bin/sh')
  t.is(dynamicLinkerOf(path), undefined)
  t.is(dynamicLinkerOf(join(folder, 'absent')), undefined)
  if (process.platform === 'linux') t.regex(dynamicLinkerOf(process.execPath) ?? '', /\/ld-(linux|musl)-/)
})

test('in a checkout, the file that a build makes is tried', async (t) => {
  const folder = unbuilt(t)
  writeFileSync(join(folder, 'Cargo.toml'), '')
  const reported = report(t, await evaluate(`const deepring = await import('./index.ts')\n${REPORT}`, folder))
  t.regex(reported.message, /deepring\.\w+-\w+-\w+\.node/)
})

test('require works without a binary, too', async (t) => {
  const folder = unbuilt(t)
  const program = `const deepring = require('./index.ts'); deepring.open('x').catch((error) => console.log(error.code))`
  const { status, stdout, stderr } = await run(
    process.execPath,
    ['--input-type=commonjs', '-e', program],
    folder,
    OWN_LOADING,
  )
  t.is(status, 0, stderr)
  t.is(stdout.trim(), 'ERR_DEEPRING_LOAD')
})

test('an override that cannot be loaded is reported, and no other binary is tried', async (t) => {
  const variables = { DEEPRING_NATIVE_PATH: '/nonexistent/override.node' }
  const reported = report(t, await evaluate(`const deepring = await import('./index.ts')\n${REPORT}`, root, variables))
  t.is(reported.code, 'ERR_DEEPRING_LOAD')
  t.true(reported.message.includes('/nonexistent/override.node'))
  t.regex(adviceIn(reported), /DEEPRING_NATIVE_PATH.*does not exist/)
})

test('a file that is not an addon is reported with the reason of the dynamic linker', async (t) => {
  const folder = unbuilt(t)
  const broken = join(folder, 'broken.node')
  writeFileSync(broken, 'not a shared object')
  const reported = report(
    t,
    await evaluate(`const deepring = await import('./index.ts')\n${REPORT}`, folder, { DEEPRING_NATIVE_PATH: broken }),
  )
  t.is(reported.code, 'ERR_DEEPRING_LOAD')
  t.regex(reported.message, /broken\.node/)
  t.regex(reported.message, /file too short|invalid ELF header/)
  t.regex(adviceIn(reported), /damaged/)
})

test('a platform package of another version is refused, and both versions are named', async (t) => {
  const folder = unbuilt(t)
  const other = join(folder, 'node_modules', `deepring-${triple}`)
  mkdirSync(other, { recursive: true })
  const manifest = { name: `deepring-${triple}`, version: '0.0.0-other', main: 'index.js' }
  writeFileSync(join(other, 'package.json'), JSON.stringify(manifest))
  writeFileSync(join(other, 'index.js'), 'module.exports = {}')
  const reported = report(t, await evaluate(`const deepring = await import('./index.ts')\n${REPORT}`, folder))
  t.regex(reported.message, /is version 0\.0\.0-other, but deepring is version \d/)
  t.regex(adviceIn(reported), /npm install deepring@\S+ deepring-/)
})

for (const [title, parameters, advice] of [
  [
    'the permission model without --allow-addons',
    ['--permission', '--allow-fs-read=*'],
    /--permission: add --allow-addons/,
  ],
  ['--no-addons', ['--no-addons'], /--no-addons/],
] as const) {
  const evaluated = (program: string, variables: NodeJS.ProcessEnv): Promise<Ended> =>
    run(process.execPath, [...parameters, '--input-type=module', '-e', program], root, variables)

  test(`with ${title}, deepring runs over node:fs, and says so once`, async (t) => {
    const program = `
      const { allocate, info, open } = await import('./index.ts')
      const file = await open('package.json')
      const { receipt } = await file.read(allocate(10), { position: 0 })
      await file.close()
      const { backend, reason, version } = await info()
      console.log(JSON.stringify({ backend, reason, version, receipt: receipt.backend, direct: receipt.direct }))`
    const { status, stdout, stderr } = await evaluated(program, OWN_LOADING)
    t.is(status, 0, stderr)
    t.deepEqual(JSON.parse(stdout), {
      backend: 'node',
      reason: 'this process must not load native code',
      version: VERSION,
      receipt: 'node',
      direct: false,
    })
    t.is([...stderr.matchAll(/DEEPRING_NODE_BACKEND/g)].length, 1, stderr)
  })

  test(`with ${title}, a binary that is asked for by name is an error, and nothing else is its cause`, async (t) => {
    const program = `const deepring = await import('./index.ts')\n${REPORT}`
    const variables = { DEEPRING_NATIVE_PATH: join(root, `deepring.${triple}.node`) }
    const reported = report(t, await evaluated(program, variables))
    t.is(reported.code, 'ERR_DEEPRING_LOAD')
    t.regex(adviceIn(reported), advice)
    t.notRegex(adviceIn(reported), /npm install/)
  })
}

test('without a binary for the platform, deepring runs over node:fs, unless another backend is asked for', async (t) => {
  const program = `
    Object.defineProperty(process, 'platform', { value: 'freebsd' })
    const deepring = await import('./index.ts')
    console.log(await deepring.info().then(({ backend, reason }) => [backend, reason].join(': '), ({ code }) => code))`
  const folder = unbuilt(t)
  const { stdout } = await evaluate(program, folder)
  t.is(stdout, `node: there is no binary for freebsd-${process.arch}\n`)
  const refused = await evaluate(program, folder, { ...OWN_LOADING, DEEPRING_BACKEND: 'threads' })
  t.is(refused.stdout, 'ERR_DEEPRING_LOAD\n')
})

test('a binary that is there and does not load is an error, on any platform', async (t) => {
  const folder = unbuilt(t)
  writeFileSync(join(folder, `deepring.freebsd-${process.arch}.node`), 'not a shared object')
  const program = `
    Object.defineProperty(process, 'platform', { value: 'freebsd' })
    const deepring = await import('./index.ts')
    ${REPORT}`
  const reported = report(t, await evaluate(program, folder))
  t.is(reported.code, 'ERR_DEEPRING_LOAD')
  t.regex(reported.message, /deepring\.freebsd/)
})

test('a glibc that is too old: the advice has the version that is needed and the one that is there', async (t) => {
  const folder = unbuilt(t)
  const file = join(folder, 'newer.node')
  const binary = readFileSync(join(root, `deepring.${triple}.node`), 'latin1')
  // As a binary built on a newer system: the dynamic linker does not find the version that it names.
  writeFileSync(file, binary.replaceAll('GLIBC_2.34', 'GLIBC_2.99'), 'latin1')
  if (!binary.includes('GLIBC_2.34')) {
    t.pass('this binary does not need a version that could be replaced')
    return
  }
  const program = `const deepring = await import('./index.ts')\n${REPORT}`
  const reported = report(t, await evaluate(program, folder, { DEEPRING_NATIVE_PATH: file }))
  t.regex(adviceIn(reported), /needs glibc 2\.99 or newer; this system has glibc \d\.\d+/)
})

const isRoot = process.getuid?.() === 0
const testAsRoot = isRoot ? test : test.skip

testAsRoot('a file system that is mounted noexec is named, with its mount point', async (t) => {
  const mount = emptyDirectory()
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'noexec', 'none', mount])
  t.teardown(() => {
    execFileSync('umount', [mount])
    rmSync(mount, { recursive: true })
  })
  const installed = join(mount, 'app', 'node_modules', 'deepring')
  for (const name of ['package.json', 'dist', `deepring.${triple}.node`])
    cpSync(join(root, name), join(installed, name), { recursive: true })
  writeFileSync(join(mount, 'app', 'package.json'), '{}')
  const program = `const deepring = await import('deepring')\n${REPORT}`
  const reported = report(t, await evaluate(program, join(mount, 'app')))
  t.true(adviceIn(reported).includes(`${mount} is mounted noexec`), reported.message)
})

test('whatever a cause is, there is advice', (t) => {
  const causes: unknown[] = [
    undefined,
    null,
    0,
    'text',
    Symbol('s'),
    {},
    { code: 5 },
    { message: null },
    new Error('new'),
    [],
  ]
  for (const cause of causes) {
    for (const kind of ['override', 'beside', 'package'] as const) {
      const failure = new LoadFailure(triple, [{ candidate: 'x', kind, file: undefined, cause }])
      t.true(adviceOf(failure).length > 20, String(cause))
      t.notThrows(() => firstLine(cause))
    }
  }
  t.true(adviceOf(new LoadFailure(triple, [])).length > 20)
  t.regex(adviceOf(new LoadFailure('sunos-x64', [])), /no binary for sunos-x64/)
})

test('importing loads neither HTTP nor crypto of Node, which take longer than all the rest', async (t) => {
  const program = `await import('./index.ts')
    const slow = process.moduleLoadList.filter((name) => / (http|crypto)$/.test(name))
    console.log(JSON.stringify(slow))`
  const { stdout } = await evaluate(program, root)
  t.deepEqual(JSON.parse(stdout), [])
})

test('the version in the sources is that of the package', (t) => {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
  t.is(VERSION, version)
})

test('index.ts of a checkout is importable by path, with no dist/', async (t) => {
  const folder = checkoutWithoutDist(t)
  const { status, stdout, stderr } = await evaluate(roundTrip(join(folder, 'index.ts')), directDirectory())
  t.is(status, 0, stderr)
  t.is(stdout.trim(), '4096')
})

test('index.ts of a checkout is importable through a symlink, as deepring/index.ts', async (t) => {
  const folder = checkoutWithoutDist(t)
  const project = emptyDirectory()
  t.teardown(() => rmSync(project, { recursive: true, force: true }))
  mkdirSync(join(project, 'node_modules'))
  symlinkSync(folder, join(project, 'node_modules', 'deepring'))
  const { status, stdout, stderr } = await evaluate(roundTrip('deepring/index.ts'), project)
  t.is(status, 0, stderr)
  t.is(stdout.trim(), '4096')
})

/** The loader's variable must not come in from the environment of the tests. */
const OWN_LOADING: NodeJS.ProcessEnv = { DEEPRING_NATIVE_PATH: undefined, DEEPRING_BACKEND: undefined }

function evaluate(program: string, cwd: string, variables: NodeJS.ProcessEnv = OWN_LOADING): Promise<Ended> {
  return run(process.execPath, ['--input-type=module', '-e', program], cwd, variables)
}

function report(t: ExecutionContext, { status, stdout, stderr }: Ended): Reported {
  t.is(status, 0, stderr)
  return JSON.parse(stdout) as Reported
}

/** A copy of the sources with no binary anywhere near it. */
function unbuilt(t: ExecutionContext): string {
  const folder = emptyDirectory()
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const name of ['package.json', 'index.ts', 'lib'])
    cpSync(join(root, name), join(folder, name), { recursive: true })
  return folder
}

/** What a checkout is after the native build alone. */
function checkoutWithoutDist(t: ExecutionContext): string {
  const folder = unbuilt(t)
  cpSync(root, folder, {
    recursive: true,
    filter: (source) => source === root || /^deepring\.[\w-]+\.node$/.test(source.slice(root.length + 1)),
  })
  return folder
}

/** What is advised: one thing. */
function adviceIn({ message }: Reported): string {
  const [, advice = ''] = message.split('What to do:\n')
  return advice
}

/** A program that prints how many bytes came back. */
function roundTrip(specifier: string): string {
  return `
    import { rmSync } from 'node:fs'
    import { allocate, open } from '${specifier}'
    const path = '${directDirectory()}/load-' + process.pid + '.bin'
    const file = await open(path, 'w+')
    await file.write(allocate(4096), { position: 0 })
    const { bytesRead } = await file.read(allocate(4096), { position: 0 })
    await file.close()
    rmSync(path)
    console.log(bytesRead)`
}
