/** The types of obtain.mjs, for tests. */

/** A program that an npm package contains. */
export interface Program {
  /** The name of its folder. */
  readonly name: string
  /** The name of the program. */
  readonly host: string
  readonly version: string
  /** The package; by default it has the name of the program. */
  readonly from?: string
}

export const RUNTIMES: readonly (Program & { readonly host: 'node' | 'bun' | 'deno' })[]

/** The path of a program, installed if it is missing. Throws if it cannot be, or does not run. */
export function obtain(program: Program): string
