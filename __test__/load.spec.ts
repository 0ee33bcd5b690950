/** Loading: importing never throws, the first use reports what was tried, and a checkout needs no dist/. */

import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { directDirectory, emptyDirectory, root, run, type Ended } from './packed.ts'

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
  t.regex(reported.message, /deepring\.\w+-\w+(-\w+)?\.node/, 'the file in the checkout was tried')
  t.regex(reported.message, /deepring-\w+-\w+/, 'the platform package was tried')
  t.regex(reported.message, /npm\/cli/, 'the advice names the defect of npm that loses optional dependencies')
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
})

test('a platform package of another version is refused', async (t) => {
  const folder = unbuilt(t)
  const { load } = await loaderIn(folder)
  const triple = (t.throws(load, { code: 'ERR_DEEPRING_LOAD' }) as unknown as { triple: string }).triple
  const other = join(folder, 'node_modules', `deepring-${triple}`)
  mkdirSync(other, { recursive: true })
  writeFileSync(
    join(other, 'package.json'),
    JSON.stringify({ name: `deepring-${triple}`, version: '0.0.0-other', main: 'index.js' }),
  )
  writeFileSync(join(other, 'index.js'), 'module.exports = {}')
  const { attempts } = t.throws(load) as unknown as { attempts: { kind: string; cause: Error }[] }
  t.regex(attempts.find(({ kind }) => kind === 'package')?.cause.message ?? '', /is version 0\.0\.0-other/)
})

test('the permission model without --allow-addons is named as the cause', async (t) => {
  const parameters = [
    '--permission',
    '--allow-fs-read=*',
    '--input-type=module',
    '-e',
    `const deepring = await import('./index.ts')\n${REPORT}`,
  ]
  const reported = report(t, await run(process.execPath, parameters, root, OWN_LOADING))
  t.is(reported.code, 'ERR_DEEPRING_LOAD')
  t.regex(reported.message, /--allow-addons/)
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
const OWN_LOADING = { DEEPRING_NATIVE_PATH: undefined }

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
  for (const name of ['package.json', 'index.ts', 'lib', 'native.cjs'])
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

async function loaderIn(folder: string): Promise<{ load: () => unknown }> {
  return (await import(join(folder, 'native.cjs'))) as { load: () => unknown }
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
