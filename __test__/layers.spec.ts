/**
 * Imports run downward: the layers of docs/architecture.md, held against the sources.
 *
 * Circles among TypeScript modules are refused by oxlint (`import/no-cycle`). This test holds the direction, and for the
 * crate also that the only circle is Engine and File.
 */

import test from 'ava'
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'

const root = join(import.meta.dirname, '..')

/** Modules that are compiled for tests only stand beside the layers. */
const BESIDE = new Set(['sim', 'loom', 'fuzz'])

/** The one circle: each hands out the other. */
const CIRCLE = 'engine file'

interface Import {
  readonly from: string
  readonly to: string
  readonly file: string
}

/** The names of each layer, from the top down: the first column of the table between two lines of `section`. */
function layersOf(first: RegExp, last: RegExp): string[][] {
  const lines = readFileSync(join(root, 'docs/architecture.md'), 'utf8').split('\n')
  const start = lines.findIndex((line) => first.test(line))
  const end = lines.findIndex((line, index) => index > start && last.test(line))
  const rows = lines.slice(start + 1, end).filter((line) => /^ {2}\S/.test(line))
  return rows.map((line) => {
    const [names = ''] = line.trim().split(/ {3,}/)
    return names.split(/,? +/).map((name) => name.replace(/\/$/, ''))
  })
}

function sources(directory: string, suffix: string): string[] {
  const entries = readdirSync(directory, { recursive: true, encoding: 'utf8' })
  return entries.filter((name) => name.endsWith(suffix)).map((name) => join(directory, name))
}

/** Imports between the modules at the top of a crate, those of unit tests left out. */
function crateImports(crate: string): Import[] {
  const source = join(root, 'crates', crate, 'src')
  const imports: Import[] = []
  for (const path of sources(source, '.rs')) {
    const file = relative(source, path)
    const from = (file.split('/')[0] as string).replace(/\.rs$/, '')
    if (from === 'lib' || BESIDE.has(from)) continue
    const [code = ''] = readFileSync(path, 'utf8').split('#[cfg(test)]\nmod tests')
    for (const line of code.split('\n')) {
      if (line.trimStart().startsWith('//')) continue
      for (const [, to] of line.matchAll(/\bcrate::([a-z_]+)/g)) imports.push({ from, to: to as string, file })
    }
  }
  return imports.filter(({ from, to }) => from !== to && !BESIDE.has(to))
}

/** Imports between the folders of lib/. */
function libraryImports(): Import[] {
  const source = join(root, 'lib')
  const imports: Import[] = []
  for (const path of sources(source, '.ts')) {
    const file = relative(root, path)
    const from = folderOf(file)
    for (const [, target] of readFileSync(path, 'utf8').matchAll(/from '(\.[^']+)'/g)) {
      const to = folderOf(relative(root, join(path, '..', target as string)))
      if (to !== from) imports.push({ from, to, file })
    }
  }
  return imports
}

function folderOf(file: string): string {
  return file.split('/').slice(0, 2).join('/')
}

/** What breaks the law: imports of something that has no layer, or stands higher. */
function violations(layers: readonly string[][], imports: readonly Import[]): string[] {
  const layerOf = (name: string): number => layers.findIndex((names) => names.includes(name))
  const broken = imports.filter(
    ({ from, to }) => layerOf(from) === -1 || layerOf(to) === -1 || layerOf(to) < layerOf(from),
  )
  return [...new Set(broken.map(({ from, to, file }) => `${file}: ${from} imports ${to}`))]
}

/** The pairs of modules of which each reaches the other. */
function circles(imports: readonly Import[]): string[] {
  const direct = new Map<string, Set<string>>()
  for (const { from, to } of imports) direct.set(from, (direct.get(from) ?? new Set()).add(to))
  const reachedFrom = (start: string): Set<string> => {
    const reached = new Set<string>()
    const open = [start]
    for (let name = open.pop(); name !== undefined; name = open.pop()) {
      for (const next of direct.get(name) ?? []) {
        if (!reached.has(next)) open.push(next)
        reached.add(next)
      }
    }
    return reached
  }
  const names = [...direct.keys()].toSorted()
  const pairs = names.flatMap((one) => names.filter((two) => one < two).map((two) => [one, two] as const))
  return pairs
    .filter(([one, two]) => reachedFrom(one).has(two) && reachedFrom(two).has(one))
    .map(([one, two]) => `${one} ${two}`)
}

test('imports of the crate run downward, and only Engine and File import each other', (t) => {
  const layers = layersOf(/the crate's public API/, /^```/)
  t.true(layers.length > 8, 'the layers were found')
  const imports = crateImports('deepring')
  t.true(imports.length > 100, 'the imports were found')
  t.deepEqual(violations(layers, imports), [])
  t.deepEqual(circles(imports), [CIRCLE])
})

test('imports of the crate of tensors run downward, without circles', (t) => {
  const layers = layersOf(/crates\/deepring-tensors$/, /the crate's public API/)
  t.true(layers.length > 8, 'the layers were found')
  const imports = crateImports('deepring-tensors')
  t.true(imports.length > 40, 'the imports were found')
  t.deepEqual(violations(layers, imports), [])
  t.deepEqual(circles(imports), [])
})

test('imports of the crate of objects run downward, without circles', (t) => {
  const layers = layersOf(/^`crates\/deepring-object-store` stands on/, /^```$/)
  t.true(layers.length > 6, 'the layers were found')
  const imports = crateImports('deepring-object-store')
  t.true(imports.length > 20, 'the imports were found')
  t.deepEqual(violations(layers, imports), [])
  t.deepEqual(circles(imports), [])
})

test('imports of the crate of cached objects run downward, without circles', (t) => {
  const layers = layersOf(/^`crates\/deepring-tier` stands on/, /^```$/)
  t.true(layers.length > 6, 'the layers were found')
  const imports = crateImports('deepring-tier')
  t.true(imports.length > 40, 'the imports were found')
  t.deepEqual(violations(layers, imports), [])
  t.deepEqual(circles(imports), [])
})

test('imports of lib/ run downward', (t) => {
  const layers = layersOf(/^## The layers/, /Node-API/)
  const imports = libraryImports()
  t.true(imports.length > 20, 'the imports were found')
  t.deepEqual(violations(layers, imports), [])
})

test('the law sees an import that runs upward, a module without a layer and a new circle', (t) => {
  const layers = [['driver'], ['plan', 'slots']]
  const up: Import = { from: 'plan', to: 'driver', file: 'plan.rs' }
  const down: Import = { from: 'driver', to: 'plan', file: 'driver/mod.rs' }
  t.deepEqual(violations(layers, [down, up]), ['plan.rs: plan imports driver'])
  t.deepEqual(violations(layers, [{ ...up, to: 'helpers' }]), ['plan.rs: plan imports helpers'])
  t.deepEqual(circles([down, up]), ['driver plan'])
})
