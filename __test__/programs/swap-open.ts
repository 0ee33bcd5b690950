// Opens a swap store and prints the code of its error.
//
//   swap-open.ts DIRECTORY

import process from 'node:process'
import { openSwap } from '../../lib/swap/index.ts'

const directory = process.argv[2] as string
const outcome = await openSwap(directory, { memory: 1 << 20 }).then(
  () => 'opened',
  ({ code }: { code: string }) => code,
)
process.stdout.write(outcome)
