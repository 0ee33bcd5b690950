/** The part of an engine that its files and buffers use. It knows neither the class `Engine` nor the files. */

import { closed } from './errors.ts'

/** Something that an engine closes before itself: an open file. */
export interface Closable {
  /** Closes it once; every call returns the same promise. */
  close(): Promise<void>
}

/** What is shared by an `Engine` and everything it has made. */
export interface EngineState {
  /** The engine's number in the binding. */
  readonly number: number
  /** Another thread has made it. */
  readonly borrowed: boolean
  /** True once closing has begun. */
  closed: boolean
  /** Open files. */
  readonly files: Set<Closable>
  /** Operations that belong to no file yet, and that a close waits for: opens and saves. */
  readonly opening: Set<Promise<unknown>>
  /** Settles when the engine is closed; absent while it is open. */
  closing: Promise<void> | undefined
}

/** Refuses work for an engine that is closed or closing. */
export function checkOpen(state: EngineState, syscall: string): void {
  if (state.closed) throw closed('engine', syscall)
}

/** A close of the engine waits for this operation. */
export function waitedFor<T>(state: EngineState, operation: Promise<T>): Promise<T> {
  return running(state.opening, operation)
}

/** Keeps an operation among others until it settles: what closes waits for them. */
export function running<T>(operations: Set<Promise<unknown>>, operation: Promise<T>): Promise<T> {
  operations.add(operation)
  const forget = (): void => void operations.delete(operation)
  operation.then(forget, forget)
  return operation
}
