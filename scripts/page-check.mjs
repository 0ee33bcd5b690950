// Looks at the pages of the command in a headless Chromium, and ends with one line: `N passed, N failed, N skipped`.
//
//   npm run page-check
//
// Chromium is installed where it is missing, if this is root on a machine with apt-get, as .ci/run installs other tools;
// elsewhere a sentence says what to install, and that is a failure: here nothing is skipped. The tests are those of
// __test__/browser.spec.ts, which `npm test` has, too. Pictures of every page, wide and narrow, light and dark, are in
// target/page afterwards.

import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { chromiumPath } from '../__test__/chromium.ts'
import { install } from './debian.mjs'

const root = join(import.meta.dirname, '..')

// Debian's package has 100 MB, and its fonts are recommended only: a page without any would have no text to check.
if (chromiumPath() === undefined) install('chromium', 'fonts-dejavu-core')
if (chromiumPath() === undefined) {
  console.error(
    'deepring: there is no Chromium; install it (Debian: apt-get install chromium), or name it in DEEPRING_CHROMIUM',
  )
  console.log('\n0 passed, 1 failed, 0 skipped')
  process.exitCode = 1
} else {
  rmSync(join(root, 'target/page'), { recursive: true, force: true })
  const { status } = spawnSync(process.execPath, [join(root, 'scripts/test.mjs'), 'ts', '__test__/browser.spec.ts'], {
    cwd: root,
    env: { ...process.env, DEEPRING_PAGE_PICTURES: '1' },
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  process.exitCode = status ?? 1
}
