// Lets Node 22 run sources with `using`, which it cannot parse: loaded ahead of the suite there (scripts/runtimes.mjs). What is
// published was compiled for it. Tests of that start Node 20, too, which loads this file and has no such hooks.

import { readFileSync } from 'node:fs'
import module, { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)

module.registerHooks?.({
  load(url, context, nextLoad) {
    const path = url.startsWith('file:') && /\.m?ts$/.test(url) ? fileURLToPath(url) : undefined
    const source = path && readFileSync(path, 'utf8')
    if (!source || !/^\s*(await )?using \w/m.test(source)) return nextLoad(url, context)
    const { transformSync } = require('esbuild')
    const options = { loader: 'ts', format: 'esm', target: 'node22', sourcemap: 'inline', sourcefile: path }
    return { format: 'module', source: transformSync(source, options).code, shortCircuit: true }
  },
})
