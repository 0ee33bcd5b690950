/**
 * The documentation as a site: it builds, which includes that every public item is documented and that no link is dead, and a
 * reader can use it.
 *
 * Without the reference of Rust, whose lints `npm run lint` has, and with a few pages in the browser; `npm run site` and `npm run
 * site-check` do all.
 */

import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { chromiumPath } from './chromium.ts'
import { root, run } from './packed.ts'

const PAGES = ['index.html', 'quick-start.html', 'errors.html', 'api/deepring/FileHandle.html']

test('README and the site lead to every page', (t) => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const listed = Object.values(
    JSON.parse(readFileSync(join(root, 'site/pages.json'), 'utf8')) as Record<string, string[]>,
  )
  const pages = globSync('docs/*.md', { cwd: root })
  t.true(pages.length > 25, `${pages.length}`)
  for (const page of pages) {
    t.true(listed.flat().includes(page.slice('docs/'.length, -'.md'.length)), `${page} is in site/pages.json`)
    if (page !== 'docs/renames.md')
      t.true(readme.slice(readme.indexOf('## More')).includes(`](${page})`), `${page} is in README`)
  }
})

test.serial('the site builds without a finding', async (t) => {
  const { status, stderr } = await run(process.execPath, [join(root, 'scripts/site.mjs'), '--fast'], root)
  t.is(status, 0, stderr)
})

const browser = 'the site is good in a browser'
if (chromiumPath() !== undefined) {
  test.serial(browser, async (t) => {
    const only = PAGES.flatMap((page) => ['--only', page])
    const { status, stdout, stderr } = await run(
      process.execPath,
      [join(root, 'scripts/site-check.mjs'), ...only],
      root,
    )
    t.is(status, 0, stdout + stderr)
  })
} else test.skip(`${browser} (there is no Chromium)`, () => {})
