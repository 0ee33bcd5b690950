/** `deepring checkpoint`: list, verify, pin, unpin, remove and collect. */

import type { CheckpointStore } from '../checkpoint/index.ts'
import { verificationLines } from './damage.ts'
import { Misuse, Refusal, sentenceOf } from './failure.ts'
import { wholeNumber, type Invocation, type Report } from './invocation.ts'
import { withStore } from './model.ts'
import { bytesText, countText, grid } from './text.ts'

/** Numbers of generations, from words. */
function numbersIn(words: readonly string[]): number[] {
  return words.map((word) => wholeNumber(word, 'the generation'))
}

/** The generations of a store. */
export async function list({ words: [directory = ''], screen, signal }: Invocation): Promise<Report> {
  return withStore(directory, signal, async (store) => {
    const generations: object[] = []
    const rows: string[][] = []
    for (const number of await store.list({ signal })) {
      const pinned = await store.isPinned(number, { signal })
      const mark = pinned ? 'pinned' : ''
      try {
        await using checkpoint = await store.open(number, { signal })
        const { step, created, size, bytes, meta } = checkpoint
        generations.push({ number, step: step ?? null, created, tensors: size, bytes, pinned, meta })
        rows.push([String(number), String(step ?? ''), created.toISOString(), String(size), bytesText(bytes), mark])
      } catch (error) {
        if (signal.aborted) throw error
        const why = sentenceOf(error)
        generations.push({ number, pinned, damaged: why })
        rows.push([String(number), '', '', '', '', `${mark} ${screen.paint('red', 'damaged')}: ${why}`.trim()])
      }
    }
    const head = ['generation', 'step', 'created', 'tensors', 'bytes', ''].map((word) => screen.paint('dim', word))
    const lines = rows.length === 0 ? ['no generation'] : grid([head, ...rows], '>><>><')
    return { data: { directory, generations }, lines }
  })
}

/** Reads every byte of generations. */
export async function verify(invocation: Invocation): Promise<Report> {
  const { words, signal } = invocation
  const [directory = '', ...rest] = words
  const numbers =
    rest.length > 0 ? numbersIn(rest) : await withStore(directory, signal, (store) => store.list({ signal }))
  return verifyGenerations(directory, numbers, invocation)
}

/** Reads every byte of these generations. */
export async function verifyGenerations(
  directory: string,
  numbers: readonly number[],
  { screen, signal }: Invocation,
): Promise<Report> {
  return withStore(directory, signal, async (store) => {
    const generations: object[] = []
    const lines: string[] = []
    let whole = true
    for (const number of numbers) {
      try {
        await using checkpoint = await store.open(number, { signal })
        const found = await checkpoint.verify({ signal, onProgress: screen.bar(`generation ${number}`).set })
        generations.push({ number, ...found })
        whole &&= found.ok
        lines.push(...verificationLines(found, screen.paint).map((line) => `generation ${number}: ${line}`))
      } catch (error) {
        const { code } = error as { code?: unknown }
        if (code !== 'ERR_DEEPRING_FORMAT' && code !== 'ERR_DEEPRING_EOF') throw error
        whole = false
        const why = sentenceOf(error)
        generations.push({ number, ok: false, error: why })
        lines.push(`generation ${number}: ${screen.paint('red', 'damaged')}: ${why}`)
      }
    }
    if (numbers.length === 0) lines.push('no generation')
    return { data: { directory, ok: whole, generations }, lines, ok: whole }
  })
}

/** Does something with each generation that is named. */
async function each(
  { words: [directory = '', ...rest], signal }: Invocation,
  done: string,
  act: (store: CheckpointStore, number: number) => Promise<void>,
): Promise<Report> {
  const numbers = numbersIn(rest)
  await withStore(directory, signal, async (store) => {
    for (const number of numbers) await act(store, number)
  })
  return {
    data: { directory, [done]: numbers },
    lines: [`${done} generation${numbers.length === 1 ? '' : 's'} ${numbers.join(', ')}`],
  }
}

/** Keeps generations. */
export async function pin(invocation: Invocation): Promise<Report> {
  return each(invocation, 'pinned', (store, number) => store.pin(number, { signal: invocation.signal }))
}

/** Takes pins away. */
export async function unpin(invocation: Invocation): Promise<Report> {
  const { signal } = invocation
  return each(invocation, 'unpinned', async (store, number) => {
    // A pin can be left of a generation that is gone.
    if (!(await store.isPinned(number, { signal })) && !(await store.list({ signal })).includes(number))
      throw new Refusal(`there is no such generation, generation ${number}`)
    await store.unpin(number, { signal })
  })
}

/** Removes generations. */
export async function remove(invocation: Invocation): Promise<Report> {
  return each(invocation, 'removed', (store, number) => store.remove(number, { signal: invocation.signal }))
}

/** Removes what nothing keeps. */
export async function collect({ words: [directory = ''], options, signal }: Invocation): Promise<Report> {
  const [last, every] = [options.count('last'), options.count('every')]
  if (every !== undefined && last === undefined) throw new Misuse('--every needs --last')
  const run = (store: CheckpointStore): Promise<Report> =>
    store.collect({ signal }).then(({ generations, temporaries, bytes }) => ({
      data: { directory, generations, temporaries, bytes },
      lines: [
        generations.length === 0
          ? 'no generation removed'
          : `removed generation${generations.length === 1 ? '' : 's'} ${generations.join(', ')}`,
        `removed ${countText(temporaries, 'remain')} of dead writers`,
        `freed ${bytesText(bytes)}`,
      ],
    }))
  return withStore(directory, signal, run, { keep: last === undefined ? 'all' : { last, every } })
}
