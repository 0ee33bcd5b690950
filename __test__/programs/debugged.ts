/** Makes a few requests, for whoever reads what NODE_DEBUG=deepring prints. */

import { open } from '../../index.ts'

const file = await open(process.argv[2] as string)
await file.read(new Uint8Array(100), { position: 7 })
await file.write(new Uint8Array(1), { position: 0 }).catch(() => {})
await file.close()
await open('/no/such/file').catch(() => {})
