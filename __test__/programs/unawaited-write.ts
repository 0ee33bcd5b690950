/** Starts a write and awaits nothing: the process must live until the write is done. */

import { open } from '../../index.ts'

const path = process.argv[2] as string
const file = await open(path, 'w')
void file
  .write(new Uint8Array(30_000_001).fill(7), { position: 0 })
  .then(({ bytesWritten }) => console.log(bytesWritten))
