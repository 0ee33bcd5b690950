/** Pages: what they are made of, and `--html` of the command. `browser.spec.ts` looks at them in a browser. */

import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import * as fc from 'fast-check'
import { JSDOM } from 'jsdom'
import { html, lines, prose } from '../lib/command/page/html.ts'
import { kneeOf } from '../lib/command/page/knee.ts'
import { pageOf, type PageVerb } from '../lib/command/page/page.ts'
import { apart } from '../lib/command/page/plot.ts'
import { decades, fromZero, percents, powersOfTwo, type Scale } from '../lib/command/page/scale.ts'
import { deepring } from './command.ts'
import { benches, machines, tunings } from './documents.ts'
import { makeScratch } from './harness.ts'

const scratch = makeScratch()

/** The document that a page has inside. */
function documentIn(page: string): unknown {
  const { window } = new JSDOM(page)
  return JSON.parse(window.document.querySelector('#document')?.textContent ?? '')
}

// What pages are made of.

test('values in a template are escaped, and templates in it are not', (t) => {
  t.is(
    html`<p title="${'"<&>'}">${['a', html`<b>${'<'}</b>`, undefined, 1]}</p>`.text,
    '<p title="&quot;&lt;&amp;&gt;">a<b>&lt;</b>1</p>',
  )
  t.is(html`${'left\u202eright\u0000'}`.text, 'left\\u202eright\\u0000')
  t.is(lines('{\n "<\u202e"\n}').text, '{\n &quot;&lt;\\u202e&quot;\n}')
})

test('no line ends between a number and its unit', (t) => {
  t.is(prose('2 rounds of 1.07 GB, 94 %, 3'), '2\u00a0rounds of 1.07\u00a0GB, 94\u00a0%, 3')
})

const positive = fc.double({ min: -12, max: 12, noNaN: true }).map((power) => 10 ** power)

/** An axis whose labels grow, are all different, and contain all values. */
function checkScale(
  t: { true: (value: boolean, message?: string) => unknown },
  scale: Scale,
  values: readonly number[],
): void {
  for (const value of values) t.true(scale.at(value) >= -1e-9 && scale.at(value) <= 1 + 1e-9, `${value} is outside`)
  t.true(scale.ticks.length > 0)
  t.true(new Set(scale.ticks.map(({ label }) => label)).size === scale.ticks.length, JSON.stringify(scale.ticks))
  for (const [nth, { value }] of scale.ticks.entries())
    if (nth > 0) t.true(value > (scale.ticks[nth - 1]?.value ?? Infinity))
}

test('an axis from zero has zero, all values, and few round numbers', (t) => {
  fc.assert(
    fc.property(positive, fc.integer({ min: 2, max: 9 }), (max, most) => {
      const scale = fromZero(max, most)
      checkScale(t, scale, [0, max])
      t.true(scale.at(0) === 0 && scale.ticks[0]?.value === 0 && scale.ticks.length <= most + 1)
      // The label is the value, and not a rounded one.
      for (const { value, label } of scale.ticks) t.true(Math.abs(Number(label) - value) <= value * 1e-9, label)
    }),
  )
})

test('axes by powers contain all values', (t) => {
  fc.assert(
    fc.property(positive, positive, (one, two) => {
      const [min, max] = [Math.min(one, two), Math.max(one, two)]
      checkScale(t, powersOfTwo(min, max, 6, String), [min, max])
      checkScale(t, decades(min, max, String), [min, max])
    }),
  )
  const scale = percents([50, 75, 90, 99, 99.9])
  t.deepEqual(
    scale.ticks.map(({ label }) => label),
    ['50 %', '90 %', '99 %', '99.9 %'],
  )
  t.true(Math.abs(scale.at(99.9) - scale.at(99) - (scale.at(99) - scale.at(90))) < 1e-9)
})

test('names that are too close are moved apart, keep their order, and stay inside', (t) => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 200, noNaN: true }), { maxLength: 8 }), (places) => {
      const moved = apart(places, 16, 0, 200)
      const order = places.map((_, nth) => nth).toSorted((a, b) => (places[a] as number) - (places[b] as number))
      for (const [nth, at] of order.entries()) {
        t.true((moved[at] as number) >= -1e-9 && (moved[at] as number) <= 200 + 1e-9)
        if (nth > 0) t.true((moved[at] as number) - (moved[order[nth - 1] as number] as number) >= 16 - 1e-9)
      }
    }),
  )
  t.deepEqual(apart([10, 100, 50], 16, 0, 200), [10, 100, 50], 'what has room stays')
})

/** The knee of rates at 1, 2, 4, ... in flight. */
function kneeAt(rates: readonly number[]): unknown {
  return kneeOf(rates.map((median, nth) => ({ depth: 2 ** nth, rate: { median } })))
}

test('the knee is the least depth with nine tenths of the best rate', (t) => {
  t.deepEqual(kneeAt([10, 20, 40, 95, 100, 98]), { depth: 8, share: 0.95, isLast: false })
  t.deepEqual(kneeAt([10, 20, 40, 80]), { depth: 8, share: 1, isLast: true })
  t.deepEqual(kneeAt([100, 20, 40, 80]), { depth: 1, share: 1, isLast: false })
  t.is(kneeAt([10]), undefined)
  t.is(kneeAt([]), undefined)
})

test('a page has the document inside, whatever names are in it, and nothing that runs or loads', (t) => {
  const check = (verb: PageVerb, document: unknown): void => {
    const page = pageOf(verb, document)
    t.deepEqual(documentIn(page), JSON.parse(JSON.stringify(document)))
    const { window } = new JSDOM(page)
    t.is(window.document.querySelectorAll('script, link, img, iframe, object, [src], [href], [onerror]').length, 0)
    t.regex(page, /http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/)
    // oxlint-disable-next-line no-control-regex -- those are looked for
    t.notRegex(page, /[\u0000-\u0009\u000b-\u001f\u202a-\u202e]/)
    t.notRegex(page, /NaN|Infinity|undefined/)
  }
  const options = { numRuns: 20 }
  fc.assert(
    fc.property(benches, (document) => check('bench', document)),
    options,
  )
  fc.assert(
    fc.property(machines, (document) => check('info', document)),
    options,
  )
  fc.assert(
    fc.property(tunings, (document) => check('tune', document)),
    options,
  )
})

// The command.

test('info --html writes a page with the document of --json, beside the text', async (t) => {
  const path = `${scratch.path('info')}.html`
  writeFileSync(path, 'an older page')
  const { status, stdout, stderr } = await deepring('info', scratch.folder, '--html', path)
  t.deepEqual([status, stderr], [0, ''])
  t.regex(stdout, /^backend {2}/m)
  t.true(stdout.endsWith(`\n\nthe page is '${path}'\n`))
  const printed = JSON.parse((await deepring('info', scratch.folder, '--html', path, '--json')).stdout) as object
  t.deepEqual(documentIn(readFileSync(path, 'utf8')), printed)
})

test('a page that could not be written is refused before the work, and nothing is left', async (t) => {
  const folder = scratch.directory('refused')
  const words = ['bench', folder, '--io-size', '1T', '--html']
  for (const [path, sentence] of [
    [join(folder, 'none/page.html'), /^deepring bench: there is no '.*none'\n$/],
    [folder, /^deepring bench: --html: '.*' is not a file\n$/],
    ['/dev/null', /^deepring bench: --html: '\/dev\/null' is not a file\n$/],
  ] as const) {
    const { status, stderr } = await deepring(...words, path)
    t.is(status, 1)
    t.regex(stderr, sentence)
  }
  t.is((await deepring(...words)).status, 2)
  t.deepEqual(readdirSync(folder), [])
})

test.serial('bench --html writes the page also when a minimum was missed', async (t) => {
  const folder = scratch.directory('bench')
  const path = `${scratch.path('bench')}.html`
  const words = [
    '--io-size',
    '16M',
    '--loops',
    '1',
    '--only',
    'read,sync,random-1,random-8',
    '--min',
    'read=9999',
    '--no-fio',
  ]
  const { status, stdout } = await deepring('bench', folder, ...words, '--html', path, '--json')
  t.is(status, 1)
  const page = readFileSync(path, 'utf8')
  t.deepEqual(documentIn(page), JSON.parse(stdout))
  const { window } = new JSDOM(page)
  const text = window.document.body.textContent
  for (const part of ['is less than 9999', 'Large files', 'Small reads', 'How long a read takes', 'CPU for a GB'])
    t.true(text.includes(part), part)
  t.deepEqual(readdirSync(folder), [])
  t.true(existsSync(path))
})
