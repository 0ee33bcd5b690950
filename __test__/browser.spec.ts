/**
 * Pages of the command in a headless Chromium, on a phone and a desk, light and dark. `npm run page-check` installs Chromium
 * where it is missing, and keeps pictures in target/page; here its absence makes skipped tests.
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import type { Browser } from 'puppeteer-core'
import { pageOf } from '../lib/command/page/page.ts'
import { chromiumPath, LOOKS, openBrowser, overlaps, show, violations } from './chromium.ts'
import { deepring } from './command.ts'
import { benches, machines, tunings } from './documents.ts'
import { makeScratch } from './harness.ts'
import { root } from './packed.ts'

const scratch = makeScratch()
const chromium = chromiumPath()
const SEED = Number(process.env['DEEPRING_TEST_SEED'] ?? 21)

/** Documents that are drawn for each verb. */
const DRAWN = 6

let browser: Browser

if (chromium !== undefined) {
  test.before(async () => {
    browser = await openBrowser(chromium)
  })
  test.after.always(() => browser?.close())
}

function testInBrowser(title: string, body: (t: import('ava').ExecutionContext) => Promise<void>): void {
  if (chromium === undefined) test.skip(`${title} (there is no Chromium)`, () => {})
  else test.serial(title, body)
}

/** Every look at a page: it renders, complains of nothing, has no labels that touch, and is accessible. */
async function check(t: import('ava').ExecutionContext, path: string, name: string): Promise<void> {
  for (const look of LOOKS) {
    const { page, complaints } = await show(browser, path, look)
    const about = `${name}, ${look.width} pixels, ${look.scheme}`
    t.true((await page.$$('h1, section, table')).length >= 3, about)
    t.deepEqual(complaints, [], about)
    t.deepEqual(await overlaps(page), [], about)
    t.deepEqual(await violations(page), [], about)
    if (process.env['DEEPRING_PAGE_PICTURES'] !== undefined) {
      const folder = join(root, 'target/page')
      mkdirSync(folder, { recursive: true })
      await page.screenshot({ path: join(folder, `${name}-${look.width}-${look.scheme}.png`), fullPage: true })
    }
    await page.close()
  }
}

testInBrowser('the page of a bench is whole and accessible, on a phone and a desk, light and dark', async (t) => {
  const folder = scratch.directory('bench')
  const path = `${scratch.path('bench')}.html`
  const only = 'read,overwrite,new,sync,random-1,random-2,random-8,random-32,random-128,many,mixed,latency'
  const words = ['--io-size', '16M', '--loops', '1', '--only', only]
  t.is((await deepring('bench', folder, ...words, '--html', path)).status, 0)
  await check(t, path, 'bench')
})

testInBrowser('so is the page of info', async (t) => {
  const path = `${scratch.path('info')}.html`
  t.is((await deepring('info', scratch.folder, '--html', path)).status, 0)
  await check(t, path, 'info')
})

testInBrowser('so are those of machines with strange names and rates of all sizes', async (t) => {
  t.log(`seed ${SEED}`)
  for (const [verb, documents] of [
    ['bench', fc.sample(benches, { seed: SEED, numRuns: DRAWN })],
    ['info', fc.sample(machines, { seed: SEED, numRuns: DRAWN })],
    ['tune', fc.sample(tunings, { seed: SEED, numRuns: DRAWN })],
  ] as const)
    for (const [nth, document] of documents.entries()) {
      const path = `${scratch.path('drawn')}.html`
      writeFileSync(path, pageOf(verb, document))
      await check(t, path, `drawn-${verb}-${nth}`)
    }
})

testInBrowser('on paper, what is folded on the screen is printed, but for the JSON document', async (t) => {
  const path = `${scratch.path('printed')}.html`
  writeFileSync(path, pageOf('bench', fc.sample(benches, { seed: SEED, numRuns: 1 })[0]))
  const page = await browser.newPage()
  await page.goto(`file://${path}`)
  const isShown = (selector: string): Promise<unknown> =>
    page.evaluate(`document.querySelector('${selector}').checkVisibility()`)
  t.false(await isShown('details table'))
  await page.emulateMediaType('print')
  t.true(await isShown('details table'))
  t.false(await isShown('#document'))
  await page.close()
})

testInBrowser(
  'the checks see labels that touch, a page that is too wide, a script, and a table without a name',
  async (t) => {
    const path = `${scratch.path('planted')}.html`
    const whole = pageOf(
      'bench',
      fc.sample(benches, { seed: SEED, numRuns: 20 }).find(({ tasks }) => tasks.length > 8),
    )
    const planted = async (
      from: string | RegExp,
      to: string,
    ): Promise<readonly [string[], string[], readonly string[]]> => {
      t.not(whole.replace(from, to), whole)
      writeFileSync(path, whole.replace(from, to))
      const { page, complaints } = await show(browser, path, { width: 360, scheme: 'light' })
      const found = [await overlaps(page), await violations(page), complaints] as const
      await page.close()
      return found
    }
    const [touching] = await planted(/<text [^>]*class="tick middle">/g, '<text x="50" y="50" class="tick middle">')
    t.true(touching.some((words) => / and '/.test(words)))
    const [wide] = await planted('<h2>', '<div style="width: 400px">x</div><h2>')
    t.true(wide.some((words) => words.startsWith('the page is ')))
    const [, unnamed] = await planted(/role="img"\s+aria-label="[^"]*"/g, 'role="img"')
    t.true(unnamed.some((words) => words.startsWith('svg-img-alt')))
    const [, , complained] = await planted('<h2>', '<script>1</script><img src="https://example.org/x.png"><h2>')
    t.true(complained.some((words) => /script/.test(words)) && complained.some((words) => /image|img/.test(words)))
  },
)
