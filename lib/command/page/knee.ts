/** Where more in flight stops to pay: {@link kneeOf}. */

/** Of the best rate, so much is at the knee. */
export const KNEE_SHARE = 0.9

/** A rate at a depth. */
interface At {
  readonly depth?: number
  readonly rate: { readonly median: number }
}

/** See the module. */
export interface Knee {
  readonly depth: number
  /** Of the best rate. */
  readonly share: number
  /** No depth that was measured is beyond it: the rate still grows. */
  readonly isLast: boolean
}

/** The least depth that reaches a share of the best rate. `undefined` of fewer than two. */
export function kneeOf(tasks: readonly At[]): Knee | undefined {
  const points = tasks
    .flatMap(({ depth, rate }) => (depth === undefined ? [] : [{ depth, rate: rate.median }]))
    .toSorted((a, b) => a.depth - b.depth)
  const best = Math.max(...points.map(({ rate }) => rate))
  const knee = points.find(({ rate }) => rate >= best * KNEE_SHARE)
  if (knee === undefined || points.length < 2) return undefined
  return { depth: knee.depth, share: knee.rate / best, isLast: knee === points.at(-1) }
}
