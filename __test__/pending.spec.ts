/** The table of pending requests, against a `Map`. */

import test from 'ava'
import * as fc from 'fast-check'
import { Pending } from '../lib/core/pending.ts'

interface Entry {
  readonly id: number
}

test('it holds what a Map would hold, for any sequence of entries', (t) => {
  const steps = fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, { weight: 2, arbitrary: fc.nat() }), {
    maxLength: 6000,
    size: 'max',
  })
  fc.assert(
    fc.property(steps, (choices) => {
      const pending = new Pending<Entry>()
      const model = new Map<number, Entry>()
      for (const choice of choices) {
        const ids = [...(choice % 17 === 0 ? model.keys() : [])]
        const id = choice < 0 || ids.length === 0 ? undefined : ids[choice % ids.length]
        if (id === undefined) {
          const entry = { id: pending.nextId() }
          if (model.has(entry.id)) return false
          pending.add(entry)
          model.set(entry.id, entry)
        } else {
          if (pending.take(id) !== model.get(id)) return false
          model.delete(id)
          if (pending.has(id) || pending.take(id) !== undefined) return false
        }
        if (pending.size !== model.size) return false
      }
      return [...model.keys()].every((id) => pending.has(id))
    }),
    { numRuns: 30 },
  )
  t.pass()
})

test('all later numbers skip the slot of an entry that stays', (t) => {
  const pending = new Pending<Entry>()
  const old = { id: pending.nextId() }
  pending.add(old)
  const seen = new Set<number>([old.id])
  for (let i = 0; i < 10_000; i += 1) {
    const entry = { id: pending.nextId() }
    t.false(seen.has(entry.id))
    seen.add(entry.id)
    pending.add(entry)
    if (pending.take(entry.id) !== entry) return t.fail(`entry ${i}`)
  }
  t.is(pending.take(old.id), old)
})

test('a million entries are held and found', (t) => {
  const pending = new Pending<Entry>()
  const entries = Array.from({ length: 1_000_000 }, () => {
    const entry = { id: pending.nextId() }
    pending.add(entry)
    return entry
  })
  t.is(pending.size, 1_000_000)
  t.true(entries.toReversed().every((entry) => pending.take(entry.id) === entry))
  t.is(pending.size, 0)
})

test('a number without an entry is not found', (t) => {
  const pending = new Pending<Entry>()
  t.false(pending.has(1))
  t.is(pending.take(1), undefined)
  t.is(pending.take(2 ** 40), undefined)
})
