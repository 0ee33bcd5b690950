/** The path that ran, as the tables print it. */

import { info, stats } from '../../index.ts'

/** From a receipt. */
export function ranOf({ backend, direct }: { readonly backend: string; readonly direct: boolean }): string {
  return `${backend}, ${direct ? 'direct' : 'buffered'}`
}

/** From the default engine as a whole, for requests without receipts. */
export async function ranByEngine(): Promise<string> {
  const { backend } = await info()
  return ranOf({ backend, direct: stats().downgraded === 0 })
}
