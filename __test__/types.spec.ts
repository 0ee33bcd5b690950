/** The types of the packed package, as a consumer's compiler sees them, and the results of package checkers. */

import { cpSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { install, pack, root, run } from './packed.ts'

const tarballs = pack()
const project = install(tarballs.root, tarballs.platform)
cpSync(join(root, '__test__/types'), project, { recursive: true })
mkdirSync(join(project, 'node_modules/@types'))
symlinkSync(join(root, 'node_modules/@types/node'), join(project, 'node_modules/@types/node'))

test.after.always(() => {
  tarballs.remove()
  rmSync(project, { recursive: true, force: true })
})

/** `@types/node` is installed, but there is no `types` option: TypeScript 6 and 7 then load only what is referenced. */
const COMPILER_OPTIONS = {
  target: 'es2022',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false,
  noEmit: true,
}

for (const [version, compiler] of [
  ['5.9', 'typescript59'],
  ['6', 'typescript6'],
  ['7', 'typescript'],
] as const) {
  for (const [moduleResolution, module] of [
    ['nodenext', 'nodenext'],
    ['bundler', 'preserve'],
  ] as const) {
    test(`a consumer compiles with TypeScript ${version} and moduleResolution ${moduleResolution}`, async (t) => {
      const config = join(project, `tsconfig.${version}.${moduleResolution}.json`)
      const compilerOptions = { ...COMPILER_OPTIONS, module, moduleResolution }
      writeFileSync(config, JSON.stringify({ compilerOptions, files: ['consumer.ts', 'consumer.cts'] }))
      const { status, stdout, stderr } = await run(
        process.execPath,
        [join(root, 'node_modules', compiler, 'bin/tsc'), '-p', config],
        project,
      )
      t.is(status, 0, stdout + stderr)
    })
  }
}

test('a program compiled with TypeScript runs', async (t) => {
  writeFileSync(
    join(project, 'program.ts'),
    `import { DeepringError } from 'deepring'\nconst error: Error = new DeepringError('x', { code: 'Y' })\nconsole.log(error.name)\n`,
  )
  const tsc = join(root, 'node_modules/typescript/bin/tsc')
  const compiled = await run(
    process.execPath,
    [tsc, '--module', 'nodenext', '--target', 'es2022', '--outDir', 'out', 'program.ts'],
    project,
  )
  t.is(compiled.status, 0, compiled.stdout + compiled.stderr)
  const { status, stdout, stderr } = await run(process.execPath, [join('out', 'program.js')], project)
  t.is(status, 0, stderr)
  t.is(stdout.trim(), 'DeepringError')
})

for (const [name, tarball] of [
  ['the package', tarballs.root],
  ['the platform package', tarballs.platform],
] as const) {
  test(`publint finds no problems in ${name}`, async (t) => {
    const publint = join(root, 'node_modules/publint/src/cli.js')
    const { status, stdout, stderr } = await run(process.execPath, [publint, '--strict', tarball], project)
    t.is(status, 0, stdout + stderr)
    t.regex(stdout, /All good/)
  })
}

test('attw finds no problems in the types of any entry', async (t) => {
  const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js')
  const { status, stdout, stderr } = await run(
    process.execPath,
    [attw, '--profile', 'esm-only', '--no-color', tarballs.root],
    project,
  )
  t.is(status, 0, stdout + stderr)
})
