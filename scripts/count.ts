/**
 * Counts passed, failed and skipped tests from the lines that test runners print.
 *
 * Cargo's own count is one line per test binary:
 * `test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; ...`. A Rust test cannot report that
 * it cannot run here, so it prints `skipped: NAME: WHY` (past the harness, which hides the output
 * of tests that pass) and returns. The harness counts it as passed; here it counts as skipped. NAME
 * is the test's own name. A test that prints several reasons is one skipped test, and one that then
 * fails has failed.
 *
 * ava prints the Test Anything Protocol: `ok 3 - title`, `not ok 4 - title`, `ok 5 - title # SKIP`,
 * `not ok 6 - title # TODO`.
 */

export interface Count {
  passed: number
  failed: number
  skipped: number
}

/** Takes the lines of one runner in order, without control characters. */
export type LineCounter = (line: string) => void

/** Adds the results that cargo prints to `count`. */
export function cargoCounter(count: Count): LineCounter {
  let skipped = new Set<string>()
  let failed = new Set<string>()
  return (line) => {
    const skip = /^skipped: (\S+): /.exec(line)
    if (skip) skipped.add(skip[1] as string)
    // Cargo lists those that failed at the end of each binary.
    const failure = /^ {4}(\S+)$/.exec(line)
    if (failure) failed.add(failure[1] as string)
    const result = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
    if (!result) return
    const [passedOrSkipped, failures, ignored] = result.slice(1).map(Number) as [number, number, number]
    // No more tests can be skipped than there are, even if more lines were printed.
    const skips = Math.min([...skipped].filter((name) => !failed.has(name)).length, passedOrSkipped)
    count.passed += passedOrSkipped - skips
    count.failed += failures
    count.skipped += ignored + skips
    ;[skipped, failed] = [new Set(), new Set()]
  }
}

/** Adds the results that ava prints to `count`. */
export function tapCounter(count: Count): LineCounter {
  return (line) => {
    const result = /^(not )?ok \d+/.exec(line)
    if (!result) return
    if (line.endsWith(result[1] ? ' # TODO' : ' # SKIP')) count.skipped += 1
    else if (result[1]) count.failed += 1
    else count.passed += 1
  }
}

/** Collects what cargo says of each test that failed: its name, and what it printed. */
export function cargoReports(reports: string[]): LineCounter {
  let inFailures = false
  let report: number | undefined
  return (line) => {
    // `failures:` comes twice: before what they printed, and before their names.
    if (/^(failures|successes):$/.test(line)) [inFailures, report] = [line === 'failures:', undefined]
    else if (inFailures && /^---- \S+ std\w+ ----$/.test(line)) report = reports.push(line) - 1
    else if (report !== undefined) reports[report] += `\n${line}`
  }
}

/** Collects what ava says of each test that failed: its line, what it logged, and the description below it. */
export function tapReports(reports: string[]): LineCounter {
  let report: number | undefined
  return (line) => {
    if (/^not ok \d+/.test(line) && !line.endsWith(' # TODO')) report = reports.push(line) - 1
    // What is logged is a comment, with lines that are empty. Comments of ava itself are not indented.
    else if (report !== undefined && /^(#? {2}|$)/.test(line)) reports[report] += `\n${line}`
    else report = undefined
  }
}
