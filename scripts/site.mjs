// Builds the documentation: the pages of docs/, the examples, and the reference of both languages, as one site that can be
// read from its files, without a server and without a network.
//
//   npm run site                 all of it, into docs/api; open docs/api/index.html
//   npm run site -- --fast       without the reference of Rust
//   npm run docs                 the same checks, and nothing is written
//
// Both fail if a public item of TypeScript or Rust has no documentation, if a function or class of TypeScript has no
// example, or if a link leads nowhere.
//
// The generator is TypeDoc, which needs a TypeScript with an API (6) where this checkout compiles with one without (7). So it
// is a package of its own in site/, with its own lock file, which is installed here when it is first needed: `npm ci` in the
// root stays as quick as it was.
//
// TypeDoc takes pages as files with front matter, and their links only to other pages. The pages here are also read on the
// repository's site, so they are staged in target/site: with a title, with links to source files made absolute, with the
// examples as pages, and without the hidden lines of Rust.

import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join, posix, relative } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { CRATES, FEATURES, TIER } from './crates.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
const site = join(root, 'site')
const staged = join(root, 'target/site')
const out = join(root, 'docs/api')
const REPOSITORY = 'https://github.com/deepring/deepring/blob/main'

const { values: chosen } = parseArgs({
  options: { check: { type: 'boolean', default: false }, fast: { type: 'boolean', default: false } },
})

install()
const pages = listPages()
stage()
typedoc()
if (!chosen.fast) rustdoc()
if (!chosen.check) process.stdout.write(`\ndocumentation: ${join(relative(process.cwd(), out), 'index.html')}\n`)

function install() {
  const record = join(site, 'node_modules/.package-lock.json')
  const wanted = JSON.parse(readFileSync(join(site, 'package-lock.json'), 'utf8')).packages
  const found = existsSync(record) ? JSON.parse(readFileSync(record, 'utf8')).packages : {}
  const paths = Object.keys(wanted).filter((path) => path !== '')
  if (paths.every((path) => found[path]?.integrity === wanted[path].integrity)) return
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error', '--prefix', site])
}

/** The pages in the order of site/pages.json: address to file. A page that is not in that list is an error. */
function listPages() {
  const slugs = Object.values(JSON.parse(readFileSync(join(site, 'pages.json'), 'utf8'))).flat()
  // Those of the root have names in capitals.
  const files = new Map(slugs.map((slug) => [slug, slug === slug.toUpperCase() ? `${slug}.md` : `docs/${slug}.md`]))
  const listed = new Set(files.values())
  for (const file of globSync('docs/*.md', { cwd: root }))
    if (!listed.has(file)) stop(`${file} is not in site/pages.json`)
  for (const file of globSync('examples/*.ts', { cwd: root }).toSorted()) {
    if (file !== 'examples/main.ts') files.set(file.slice(0, -'.ts'.length), file)
  }
  return files
}

function stage() {
  rmSync(staged, { recursive: true, force: true })
  for (const [address, file] of pages) {
    const text = readFileSync(join(root, file), 'utf8')
    const [title, body] = file.endsWith('.ts') ? exampleAsPage(file, text) : [titleOf(file, text), linked(file, text)]
    const target = join(staged, stagedPath(file))
    mkdirSync(dirname(target), { recursive: true })
    const front = `---\ntitle: ${JSON.stringify(title)}\naddress: ${address}\n---\n`
    writeFileSync(target, file === 'README.md' ? withHero(body) : front + body)
  }
}

function stagedPath(file) {
  return file.replace(/\.ts$/, '.md')
}

function titleOf(file, text) {
  return /^# (.+)$/m.exec(text)?.[1].replaceAll('`', '') ?? stop(`${file} has no title`)
}

function exampleAsPage(file, text) {
  const [, comment = ''] = /^\/\*\*\n([\s\S]*?)\*\//.exec(text) ?? []
  const [first = ''] = comment.replaceAll(/^ \* ?/gm, '').split('\n\n')
  const name = posix.basename(file)
  return [name, `# ${name}\n\n${first.trim()}\n\n\`\`\`ts\n${text}\`\`\`\n`]
}

/** The front page: its first paragraph large, and where to go from there. */
function withHero(text) {
  const [, title, first] = /^# (.+)\n\n([\s\S]+?)\n\n/.exec(text)
  const actions = [
    ['quick-start', 'Quick start'],
    ['command', 'The command'],
    ['benchmarks', 'Benchmarks'],
  ].map(([slug, label]) => `<a href="docs/${slug}.md">${label}</a>`)
  const hero = `<div class="hero">\n<h1>${title}</h1>\n<p>${first}</p>\n<div class="actions">${actions.join('')}</div>\n</div>`
  return `${hero}\n\n${text.slice(title.length + first.length + 6)}`
}

/** The text with links that hold on the site, and without the hidden lines of Rust. */
function linked(file, text) {
  let fence
  return text
    .split('\n')
    .filter((line) => !(fence === 'rust' && line.startsWith('# ')))
    .map((line) => {
      const [, language] = /^```(\w*)/.exec(line) ?? []
      if (language !== undefined) fence = fence === undefined ? language : undefined
      if (fence !== undefined) return line.replace(/^(```rust),.*/, '$1')
      if (line.startsWith('#')) return line.replaceAll('`', '')
      return line.replaceAll(
        /\]\(([^)#\s]+)(#[^)\s]*)?\)/g,
        (_, target, hash = '') => `](${linkFrom(file, target)}${hash})`,
      )
    })
    .join('\n')
}

function linkFrom(file, target) {
  if (/^\w+:/.test(target)) return target
  const path = posix.normalize(posix.join(posix.dirname(file), target)).replace(/\/$/, '')
  if ([...pages.values()].includes(path)) return posix.relative(posix.dirname(file), stagedPath(path)) || target
  if (!existsSync(join(root, path))) stop(`${file} links to ${target}, which does not exist`)
  return `${REPOSITORY.replace(/blob/, statSync(join(root, path)).isDirectory() ? 'tree' : 'blob')}/${path}`
}

function typedoc() {
  const documents = [...pages.values()].flatMap((file) =>
    file === 'README.md' ? [] : ['--projectDocuments', join(staged, stagedPath(file))],
  )
  const output = chosen.check ? ['--emit', 'none'] : ['--out', out]
  const options = [
    '--options',
    join(site, 'typedoc.json'),
    '--logLevel',
    'Warn',
    '--basePath',
    root,
    '--readme',
    join(staged, 'README.md'),
  ]
  run(process.execPath, [join(site, 'node_modules/typedoc/bin/typedoc'), ...options, ...documents, ...output])
}

function rustdoc() {
  const made = join(root, 'target/doc')
  rmSync(made, { recursive: true, force: true })
  const crates = CRATES.flatMap((name) => ['-p', name])
  const options = ['--no-deps', '--locked', '--quiet', '--features', FEATURES.join()]
  run('cargo', ['doc', ...crates, ...options], { RUSTDOCFLAGS: '-D warnings' })
  // Into the same folder, so that one search finds all crates.
  run('cargo', ['doc', ...TIER.parameters, '--no-deps', '--quiet'], { RUSTDOCFLAGS: '-D warnings' })
  if (!chosen.check) cpSync(made, join(out, 'rust'), { recursive: true })
}

function run(command, parameters, environment = {}) {
  const { status, error } = spawnSync(command, parameters, {
    cwd: root,
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  if (error || status !== 0) stop(`\`${command}\` failed${error ? `: ${error.message}` : ''}`)
}

function stop(message) {
  process.stderr.write(`documentation: ${message}\n`)
  process.exit(1)
}
