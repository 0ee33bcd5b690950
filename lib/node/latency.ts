/** Durations in buckets whose bounds grow by a sixteenth, and their summary: what `stats()` has of each class. */

/** Buckets for each doubling. */
const STEPS = 16

/** What is read from the durations. */
interface Summary {
  readonly count: number
  readonly minUs: number
  readonly maxUs: number
  readonly meanUs: number
  readonly p50Us: number
  readonly p90Us: number
  readonly p99Us: number
  readonly p999Us: number
}

export class Latency {
  /** How many durations each bucket has, by its upper end in microseconds. */
  readonly #buckets = new Map<number, number>()
  #count = 0
  #sumUs = 0
  #minUs = Infinity
  #maxUs = 0

  /** Counts a duration. */
  add(us: number): void {
    const whole = Math.round(us)
    const top = topOf(whole)
    this.#buckets.set(top, (this.#buckets.get(top) ?? 0) + 1)
    this.#count += 1
    this.#sumUs += whole
    this.#minUs = Math.min(this.#minUs, whole)
    this.#maxUs = Math.max(this.#maxUs, whole)
  }

  get summary(): Summary {
    const count = this.#count
    if (count === 0) return { count, minUs: 0, maxUs: 0, meanUs: 0, p50Us: 0, p90Us: 0, p99Us: 0, p999Us: 0 }
    const sorted = this.#sorted()
    const quantile = (share: number): number => {
      let left = Math.ceil(share * count)
      for (const [top, many] of sorted) if ((left -= many) <= 0) return Math.min(top, this.#maxUs)
      return this.#maxUs
    }
    return {
      count,
      minUs: this.#minUs,
      maxUs: this.#maxUs,
      meanUs: this.#sumUs / count,
      p50Us: quantile(0.5),
      p90Us: quantile(0.9),
      p99Us: quantile(0.99),
      p999Us: quantile(0.999),
    }
  }

  get histogram(): Summary & { readonly sumUs: number; readonly upToUs: number[]; readonly counts: number[] } {
    const sorted = this.#sorted()
    const [upToUs, counts] = [sorted.map(([top]) => top), sorted.map(([, many]) => many)]
    return { ...this.summary, sumUs: this.#sumUs, upToUs, counts }
  }

  #sorted(): (readonly [number, number])[] {
    return [...this.#buckets].toSorted(([a], [b]) => a - b)
  }
}

/** The upper end of the bucket of a duration. */
function topOf(us: number): number {
  if (us < STEPS) return us
  const width = 2 ** (Math.floor(Math.log2(us)) - Math.log2(STEPS))
  return Math.floor(us / width) * width + width - 1
}
