/** The command `deepring` in a terminal: colors, bars of progress, and what is left on the screen. */

import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { openCheckpoints } from '../lib/checkpoint/index.ts'
import { saveSafetensors } from '../lib/safetensors/index.ts'
import { openSwap } from '../lib/swap/index.ts'
import { deepring, onTerminal } from './command.ts'
import { makeScratch } from './harness.ts'

const scratch = makeScratch()
const MIB = 1 << 20
const ESCAPE = '\u001B['

const TENSORS = { weight: { dtype: 'F32', shape: [1024], data: new Float32Array(1024).fill(1) } } as const
const model = join(scratch.folder, 'model.safetensors')
const store = join(scratch.folder, 'run')
const swap = join(scratch.folder, 'swap')
const large = join(scratch.folder, 'large')

test.before(async () => {
  await saveSafetensors(model, TENSORS, { checksum: 'crc32c' })
  await using opened = await openCheckpoints(store, { create: true })
  await opened.save(TENSORS, { step: 1 })
  const made = await openSwap(swap, { memory: MIB, create: true })
  await made.put('weight', TENSORS.weight)
  await made.close()
  writeFileSync(large, randomBytes(300 * MIB))
})

/** Every verb that changes nothing shows the same in a terminal as in a pipe, but for its colors. */
for (const [verb, words] of Object.entries({
  info: ['info', scratch.folder],
  doctor: ['doctor', '/proc/self'],
  ls: ['ls', model],
  'ls --tree': ['ls', model, '--tree'],
  verify: ['verify', model],
  'checkpoint list': ['checkpoint', 'list', store],
  'checkpoint verify': ['checkpoint', 'verify', store],
  'checkpoint pin': ['checkpoint', 'pin', store, '1'],
  'checkpoint unpin': ['checkpoint', 'unpin', store, '1'],
  'checkpoint collect': ['checkpoint', 'collect', store],
  'swap stats': ['swap', 'stats', swap],
  convert: ['convert', model, join(scratch.folder, 'again.safetensors')],
  completion: ['completion', 'fish'],
})) {
  test.serial(`${verb} shows the same in a terminal as in a pipe`, async (t) => {
    const piped = await deepring(...words)
    const shown = await onTerminal(words)
    t.is(shown.status, 0)
    t.is(piped.stderr, '')
    // Long lines are broken by the terminal.
    t.is(
      shown.lines.join(''),
      piped.stdout
        .split('\n')
        .filter((line) => line !== '')
        .join(''),
    )
  })
}

test.serial('colors are in a terminal, and not with NO_COLOR, nor in a dumb one', async (t) => {
  const words = ['info', scratch.folder]
  t.true((await onTerminal(words)).raw.includes(`${ESCAPE}32m`))
  t.false((await onTerminal(words, { NO_COLOR: '1' })).raw.includes(`${ESCAPE}32m`))
  t.false((await onTerminal(words, { TERM: 'dumb' })).raw.includes(`${ESCAPE}32m`))
})

test.serial('a bar shows what is done, the rate and the time that is left, and is gone at the end', async (t) => {
  const sha = createHash('sha256').update('').digest('hex')
  const { status, bars, lines } = await onTerminal(['verify', large, '--sha256', sha])
  t.is(status, 1)
  t.true(
    bars.some((bar) => /^verify {2}[█░]{20} +\d+ % {2}.* of 315 MB {2}.*\/s {2}\d+:\d\d left$/.test(bar)),
    bars.join('\n'),
  )
  t.is(lines.length, 2, lines.join('\n'))
  t.regex(lines.join(''), /^damaged '/)
})

test.serial('a pipe gets no bar', async (t) => {
  const { stderr } = await deepring('cp', '--no-clone', '--verify', large, join(scratch.folder, 'copy'))
  t.is(stderr, '')
})

test.serial('cp shows a bar, and one line at the end', async (t) => {
  const { status, bars, lines } = await onTerminal([
    'cp',
    '--no-clone',
    '--verify',
    large,
    join(scratch.folder, 'copy'),
  ])
  t.is(status, 0)
  t.true(bars.some((bar) => bar.startsWith('cp  ')))
  t.is(lines.length, 1)
  t.regex(lines[0] ?? '', /^1 file, 315 MB; 315 MB copied in .*; 1 read back and compared$/)
})

test.serial('an error is one red line', async (t) => {
  const { status, raw, lines } = await onTerminal(['ls', join(scratch.folder, 'none')])
  t.is(status, 1)
  t.true(raw.includes(`${ESCAPE}31m`))
  t.is(lines.length, 1)
})

test.serial('bench shows which round it is in, and a table at the end', async (t) => {
  const words = ['bench', scratch.folder, '--io-size', '16M', '--loops', '1', '--only', 'read,overwrite', '--no-fio']
  const { status, bars, lines } = await onTerminal(words)
  t.is(status, 0)
  t.true(
    bars.some((bar) => bar.startsWith('bench  round 2 of 2: ')),
    bars.join('\n'),
  )
  t.true(lines.some((line) => /^read +[\d.]+ +GB\/s/.test(line)))
  t.false(lines.some((line) => line.startsWith('bench  ')))
})
