// Builds the binaries that are published, for all platforms, on this machine: target/binaries/deepring.<triple>.node.
//
//   node scripts/binaries.mjs                        all
//   node scripts/binaries.mjs --only linux-x64-musl  some

import process from 'node:process'
import { parseArgs } from 'node:util'
import { build, TARGETS } from './cross.mjs'

const { values: chosen } = parseArgs({ options: { only: { type: 'string', multiple: true } } })
const all = Object.keys(TARGETS)
const triples = all.filter((triple) => chosen.only === undefined || chosen.only.includes(triple))
if (triples.length < (chosen.only?.length ?? 1)) {
  process.stderr.write(`deepring: no such platform; these exist: ${all.join(', ')}\n`)
  process.exit(1)
}
build(triples)
