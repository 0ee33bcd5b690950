/** The count line of `npm test` says what the runners said: a skipped test is not a passed one. */

import test from 'ava'
import { cargoCounter, cargoReports, tapCounter, tapReports, type Count, type LineCounter } from '../scripts/count.ts'

function counted(counter: (count: Count) => LineCounter, output: string): Count {
  const count = { passed: 0, failed: 0, skipped: 0 }
  output.split('\n').forEach(counter(count))
  return count
}

test('the results of all test binaries of cargo are added up', (t) => {
  const output = `
running 6 tests
test plan::tests::an_extent ... ok
test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

running 3 tests
test a_read ... FAILED
test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.20s`
  t.deepEqual(counted(cargoCounter, output), { passed: 7, failed: 1, skipped: 1 })
})

test('a Rust test that cannot run here is skipped, not passed', (t) => {
  const output = `
test a_full_disk ...${' '}
skipped: a_full_disk: it needs root
ok
test a_read ... ok
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
  t.deepEqual(counted(cargoCounter, output), { passed: 1, failed: 0, skipped: 1 })
})

test('a Rust test that reports several skips counts as one skipped test', (t) => {
  const output = `
skipped: a_full_disk: there is no mkfs.xfs
skipped: a_full_disk: there is no mkfs.btrfs
skipped: in_memory: there is no /dev/shm
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
  t.deepEqual(counted(cargoCounter, output), { passed: 3, failed: 0, skipped: 2 })
})

test('a Rust test that reports a skip and fails has failed', (t) => {
  const output = `
test a_full_disk ...${' '}
skipped: a_full_disk: there is no mkfs.xfs
FAILED

failures:

---- a_full_disk stdout ----
assertion failed: false

failures:
    a_full_disk

test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
  t.deepEqual(counted(cargoCounter, output), { passed: 4, failed: 1, skipped: 0 })
})

test('the skips of one binary do not count for the next', (t) => {
  const output = `
skipped: a_full_disk: it needs root
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
  t.deepEqual(counted(cargoCounter, output), { passed: 3, failed: 0, skipped: 1 })
})

test("ava's skipped and unwritten tests are skipped", (t) => {
  const output = `
TAP version 13
ok 1 - exact > a read
not ok 2 - exact > a write
ok 3 - exact > a full disk # SKIP
not ok 4 - exact > a fuller disk # TODO
    # a line that a test logged: ok 5
1..4`
  t.deepEqual(counted(tapCounter, output), { passed: 1, failed: 1, skipped: 2 })
})

test('what each failed test printed is repeated at the end', (t) => {
  const reports: string[] = []
  const cargo = `
successes:

---- a_read stdout ----
3 orders

successes:
    a_read

failures:

---- a_full_disk stdout ----
assertion failed: false

failures:
    a_full_disk

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`
  cargo.split('\n').forEach(cargoReports(reports))
  const tap = `
ok 1 - exact › a read
not ok 2 - exact › a write
#   seed 7: the program printed

#   nothing
  ---
    message: bytes differ
  ...
# the folder is removed
ok 3 - exact › a copy
    # a line that a test logged
not ok 4 - exact › a fuller disk # TODO`
  tap.split('\n').forEach(tapReports(reports))
  t.deepEqual(reports, [
    '---- a_full_disk stdout ----\nassertion failed: false\n',
    [
      'not ok 2 - exact › a write',
      '#   seed 7: the program printed',
      '',
      '#   nothing',
      '  ---',
      '    message: bytes differ',
      '  ...',
    ].join('\n'),
  ])
})
