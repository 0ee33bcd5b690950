/** `deepring doctor`. */

import { doctor as adviceFor } from '../../index.ts'
import type { Invocation, Report } from './invocation.ts'
import { quotedOf } from './text.ts'

/** Advice in words. */
export async function doctor({ words, options, signal }: Invocation): Promise<Report> {
  const path = words[0] ?? '.'
  const advice = await adviceFor(path, { signal })
  const lines = advice.map((sentence, nth) => (advice.length === 1 ? sentence : `${nth + 1}. ${sentence}`))
  return {
    data: { path, advice },
    lines: lines.length === 0 ? [`nothing to change at ${quotedOf(path)}`] : lines,
    ok: !options.has('check') || advice.length === 0,
  }
}
