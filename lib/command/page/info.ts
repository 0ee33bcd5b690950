/** The page of `deepring info`. */

import { resolve } from 'node:path'
import type { Machine } from '../machine.ts'
import { binaryText } from '../text.ts'
import { html } from './html.ts'
import { machineInFull, machineWords } from './machine.ts'
import { figuresOf, type Figure, type Parts } from './parts.ts'

/** See the module. */
export function infoParts(machine: Machine): Parts {
  const { path, backend } = machine
  const figures: Figure[] = [{ name: 'Backend', value: backend, more: machine.reason }]
  if (path !== undefined) {
    figures.push(
      { name: 'Direct I/O', value: path.direct ? 'yes' : 'no', more: path.directReason },
      ...(['read', 'write'] as const).map((direction): Figure => {
        const { bytes, sharedBytes } = path.window[direction]
        return {
          name: `${direction === 'read' ? 'Reads' : 'Writes'} in flight`,
          value: binaryText(bytes),
          more: `${binaryText(sharedBytes)} beside others`,
        }
      }),
    )
  }
  return {
    title: path === undefined ? machine.host.platform : resolve(path.path),
    words: [machineWords(machine)],
    figures: figuresOf(figures),
    sections: html` <section>
      <h2>The machine in full</h2>
      ${machineInFull(machine)}
    </section>`,
  }
}
