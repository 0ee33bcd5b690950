/** Tasks of a bench, and who took part in them. */

import type { Rival, TaskFigures } from '../bench/figures.ts'
import type { Bar } from './bar-chart.ts'

/** The task of a name, if it was measured. */
export function named(tasks: readonly TaskFigures[], name: string): TaskFigures | undefined {
  return tasks.find((task) => task.name === name)
}

/** deepring, or a rival. */
export type Party = Pick<Rival, 'name' | 'rate' | 'cpuSecondsPerGB'>

/** deepring, and behind it its rivals. */
export function partiesOf({ rate, cpuSecondsPerGB, rivals }: TaskFigures): Party[] {
  return [{ name: 'deepring', rate, cpuSecondsPerGB }, ...rivals]
}

/** A bar for each. */
export function barsOf(task: TaskFigures, barOf: (party: Party) => Omit<Bar, 'name' | 'kind'>): Bar[] {
  return partiesOf(task).map((party) => Object.assign({ name: party.name, kind: kindOf(party.name) }, barOf(party)))
}

/** A class of the style sheet. */
function kindOf(name: string): string {
  return name === 'fio' ? 'fio' : name === 'node:fs' ? 'node' : 'ours'
}
