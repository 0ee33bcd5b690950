/**
 * A contender that is one of `children/`, each time in its own process.
 *
 * The parent starts one process at a time and sleeps until it exits, so the bench does not compete
 * with what it measures.
 */

import { fileURLToPath } from 'node:url'
import { parseOutcome, type Outcome } from '../lib/measure/outcome.ts'
import { execute } from '../lib/measure/process.ts'

/** Runs one of `children/` in its own Node process. */
export async function runChild<Parameters extends object>(
  child: string,
  parameters: Parameters,
  environment: Readonly<Record<string, string>> = {},
): Promise<Outcome> {
  const script = fileURLToPath(new URL(`./children/${child}.ts`, import.meta.url))
  const { stdout } = await execute(process.execPath, [script, JSON.stringify(parameters)], environment)
  return parseOutcome(stdout)
}
