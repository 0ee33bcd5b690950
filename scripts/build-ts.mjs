// Compiles index.ts and lib/ into dist/, here or in the folder that is given: what is published, and what a checkout runs.
//
// The compiler writes a declaration and a module for each source. Then the modules are joined: one file for each entry point,
// and the files in dist/lib/chunks that they share. Node takes half a millisecond to find and link each module of a program,
// and importing deepring took seventy. Source maps lead from the joined files to the sources.

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { join, relative, resolve } from 'node:path'
import process from 'node:process'
import { rollup } from 'rollup'

/**
 * These stay modules of their own. The loader finds the package by its own place, and tracers look into it for the names
 * of the platform packages; it imports the others.
 */
const ALONE = ['lib/core/load.js', 'lib/core/libc.js', 'lib/core/version.js']

/** No export: lib/core/backend.ts requires it where the binding cannot run. From lib/chunks, the relative path is the same. */
const OVER_NODE = 'lib/node/index.js'

const root = join(import.meta.dirname, '..')
const folder = resolve(process.argv[2] ?? root)
const dist = join(folder, 'dist')

rmSync(dist, { recursive: true, force: true })
const tsc = join(root, 'node_modules/typescript/bin/tsc')
execFileSync(process.execPath, [tsc, '-p', join(folder, 'tsconfig.build.json')], { stdio: 'inherit' })

const alone = new Set(ALONE.map((file) => join(dist, file)))
const compiled = { name: 'compiled', load: (file) => ({ code: read(file), map: read(`${file}.map`) }) }
const joined = await rollup({
  input: Object.fromEntries([...entryPoints(), OVER_NODE].map((file) => [file.replace(/\.js$/, ''), join(dist, file)])),
  external: (id) => isBuiltin(id) || alone.has(id),
  plugins: [compiled],
  // As package.json says.
  treeshake: { moduleSideEffects: false },
  onLog(_level, { code, message }) {
    // The compiler's helpers for `using` look for older ones in `this`.
    if (code !== 'THIS_IS_UNDEFINED') throw new Error(message)
  },
})
const { output } = await joined.write({
  dir: dist,
  chunkFileNames: 'lib/chunks/[name]-[hash].js',
  minifyInternalExports: false,
  hoistTransitiveImports: false,
  sourcemap: true,
  sourcemapExcludeSources: true,
})

const written = new Set([...output.map(({ fileName }) => fileName), ...ALONE.flatMap((file) => [file, `${file}.map`])])
for (const file of readdirSync(dist, { recursive: true }))
  if (/\.js(\.map)?$/.test(file) && !written.has(file)) rmSync(join(dist, file))

/** What package.json exports and installs, below dist/. */
function entryPoints() {
  const { exports, bin } = JSON.parse(read(join(folder, 'package.json')))
  const exported = Object.values(exports).flatMap(({ default: file }) => file ?? [])
  const files = [...exported, ...Object.values(bin)].filter((file) => file.endsWith('.js'))
  return files.map((file) => relative(dist, join(folder, file)))
}

function read(file) {
  return readFileSync(file, 'utf8')
}
