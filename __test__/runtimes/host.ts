/** The JavaScript runtimes that the programs here run on. */

export type Host = 'node' | 'bun' | 'deno'

/** A JavaScript runtime. */
export interface Runtime {
  /** As it is named in the table and by `--only`. */
  readonly name: string
  readonly host: Host
  readonly version: string
  /** The executable. */
  readonly command: string
}
