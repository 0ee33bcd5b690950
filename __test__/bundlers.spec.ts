/**
 * The package in the hands of bundlers and tracers, packed and installed as a user has it: importing never throws, the
 * first use works where the binary can be found, and says what to do where it cannot.
 *
 * docs/bundlers.md has a row for each tool.
 */

import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { nodeResolve } from '@rollup/plugin-node-resolve'
import { nodeFileTrace } from '@vercel/nft'
import test, { type ExecutionContext } from 'ava'
import * as esbuild from 'esbuild'
import { rollup } from 'rollup'
import * as vite from 'vite'
import webpack, { type Configuration } from 'webpack'
import { obtain } from '../scripts/obtain.mjs'
import { directDirectory, emptyDirectory, install, pack, root, run, type Ended } from './packed.ts'

const tarballs = pack()
const project = install(tarballs.root, tarballs.platform)
const out = join(project, 'out')
const entry = join(project, 'app.mjs')
const triple = /deepring-(\w+-\w+-\w+)-/.exec(tarballs.platform)?.[1] ?? ''
const platformPackage = join(project, 'node_modules', `deepring-${triple}`)
const OWN_LOADING = { DEEPRING_NATIVE_PATH: undefined }

/** What a bundle prints: that it was imported, and then the bytes that came back, or the error of the first use. */
writeFileSync(
  entry,
  `import { allocate, DeepringError, open } from 'deepring'
import { AioHandle } from 'deepring/aio'
import { rmSync } from 'node:fs'
console.log('imported')
async function main() {
  const path = ${JSON.stringify(directDirectory())} + '/bundled-' + process.pid
  try {
    const file = await open(path, 'w+')
    await file.write(allocate(4096).fill(7), { position: 0 })
    const back = allocate(4096)
    const { bytesRead } = await file.read(back, { position: 0 })
    await file.close()
    rmSync(path)
    console.log('works', bytesRead, back[4095], new AioHandle().getAlignment())
  } catch (error) {
    console.log(error instanceof DeepringError, error.code, error.message)
  }
}
main()
`,
)

test.after.always(() => {
  tarballs.remove()
  rmSync(project, { recursive: true, force: true })
})

/** How to run what a tool has made. */
interface Bundle {
  readonly tool: string
  readonly file: string
  /** The runtime; absent if the file runs itself. */
  readonly runtime?: string
}

const bundles: Bundle[] = []

async function works(t: ExecutionContext, bundle: Bundle): Promise<void> {
  const { status, stdout, stderr } = await start(bundle)
  t.is(status, 0, stderr)
  t.deepEqual(stdout.trim().split('\n'), ['imported', 'works 4096 7 4096'], bundle.file)
  bundles.push(bundle)
}

function start({ file, runtime }: Bundle): Promise<Ended> {
  const [command, parameters] = runtime === undefined ? [file, []] : [runtime, [file]]
  return run(command, parameters, dirname(file), OWN_LOADING)
}

for (const format of ['esm', 'cjs'] as const) {
  test.serial(`esbuild, ${format}: bundles without a warning, and runs`, async (t) => {
    const file = join(out, `esbuild.${format === 'esm' ? 'mjs' : 'cjs'}`)
    const built = await esbuild.build({
      absWorkingDir: project,
      entryPoints: [entry],
      bundle: true,
      platform: 'node',
      target: 'node20',
      format,
      outfile: file,
      logLevel: 'silent',
    })
    t.deepEqual(built.warnings, [])
    await works(t, { tool: `esbuild ${format}`, file, runtime: process.execPath })
  })
}

for (const format of ['es', 'cjs'] as const) {
  test.serial(`rollup, ${format}: bundles without a warning, and runs`, async (t) => {
    const file = join(out, `rollup.${format === 'es' ? 'mjs' : 'cjs'}`)
    const warnings: string[] = []
    const bundle = await rollup({
      input: entry,
      plugins: [nodeResolve({ preferBuiltins: true })],
      onwarn: ({ message }) => void warnings.push(message),
    })
    await bundle.write({ format, file })
    t.deepEqual(warnings, [])
    await works(t, { tool: `rollup ${format}`, file, runtime: process.execPath })
  })
}

for (const [kind, options] of [
  ['cjs', {}],
  ['mjs', { experiments: { outputModule: true } }],
] as const) {
  test.serial(`webpack, ${kind}: bundles without a warning, and runs`, async (t) => {
    const module = kind === 'mjs'
    const output: Configuration['output'] = { path: out, filename: `webpack.${kind}`, module }
    const { warnings, errors } = await pack5({ ...options, output })
    t.deepEqual([warnings, errors], [[], []])
    await works(t, { tool: `webpack ${kind}`, file: join(out, `webpack.${kind}`), runtime: process.execPath })
  })
}

function pack5(configuration: Configuration): Promise<{ warnings: string[]; errors: string[] }> {
  const common: Configuration = { mode: 'production', context: project, entry, target: 'node20' }
  return new Promise((resolve, reject) => {
    webpack({ ...common, ...configuration }, (error, stats) => {
      if (error !== null || stats === undefined) {
        reject(error ?? new Error('no result'))
        return
      }
      const { warnings = [], errors = [] } = stats.toJson({ all: false, warnings: true, errors: true })
      resolve({ warnings: warnings.map(({ message }) => message), errors: errors.map(({ message }) => message) })
    })
  })
}

for (const noExternal of [false, true]) {
  test.serial(`vite, for a server, dependencies ${noExternal ? 'bundled' : 'external'}: builds and runs`, async (t) => {
    const folder = join(out, noExternal ? 'vite' : 'vite-external')
    await vite.build({
      root: project,
      configFile: false,
      logLevel: 'silent',
      build: { ssr: entry, outDir: folder },
      ...(noExternal ? { ssr: { noExternal: true } } : {}),
    })
    const bundle = { tool: 'vite', file: join(folder, 'app.js'), runtime: process.execPath }
    if (!noExternal) t.teardown(() => bundles.pop())
    await works(t, bundle)
  })
}

const bun = obtained({ name: 'bun', host: 'bun', version: '1.4.5' })
for (const [how, parameters] of [
  ['to a file', ['--target=bun']],
  ['to an executable', ['--compile']],
] as const) {
  const title = `bun build, ${how}: bundles and runs`
  if (bun === undefined) {
    test.skip(`${title} (bun cannot be installed here)`, () => {})
    continue
  }
  test.serial(title, async (t) => {
    const compiled = how === 'to an executable'
    const file = join(out, compiled ? 'bun-executable' : 'bun.js')
    mkdirSync(out, { recursive: true })
    execFileSync(bun, ['build', entry, ...parameters, '--outfile', file], { cwd: project, stdio: 'ignore' })
    await works(t, { tool: `bun ${how}`, file, ...(compiled ? {} : { runtime: bun }) })
  })
}

test.serial('a single executable application finds the binary beside itself', async (t) => {
  const file = join(out, 'executable')
  const configuration = {
    main: join(out, 'esbuild.cjs'),
    output: join(out, 'blob'),
    disableExperimentalSEAWarning: true,
  }
  writeFileSync(join(out, 'sea.json'), JSON.stringify(configuration))
  execFileSync(process.execPath, ['--experimental-sea-config', join(out, 'sea.json')], { stdio: 'ignore' })
  copyFileSync(process.execPath, file)
  chmodSync(file, 0o755)
  const postject = join(root, 'node_modules/postject/dist/cli.js')
  const fuse = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2'
  const parameters = [postject, file, 'NODE_SEA_BLOB', join(out, 'blob'), '--sentinel-fuse', fuse]
  execFileSync(process.execPath, parameters, { stdio: 'ignore' })
  await works(t, { tool: 'a single executable', file })
})

test.serial('@vercel/nft traces the binary of the platform, and what it traces runs elsewhere', async (t) => {
  const { fileList } = await nodeFileTrace([entry], { base: project })
  const binary = join('node_modules', `deepring-${triple}`, `deepring.${triple}.node`)
  t.true(fileList.has(binary), [...fileList].join('\n'))
  const folder = emptyDirectory()
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  for (const file of fileList) {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    copyFileSync(join(project, file), join(folder, file))
  }
  t.teardown(() => bundles.pop())
  await works(t, { tool: 'nft', file: join(folder, 'app.mjs'), runtime: process.execPath })
})

// Runners of tests, which load what a test imports in their own ways.
for (const { name, version, parameters } of [
  { name: 'jest', version: '30.5.2', parameters: ['--config', '{"testMatch":["**/*.test.mjs"],"transform":{}}'] },
  { name: 'vitest', version: '5.1.2', parameters: ['run', '--globals'] },
]) {
  const runner = obtained({ name, host: name, version })
  const title = `${name}: a test imports it, and runs`
  if (runner === undefined) {
    test.skip(`${title} (${name} cannot be installed here)`, () => {})
    continue
  }
  test.serial(title, async (t) => {
    const file = join(project, `${name}.test.mjs`)
    t.teardown(() => rmSync(file))
    writeFileSync(
      file,
      `import { allocate, open } from 'deepring'
      test('bytes come back', async () => {
        const path = ${JSON.stringify(directDirectory())} + '/${name}-' + process.pid
        const file = await open(path, 'w+')
        const { receipt } = await file.write(allocate(4096).fill(7), { position: 0 })
        const back = new Uint8Array(4096)
        await file.read(back, { position: 0 })
        await file.close()
        ;(await import('node:fs')).rmSync(path)
        expect(back[4095]).toBe(7)
        expect(receipt.backend).not.toBe('node')
      })`,
    )
    const variables = { ...OWN_LOADING, NODE_OPTIONS: '--experimental-vm-modules --no-warnings' }
    const { status, stdout, stderr } = await run(runner, parameters, project, variables)
    t.is(status, 0, stdout + stderr)
    t.regex(stdout + stderr, /1 passed/)
  })
}

/** Runs every bundle in a folder elsewhere, while the project has no node_modules: webpack writes its path into bundles. */
async function elsewhere(
  t: ExecutionContext,
  prepare: (folder: string) => void,
  check: (ended: Ended, bundle: Bundle) => void,
): Promise<void> {
  const [here, away] = [join(project, 'node_modules'), join(project, 'away')]
  const folder = emptyDirectory()
  prepare(folder)
  renameSync(here, away)
  try {
    t.true(bundles.length >= 8)
    for (const bundle of bundles) {
      const file = join(folder, basename(bundle.file, '.js') === 'app' ? 'vite.mjs' : basename(bundle.file))
      copyFileSync(bundle.file, file)
      check(await start({ ...bundle, file }), bundle)
      rmSync(file)
    }
  } finally {
    renameSync(away, here)
    rmSync(folder, { recursive: true, force: true })
  }
}

test.serial('a bundle that was moved finds the platform package where it runs', async (t) => {
  await elsewhere(t, installPlatformPackage, ({ stdout, stderr }, { tool }) =>
    t.regex(stdout, /works 4096 7/, tool + stdout + stderr),
  )
})

function installPlatformPackage(folder: string): void {
  cpSync(platformPackage, join(folder, 'node_modules', basename(platformPackage)), { recursive: true })
}

test.serial('a bundle that was moved finds the binary beside itself', async (t) => {
  const binary = `deepring.${triple}.node`
  const prepare = (folder: string): void => copyFileSync(join(platformPackage, binary), join(folder, binary))
  await elsewhere(t, prepare, ({ stdout, stderr }, { tool }) => t.regex(stdout, /works 4096 7/, tool + stdout + stderr))
})

test.serial('a bundle without the binary imports, and says what to do at the first use', async (t) => {
  await elsewhere(
    t,
    () => {},
    ({ stdout, stderr }, { tool }) => {
      t.regex(stdout, /^imported\ntrue ERR_DEEPRING_LOAD /, tool + stderr)
      t.regex(stdout.slice(stdout.indexOf('What to do')), /external.*deepring-.*\.node beside it/, tool)
    },
  )
})

/** A program from the registry, installed once beside those of `npm run runtimes`; `undefined` if it cannot be. */
function obtained(program: Parameters<typeof obtain>[0]): string | undefined {
  try {
    return obtain(program)
  } catch {
    return undefined
  }
}
