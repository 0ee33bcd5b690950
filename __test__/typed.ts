/** TypeScript modules of tests, as the compiler sees them. */

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root, run } from './packed.ts'

/** Compiles the modules in a folder with the options of the checkout. Emits nothing. */
export async function compile(folder: string): Promise<{ readonly status: number | null; readonly stdout: string }> {
  const compilerOptions = {
    typeRoots: [join(root, 'node_modules/@types')],
    allowImportingTsExtensions: true,
    declaration: false,
    isolatedDeclarations: false,
  }
  const config = { extends: join(root, 'tsconfig.json'), compilerOptions, include: ['*.ts'], exclude: [] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  return run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', folder], root)
}
