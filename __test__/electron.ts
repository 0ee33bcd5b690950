/**
 * A runtime that refuses external memory, as Electron does since 21, without Electron: in a copy of the binary, the name
 * of the function that makes an ArrayBuffer of external memory is replaced by one of the same length, which a preloaded
 * library answers with `napi_no_external_buffers_allowed`.
 */

import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { binaryUnderTest } from './packed.ts'

const ASKED = 'napi_create_external_arraybuffer'
const ANSWERED = 'napx_create_external_arraybuffer'
const NO_EXTERNAL_BUFFERS_ALLOWED = 22

/** The environment variables for such a process, whose files lie in `folder`; a reason if it cannot be made here. */
export function electronLike(folder: string): { DEEPRING_NATIVE_PATH: string; LD_PRELOAD: string } | string {
  const tested = binaryUnderTest()
  if (tested === undefined) return 'no binary was built'
  const [source, library, binary] = ['refuse.c', 'refuse.so', 'refused.node'].map((file) => join(folder, file)) as [
    string,
    string,
    string,
  ]
  const original = readFileSync(tested, 'latin1')
  if (!original.includes(ASKED)) throw new Error(`${tested} does not name ${ASKED}`)
  writeFileSync(binary, original.replaceAll(ASKED, ANSWERED), 'latin1')
  writeFileSync(source, `int ${ANSWERED}(void) { return ${NO_EXTERNAL_BUFFERS_ALLOWED}; }\n`)
  try {
    // Without a C library, so that it suits each.
    execFileSync('cc', ['-shared', '-fPIC', '-nostdlib', '-o', library, source], { stdio: 'ignore' })
  } catch {
    return 'there is no C compiler'
  }
  return { DEEPRING_NATIVE_PATH: binary, LD_PRELOAD: library }
}
