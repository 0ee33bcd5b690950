/**
 * What the lines that test runners print say about how many tests passed, failed and were skipped.
 *
 * Cargo's own count is one line per test binary: `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...`. A Rust test
 * has no way to say that it cannot run here, so it prints `skipped: NAME: WHY` (past the harness, which hides the output of tests that
 * pass) and returns; the harness takes it for one that passed. Here it is counted as what it is. NAME is the test's own name: one
 * that says several times what it lacks is one skipped test, and one that fails after all has failed.
 *
 * ava prints the Test Anything Protocol: `ok 3 - title`, `not ok 4 - title`, `ok 5 - title # SKIP`, `not ok 6 - title # TODO`.
 */

export interface Count {
  passed: number
  failed: number
  skipped: number
}

/** Takes the lines of one runner, one after the other, without control characters. */
export type LineCounter = (line: string) => void

/** Adds to `count` what cargo says. */
export function cargoCounter(count: Count): LineCounter {
  let skipped = new Set<string>()
  let failed = new Set<string>()
  return (line) => {
    const skip = /^skipped: ([^:]+): /.exec(line)
    if (skip) skipped.add(skip[1] as string)
    // Cargo lists those that failed at the end of each binary.
    const failure = /^ {4}(\S+)$/.exec(line)
    if (failure) failed.add(failure[1] as string)
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
    if (!result) return
    const [passedOrSkipped, failures, ignored] = result.slice(1).map(Number) as [number, number, number]
    // More than there are tests cannot have been skipped, whatever was printed.
    const skips = Math.min([...skipped].filter((name) => !failed.has(name)).length, passedOrSkipped)
    count.passed += passedOrSkipped - skips
    count.failed += failures
    count.skipped += ignored + skips
    ;[skipped, failed] = [new Set(), new Set()]
  }
}

/** Adds to `count` what ava says. */
export function tapCounter(count: Count): LineCounter {
  return (line) => {
    const result = /^(not )?ok \d+/.exec(line)
    if (!result) return
    if (line.endsWith(result[1] ? ' # TODO' : ' # SKIP')) count.skipped += 1
    else if (result[1]) count.failed += 1
    else count.passed += 1
  }
}
