/** Saves a checkpoint that fails, looks at nothing, and lives on. */

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout } from 'node:timers/promises'
import { openCheckpoints } from '../../lib/checkpoint/index.ts'

const directory = process.argv[2] as string
const store = await openCheckpoints(directory, { create: true })
const a = { dtype: 'U8', shape: [1000], data: new Uint8Array(1000) }
// Something takes the number just before the generation would have it.
const take = (): void => void mkdirSync(join(directory, '000000000001'))
store.save({ a }, { onProgress: take })
store.save({ a: { ...a, dtype: 'U9' } })
const { captured, committed } = store.save({ a: { ...a, shape: [1001] } })
await setTimeout(300)
console.log(captured instanceof Promise, committed instanceof Promise)
try {
  await store.close()
} catch (error) {
  console.log((error as { code: string }).code)
}
