/** The path that ran, in the words of the tables. */

import { info, stats } from '../../index.ts'

/** From a receipt. */
export function ranOf({ backend, direct }: { readonly backend: string; readonly direct: boolean }): string {
  return `${backend}, ${direct ? 'direct' : 'buffered'}`
}

/** From the default engine as a whole, where requests give no receipts. */
export async function ranByEngine(): Promise<string> {
  const { backend } = await info()
  return ranOf({ backend, direct: stats().downgraded === 0 })
}
