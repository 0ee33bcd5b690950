/** What fio reports. */

import type { Outcome } from './outcome.ts'
import { execute } from './process.ts'

/** The version of fio; `undefined` if it is not installed. */
export async function fioVersion(): Promise<string | undefined> {
  try {
    return (await execute('fio', ['--version'])).stdout.trim()
  } catch {
    return undefined
  }
}

interface Direction {
  readonly io_bytes: number
  readonly total_ios: number
  readonly runtime: number
}

interface Job {
  readonly error: number
  readonly job_runtime: number
  readonly usr_cpu: number
  readonly sys_cpu: number
  readonly read: Direction
  readonly write: Direction
}

/** What the only job of a report in JSON has done in its own region. `undefined` if it failed. */
export function fioRegion(
  report: string,
): Pick<Outcome, 'wallSeconds' | 'userSeconds' | 'systemSeconds' | 'bytes' | 'operations'> | undefined {
  // Warnings stand before it.
  const [job] = (JSON.parse(report.slice(report.indexOf('{'))) as { readonly jobs: readonly Job[] }).jobs
  if (job === undefined || job.error !== 0) return undefined
  return {
    wallSeconds: Math.max(job.read.runtime, job.write.runtime) / 1e3,
    userSeconds: ((job.usr_cpu / 100) * job.job_runtime) / 1e3,
    systemSeconds: ((job.sys_cpu / 100) * job.job_runtime) / 1e3,
    bytes: job.read.io_bytes + job.write.io_bytes,
    operations: job.read.total_ios + job.write.total_ios,
  }
}
