/** Pages in a headless Chromium: {@link openBrowser}. */

import { accessSync, constants, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { launch, type Browser, type Page } from 'puppeteer-core'

/** Names of the program: Debian's, Ubuntu's, and that of its vendor. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome']

/** The Chromium of this machine; `undefined` if there is none. `DEEPRING_CHROMIUM` names another. */
export function chromiumPath(): string | undefined {
  const named = process.env['DEEPRING_CHROMIUM']
  if (named !== undefined && named !== '') return named
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(isProgram)
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Starts it. */
export function openBrowser(executablePath: string): Promise<Browser> {
  // Its sandbox does not work for root, and the pages are our own.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  return launch({ executablePath, args })
}

/** How a page is looked at. */
export interface Look {
  readonly width: number
  readonly scheme: 'light' | 'dark'
}

/** All of them. */
export const LOOKS: readonly Look[] = [360, 1280].flatMap((width) =>
  (['light', 'dark'] as const).map((scheme) => ({ width, scheme })),
)

const CHECKS = readFileSync(join(import.meta.dirname, 'programs/page-checks.js'), 'utf8')
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** A page that is open, and what it has complained of. */
export interface Shown {
  readonly page: Page
  /** Errors and warnings of its console, errors of its scripts, and addresses that it wanted. */
  readonly complaints: readonly string[]
}

/** Opens a file, with all that can be folded out. */
export async function show(browser: Browser, path: string, { width, scheme }: Look): Promise<Shown> {
  const page = await browser.newPage()
  const complaints: string[] = []
  const address = pathToFileURL(path).href
  page.on('console', (message) => complaints.push(`console: ${message.text()}`))
  page.on('pageerror', (error) => complaints.push(`error: ${String(error)}`))
  page.on('request', (request) => {
    if (request.url() !== address) complaints.push(`request: ${request.url()}`)
  })
  await page.setViewport({ width, height: 900 })
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }])
  await page.goto(address)
  await page.evaluate(CHECKS)
  await page.evaluate('openAll()')
  return { page, complaints }
}

/** Labels of charts that touch each other, an axis or the edge of their chart, and content that is wider than the page. */
export function overlaps(page: Page): Promise<string[]> {
  return page.evaluate('overlaps()') as Promise<string[]>
}

/** What axe finds, by its rules for WCAG 2.2 AA and its best practices. */
export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(AXE)
  return (await page.evaluate('violations()')) as string[]
}
