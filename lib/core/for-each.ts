/** Work on each of many, several at once: {@link forEachOf}. */

/**
 * Calls `work` for each, so many at once. After an error no more begin; it rejects with the first one when those in progress have
 * ended.
 */
export async function forEachOf<T>(all: readonly T[], atOnce: number, work: (one: T) => Promise<void>): Promise<void> {
  let next = 0
  let failed: { readonly error: unknown } | undefined
  const lane = async (): Promise<void> => {
    while (next < all.length && failed === undefined) {
      try {
        await work(all[next++] as T)
      } catch (error) {
        failed ??= { error }
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(atOnce, all.length) }, lane))
  if (failed !== undefined) throw failed.error
}
