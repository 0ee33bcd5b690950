/** The packed tarballs: their contents, and that they work when installed without a registry. */

import { execFileSync } from 'node:child_process'
import { cpSync, globSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { directDirectory, install, nodes, pack, root, run } from './packed.ts'

const tarballs = pack()
const project = install(tarballs.root, tarballs.platform)
const installed = join(project, 'node_modules', 'deepring')
const manifest = readManifest(installed)

test.after.always(() => {
  tarballs.remove()
  rmSync(project, { recursive: true, force: true })
})

test('the root tarball holds sources, compiled code, types and the documents, and nothing else', (t) => {
  const sources = globSync(['index.ts', 'lib/**/*.ts'], { cwd: root }).map((file) => file.replace(/\.ts$/, ''))
  const compiled = sources.flatMap((file) =>
    ['js', 'js.map', 'd.ts', 'd.ts.map'].map((ending) => `dist/${file}.${ending}`),
  )
  const documents = ['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md']
  const expected = ['package.json', ...documents, 'binding.d.cts', ...sources.map((file) => `${file}.ts`), ...compiled]
  t.deepEqual(contents(tarballs.root), expected.toSorted())
})

test('the platform tarball holds the binary, stripped, and says which machines it is for', (t) => {
  const triple = /deepring-(\w+-\w+-\w+)-/.exec(tarballs.platform)?.[1] ?? ''
  const binary = `deepring.${triple}.node`
  t.deepEqual(contents(tarballs.platform), ['LICENSE', 'README.md', binary, 'package.json'].toSorted())

  const folder = join(project, 'node_modules', `deepring-${triple}`)
  t.false(readFileSync(join(folder, binary)).includes('.symtab'), 'the binary has a symbol table')
  t.true(statSync(tarballs.platform).size < 2_000_000, 'the download is larger than 2 megabytes')

  const { os, cpu, libc, main } = readManifest(folder)
  t.deepEqual(
    { os, cpu, libc, main },
    { os: [process.platform], cpu: [process.arch], libc: [triple.endsWith('musl') ? 'musl' : 'glibc'], main: binary },
  )
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
    manifest['types'],
    manifest['typesVersions'],
    manifest['exports'],
    manifest['imports'],
  ])
  t.true(files.includes('./dist/index.js'))
  for (const file of files) t.notThrows(() => statSync(join(installed, file)), file)
})

test('the committed manifest has neither optional dependencies nor workspaces, on which `npm ci` would fail', (t) => {
  const committed = readManifest(root)
  t.false('optionalDependencies' in committed)
  t.false('workspaces' in committed)
})

for (const [version, node] of nodes()) {
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
