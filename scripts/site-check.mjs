// Looks at the built documentation as a reader does: every link of every page, and in a headless Chromium every page of the
// guide, one of each kind of the reference, and the search.
//
//   npm run site-check                    after `npm run site`
//   npm run site-check -- --only files.html   one page; may be repeated
//   npm run site-check -- --shots DIR     also writes screenshots
//
// A page has to render without an error in the console, to fit into 360 and 1280 pixels, and to have no violation that axe
// finds, in light and in dark. The search has to find a word of a page and a name of the reference.
//
// First all of that is tried on a page with planted faults, which must be found. Chromium is the one in PATH, or that of
// DEEPRING_CHROMIUM. Exit code 1 if anything was found, 2 if there is no Chromium or no site.

import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import process from 'node:process'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { chromiumPath, openBrowser } from '../__test__/chromium.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const site = join(root, 'docs/api')
const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js')
const WIDTHS = [360, 1280]
const SCHEMES = ['light', 'dark']
/** What the planted page has wrong: a word of each finding. */
const PLANTED = ['absent.html', '#absent', 'planted', 'pixels', 'image-alt']

const { values: chosen } = parseArgs({
  options: { only: { type: 'string', multiple: true }, shots: { type: 'string' } },
})
const chromium = chromiumPath() ?? stop('there is no Chromium: apt-get install chromium, or set DEEPRING_CHROMIUM')
if (!existsSync(join(site, 'index.html'))) stop('there is no site: npm run site')

const browser = await openBrowser(chromium)
let all
try {
  await checkTheCheck()
  const links = deadLinks(site)
  const pages = chosen.only ?? pagesToLookAt()
  const seen = []
  for (const page of pages) seen.push(...(await look(site, page)))
  all = [...links, ...seen, ...(await search())]
  console.log(
    `${globSync('**/*.html', { cwd: site, exclude: ['rust'] }).length} pages, ${pages.length} of them in ${await browser.version()}`,
  )
} finally {
  await browser.close()
}
for (const finding of all) console.error(finding)
console.log(all.length === 0 ? 'the site is good' : `${all.length} findings`)
process.exit(all.length === 0 ? 0 : 1)

/** All pages of the guide and the examples, and of each kind of the reference the first. */
function pagesToLookAt() {
  const guide = globSync(['*.html', 'examples/*.html'], { cwd: site }).toSorted()
  const kinds = new Map()
  for (const page of globSync('api/**/*.html', { cwd: site }).toSorted()) {
    const kind = /<h1[^>]*>(\w+(?: \w+)?) /.exec(readFileSync(join(site, page), 'utf8'))?.[1]
    if (!kinds.has(kind)) kinds.set(kind, page)
  }
  return [...guide, ...kinds.values()]
}

/** Links within the site that lead to no file, or to no place in it. */
function deadLinks(folder) {
  const findings = []
  const places = new Map()
  const placesOf = (file) => {
    if (!places.has(file))
      places.set(file, new Set([...readFileSync(file, 'utf8').matchAll(/ id="([^"]*)"/g)].map(([, id]) => id)))
    return places.get(file)
  }
  for (const page of globSync('**/*.html', { cwd: folder, exclude: ['rust'] })) {
    const file = join(folder, page)
    const text = readFileSync(file, 'utf8').replaceAll(/<script[\s\S]*?<\/script>/g, '')
    for (const [, link] of text.matchAll(/ (?:href|src)="([^"]+)"/g)) {
      // `#icon-...` are symbols that icons.js brings into the page.
      if (/^[a-z]+:/.test(link) || link.startsWith('#icon-') || link === '#') continue
      const [path, place] = link.replaceAll('&amp;', '&').split('#')
      const target = path === '' ? file : join(dirname(file), decodeURI(path))
      if (!existsSync(target)) findings.push(`${page}: ${link} leads to no file`)
      else if (
        place &&
        target.endsWith('.html') &&
        !relative(folder, target).startsWith('rust') &&
        !placesOf(target).has(decodeURIComponent(place))
      )
        findings.push(`${page}: ${link} leads to no place in its page`)
    }
  }
  return findings
}

/** What is wrong with a page in the browser. */
async function look(folder, path) {
  const findings = []
  const page = await browser.newPage()
  page.on('pageerror', (error) => findings.push(`${path}: ${error.message}`))
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) findings.push(`${path}: ${message.text()}`)
  })
  for (const scheme of SCHEMES) {
    await page.emulateMediaFeatures([
      { name: 'prefers-color-scheme', value: scheme },
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ])
    for (const width of WIDTHS) {
      await page.setViewport({ width, height: 900 })
      await page.goto(pathToFileURL(join(folder, path)).href)
      await page.waitForFunction(() => globalThis.document.body.style.display !== 'none')
      const wide = await page.evaluate(() => globalThis.document.documentElement.scrollWidth)
      if (wide > width) findings.push(`${path}: ${wide} pixels wide in a window of ${width}`)
      if (chosen.shots !== undefined) {
        mkdirSync(chosen.shots, { recursive: true })
        await page.screenshot({ path: join(chosen.shots, `${path.replaceAll('/', '-')}-${width}-${scheme}.png`) })
      }
    }
    await page.addScriptTag({ path: axe })
    const { violations } = await page.evaluate(() => globalThis.axe.run({ preload: false }))
    for (const { id, nodes } of violations) {
      findings.push(
        `${path}, ${scheme}: ${id}: ${nodes
          .map(({ html }) => html.slice(0, 120))
          .slice(0, 3)
          .join(' | ')}`,
      )
    }
  }
  await page.close()
  return findings
}

/** Types words as a reader does, and follows the first result. */
async function search() {
  const findings = []
  const page = await browser.newPage()
  await page.setViewport({ width: 1280, height: 900 })
  for (const [word, wanted] of [
    ['seccomp', 'docker.html'],
    ['readMany', 'api/deepring/'],
  ]) {
    await page.goto(pathToFileURL(join(site, 'index.html')).href)
    await page.waitForSelector('#tsd-search-trigger', { visible: true })
    await page.click('#tsd-search-trigger')
    await page.type('#tsd-search-input', word)
    await page.waitForSelector('#tsd-search-results li a', { timeout: 10_000 }).catch(() => {})
    const links = await page.$$eval('#tsd-search-results li a', (results) => results.map(({ href }) => href))
    if (!links.some((link) => link.includes(wanted)))
      findings.push(`the search for ${word} finds ${links.join(', ') || 'nothing'}`)
  }
  await page.close()
  return findings
}

/** A page with a fault of each kind: whoever looks at the site must see them. */
async function checkTheCheck() {
  const folder = mkdtempSync(join(tmpdir(), 'deepring-site-'))
  try {
    writeFileSync(
      join(folder, 'planted.html'),
      `<!doctype html><html lang="en"><title>Planted</title><body><main><h1>Planted</h1>
       <a href="absent.html">a</a><a href="#absent">b</a><p style="width: 2000px">wide</p><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">
       <script>console.error('planted')</script></main></body></html>`,
    )
    const found = [...deadLinks(folder), ...(await look(folder, 'planted.html'))]
      .map((finding) => finding.slice('planted.html'.length))
      .join('\n')
    const missed = PLANTED.filter((word) => !found.includes(word))
    if (missed.length > 0) throw new Error(`planted faults were not found: ${missed.join(', ')}\n${found}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function stop(message) {
  process.stderr.write(`site-check: ${message}\n`)
  process.exit(2)
}
