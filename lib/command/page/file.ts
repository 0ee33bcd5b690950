/** The file of a page, which is written as a whole or not at all. */

import { accessSync, constants, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { writeFile } from '../../whole/write-file.ts'
import { Refusal } from '../failure.ts'
import { quotedOf } from '../text.ts'
import { pageOf, type PageVerb } from './page.ts'

/** See the module. */
export class PageFile {
  readonly path: string

  /** Throws if the file could not be written, as far as that can be seen before. */
  constructor(path: string) {
    this.path = path
    const found = statSync(path, { throwIfNoEntry: false })
    if (found !== undefined && !found.isFile()) throw new Refusal(`--html: ${quotedOf(path)} is not a file`)
    accessSync(dirname(path), constants.W_OK)
  }

  /** Writes the page of a verb, from its document. */
  async write(verb: string, document: unknown): Promise<void> {
    await writeFile(this.path, pageOf(verb as PageVerb, document), { replace: true })
  }
}
