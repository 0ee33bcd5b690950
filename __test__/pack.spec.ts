/** The packed tarballs: their contents, and that they work when installed without a registry. */

import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  globSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import * as deepring from '../index.ts'
import { binaryUnderTest, directDirectory, install, nodes, pack, root, run } from './packed.ts'

const tarballs = pack()
const project = install(tarballs.root, tarballs.platform)
const installed = join(project, 'node_modules', 'deepring')
const manifest = readManifest(installed)

/** What package.json exports and installs. */
const ENTRY_POINTS = [
  'index.js',
  ...['aio/index.js', 'safetensors/index.js', 'checkpoint/index.js', 'swap/index.js', 'command/main.js'].map(
    (file) => `lib/${file}`,
  ),
]

const built = binaryUnderTest() ?? ''

test.after.always(() => {
  tarballs.remove()
  rmSync(project, { recursive: true, force: true })
})

test('the root tarball holds sources, compiled code, types and the documents, and nothing else', (t) => {
  const sources = globSync(['index.ts', 'lib/**/*.ts'], { cwd: root }).map((file) => file.replace(/\.ts$/, ''))
  const types = sources.flatMap((file) => [`dist/${file}.d.ts`, `dist/${file}.d.ts.map`])
  // What is exported and installed, what a process without the binding loads, and what the loader is.
  const modules = [
    ...ENTRY_POINTS,
    'lib/node/index.js',
    ...['load', 'libc', 'version'].map((name) => `lib/core/${name}.js`),
  ]
  const compiled = modules.flatMap((file) => [`dist/${file}`, `dist/${file}.map`])
  const documents = ['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md']
  const expected = ['package.json', ...documents, 'binding.d.cts', ...sources.map((file) => `${file}.ts`), ...compiled]
  const shared = /^dist\/lib\/chunks\/[\w-]+\.js(?:\.map)?$/
  const found = contents(tarballs.root)
  t.deepEqual(
    found.filter((file) => !shared.test(file)),
    [...expected, ...types].toSorted(),
  )
  t.true(found.some((file) => shared.test(file)))
})

test('importing an entry point loads at most twelve modules, and the map of each leads to the sources', (t) => {
  for (const entry of ENTRY_POINTS.filter((file) => file.endsWith('index.js'))) {
    const loaded = new Set<string>()
    const visit = (file: string): void => {
      if (loaded.has(file)) return
      loaded.add(file)
      const imports = readFileSync(file, 'utf8').matchAll(/^(?:import|export) (?:.* from )?'(\.[^']+)'/gm)
      for (const [, imported = ''] of imports) visit(join(dirname(file), imported))
    }
    visit(join(installed, 'dist', entry))
    t.true(loaded.size <= 12, `${entry}: ${loaded.size}`)
    // A module that only exports what others hold has no source of its own.
    const sources = [...loaded].flatMap((file) => {
      const map = JSON.parse(readFileSync(`${file}.map`, 'utf8')) as { sources: string[] }
      return map.sources.map((source) => join(dirname(file), source))
    })
    t.true(sources.length > 40, `${entry}: ${sources.length}`)
    for (const source of sources) t.true(existsSync(source), source)
  }
})

test('the platform tarball holds the binary, stripped, and says which machines it is for', (t) => {
  const triple = /deepring-(\w+-\w+-\w+)-/.exec(tarballs.platform)?.[1] ?? ''
  const binary = `deepring.${triple}.node`
  t.deepEqual(contents(tarballs.platform), ['LICENSE', 'README.md', binary, 'package.json'].toSorted())

  const folder = join(project, 'node_modules', `deepring-${triple}`)
  t.false(readFileSync(join(folder, binary)).includes('.symtab'), 'the binary has a symbol table')
  t.true(statSync(tarballs.platform).size < 2_500_000, 'the download is larger than 2.5 megabytes')

  const { os, cpu, libc, main } = readManifest(folder)
  t.deepEqual(
    { os, cpu, libc, main },
    { os: [process.platform], cpu: [process.arch], libc: [triple.endsWith('musl') ? 'musl' : 'glibc'], main: binary },
  )
})

test('`info` names the C library that the binary needs, as objdump finds it', async (t) => {
  const symbols = execFileSync('objdump', ['-T', built], { encoding: 'utf8', maxBuffer: 1 << 26 })
  const minors = Array.from(symbols.matchAll(/GLIBC_2\.(\d+)/g), ([, minor]) => Number(minor))
  const { libc } = await deepring.info()
  t.is(libc, minors.length === 0 ? 'musl' : `glibc 2.${Math.max(...minors)}`)
})

test('the binary names no folder of the machine that it was built on', (t) => {
  const binary = readFileSync(built, 'latin1')
  for (const folder of [root, homedir()]) t.false(binary.includes(folder + '/'), folder)
  // Names of source files are in it, without the folder.
  t.regex(binary, /crates\/deepring\/src\/|registry\/[\w.-]+\/napi-/)
})

test('the published manifest names every platform at its own version, and nothing of the checkout', (t) => {
  const platforms = globSync('npm/*', { cwd: root }).map((folder) => folder.replace('npm/', 'deepring-'))
  t.deepEqual(
    manifest['optionalDependencies'],
    Object.fromEntries(platforms.map((name) => [name, manifest['version']])),
  )
  for (const key of ['dependencies', 'devDependencies', 'overrides', 'scripts', 'ava', 'workspaces'])
    t.false(key in manifest, key)
})

test('every file named in the published manifest exists', (t) => {
  const files = leaves([
    manifest['main'],
    manifest['bin'],
    manifest['types'],
    manifest['typesVersions'],
    manifest['exports'],
    manifest['imports'],
  ])
  t.true(files.includes('./dist/index.js'))
  for (const file of files) t.notThrows(() => statSync(join(installed, file)), file)
})

test('the installed command runs, and `info` takes at most 80 ms of CPU more than Node alone', async (t) => {
  const command = join(project, 'node_modules/.bin/deepring')
  const { status, stdout } = await run(command, ['info', '--json'], project)
  t.is(status, 0)
  t.is((JSON.parse(stdout) as { version: unknown }).version, manifest['version'])
  const probe = join(project, 'probe.cjs')
  writeFileSync(probe, "process.on('exit', () => console.error(process.cpuUsage()))")
  const cpuMs = async (...words: string[]): Promise<number> => {
    const ended = await run(process.execPath, ['--require', probe, ...words], project)
    t.is(ended.status, 0)
    const [, user, system] = /user: (\d+), system: (\d+)/.exec(ended.stderr) ?? []
    return (Number(user) + Number(system)) / 1e3
  }
  // In turns, and the least of each: what else runs on the machine only adds to it.
  const [node, info]: [number[], number[]] = [[], []]
  for (let round = 0; round < 15; round += 1) {
    node.push(await cpuMs('-e', '0'))
    info.push(await cpuMs(join(installed, 'dist/lib/command/main.js'), 'info'))
  }
  const nodeMs = Math.min(...node)
  const costMs = Math.min(...info) - nodeMs
  // On a machine that is busy, Node itself takes more than 30 ms.
  t.true(costMs <= 80 * Math.max(1, nodeMs / 30), `${costMs} ms beside ${nodeMs}`)
})

test('the committed manifest has neither optional dependencies nor workspaces, on which `npm ci` would fail', (t) => {
  const committed = readManifest(root)
  t.false('optionalDependencies' in committed)
  t.false('workspaces' in committed)
})

for (const [version, node] of nodes()) {
  test(`the installed command works on Node ${version}`, async (t) => {
    const command = join(installed, 'dist/lib/command/main.js')
    const place = mkdtempSync(join(directDirectory(), 'command-'))
    t.teardown(() => rmSync(place, { recursive: true, force: true }))
    writeFileSync(join(place, 'a'), Buffer.alloc(100_000, 7))
    for (const words of [
      ['info', place],
      ['cp', '--no-clone', '--verify', join(place, 'a'), join(place, 'b')],
      ['cp', '--resume', join(place, 'a'), join(place, 'c')],
      ['verify', '--write', join(place, 'SUMS'), join(place, 'a'), join(place, 'b'), join(place, 'c')],
      ['verify', '--list', join(place, 'SUMS')],
      ['bench', place, '--io-size', '8M', '--loops', '1', '--only', 'read,random-8', '--no-fio'],
    ]) {
      const { status, stderr } = await run(node, [command, ...words], project)
      t.deepEqual([status, stderr], [0, ''], words.join(' '))
    }
    t.deepEqual(readdirSync(place).toSorted(), ['SUMS', 'a', 'b', 'c'])
    const { status, stderr } = await run(node, [command, 'cp', '--verfy'], project)
    t.is(status, 2)
    t.regex(stderr, /did you mean '--verify'\?/)
  })

  for (const [way, program] of [
    ['import', 'esm.mjs'],
    ['require', 'commonjs.cjs'],
  ] as const) {
    test(`the installed package works by ${way} on Node ${version}`, async (t) => {
      cpSync(join(root, '__test__/consumers', program), join(project, program))
      const { status, stdout, stderr } = await run(node, [program, directDirectory()], project)
      t.is(status, 0, stderr)
      t.is((JSON.parse(stdout) as { node: string }).node, version)
    })
  }
}

function readManifest(folder: string): Record<string, unknown> {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, unknown>
}

/** All strings that stand as values in a JSON value. */
function leaves(value: unknown): string[] {
  return typeof value === 'string' ? [value] : Object.values(value as object).flatMap(leaves)
}

function contents(tarball: string): string[] {
  const listing = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' })
  return listing
    .trim()
    .split('\n')
    .map((path) => path.replace(/^package\//, ''))
    .toSorted()
}
