/**
 * A file that is written as a whole: in place, or beside the old one, whose place it takes at the end.
 *
 * Whatever happens, an output is finished or abandoned, and its file is closed then.
 */

import { connect, nextId, runInBackground, track } from '../core/completions.ts'
import { Operation } from '../core/operation.ts'
import { checkOpen, waitedFor } from '../core/engine-state.ts'
import { flagsOf } from '../core/flags.ts'
import { booleanOf } from '../core/options.ts'
import { pathOf, type FilePath } from '../core/path.ts'
import type { RecordView, Replacing } from '../core/record.ts'
import { directOf, engineStateOf, type Engine } from '../engine/engine.ts'
import { makeHandle, type FileHandle } from '../file/file.ts'
import { FileState, finishNothing } from '../file/file-state.ts'
import type { OutputOptions } from './options.ts'

/** See the module. */
export interface Output {
  readonly file: FileHandle
  /** Flushes it if it is to be durable, closes it, and gives it its name. */
  finish(): Promise<void>
  /** Closes it. What was to be replaced is as it was. */
  abandon(): Promise<void>
}

/** How to write, checked. */
export interface OutputPlan {
  readonly engine: Engine
  readonly replace: boolean
  readonly durable: boolean
  readonly direct: OutputOptions['direct']
  readonly mode: number
  readonly signal: AbortSignal | null
}

/** What two options say together. */
export function durabilityOf({ replace, durable }: Readonly<Partial<OutputOptions>>): {
  readonly replace: boolean
  readonly durable: boolean
} {
  const replaces = booleanOf(replace, 'options.replace', false)
  return { replace: replaces, durable: booleanOf(durable, 'options.durable', replaces) }
}

/** Begins to write a file. `size`: bytes that are reserved, if they are known and all will be written; else 0. */
export function openOutput(path: FilePath, plan: OutputPlan, size: number): Promise<Output> {
  return plan.replace ? openReplacement(path, plan, size) : openInPlace(path, plan)
}

async function openInPlace(path: FilePath, plan: OutputPlan): Promise<Output> {
  const { engine, durable, direct, mode, signal } = plan
  const options = { direct, mode, syncDirectory: durable, signal: signal ?? undefined }
  const file = await engine.open(path, 'w', options)
  return {
    file,
    async finish() {
      try {
        if (durable) await file.sync()
      } finally {
        await file.close()
      }
    },
    abandon: () => file.close(),
  }
}

async function openReplacement(path: FilePath, plan: OutputPlan, size: number): Promise<Output> {
  const { engine, durable, direct, mode, signal } = plan
  const name = pathOf(path)
  const state = engineStateOf(engine)
  checkOpen(state, 'open')
  const operation = new Operation(nextId(), 'open', finishReplacing, null, null, name.text)
  operation.owner = engine
  operation.extra.discard = ({ detail }) => {
    const { opened, replacement } = detail as Replacing
    runInBackground((id) => connect().close(id, opened.file))
    runInBackground((id) => connect().abandonReplacement(id, replacement))
  }
  connect().replaceFile(operation.id, state.number, name.bytes, { size, durable, mode, direct: directOf(direct) })
  const { opened, replacement } = await waitedFor(state, track<Replacing>(operation, signal))
  const file = makeHandle(new FileState(state, name.text, 'w+', flagsOf('w+'), opened), engine)
  const end = async (stage: (id: number) => void): Promise<void> => {
    await file.close()
    const ending = new Operation(nextId(), 'rename', finishNothing, null, null, name.text)
    ending.owner = engine
    stage(ending.id)
    await waitedFor(state, track<void>(ending, null))
  }
  return {
    file,
    finish: () => end((id) => connect().commitReplacement(id, replacement)),
    abandon: () => end((id) => connect().abandonReplacement(id, replacement)),
  }
}

function finishReplacing(_operation: Operation, { detail }: RecordView): Replacing {
  return detail as Replacing
}
