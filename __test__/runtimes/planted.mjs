// The planted bug: file bytes are written into memory of another owner. The check of the victims must detect it, and
// nothing before it.

import { closeSync, openSync, readSync } from 'node:fs'
import { expect, parameters, report } from './host.mjs'
import { Victims } from './victims.mjs'

const { path } = parameters
const victims = new Victims()
let last
victims.take(20, 100_000, (size) => (last = new Uint8Array(size)))
expect(victims.disturbed().length === 0, 'nothing is disturbed yet')

const fd = openSync(path, 'r')
readSync(fd, last, 512, 4096, 8192)
closeSync(fd)
const [found, ...others] = victims.disturbed()
expect(others.length === 0, 'one piece is disturbed')
expect(/^piece 19 has, at 512, position 8192 of file 1, generation 0$/.test(found), `the stray is recognised: ${found}`)

// A stray byte that belongs to no file is detected as well.
last.fill(20)
last[77_777] ^= 1
expect(victims.disturbed()[0] === 'piece 19 has, at 77777, 21 in place of 20', `${victims.disturbed()}`)
report({ disturbed: 2 })
