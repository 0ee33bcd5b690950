/** The word that was meant: {@link nearest}. */

/** Of some names, the one that a misspelled word is closest to; `undefined` if it is close to none. */
export function nearest(word: string, names: readonly string[]): string | undefined {
  let best: string | undefined
  // A third of the letters can be wrong.
  let least = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const name of names) {
    const edits = editsBetween(word, name)
    if (edits < least) [best, least] = [name, edits]
  }
  return best ?? names.find((name) => word.length > 1 && name.startsWith(word))
}

/** Letters that are inserted, removed, replaced, or have changed places with their neighbor. */
function editsBetween(from: string, to: string): number {
  let before: number[] = []
  let above = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let row = 1; row <= from.length; row += 1) {
    const line = [row]
    for (let column = 1; column <= to.length; column += 1) {
      const differ = from[row - 1] === to[column - 1] ? 0 : 1
      let edits = Math.min(line[column - 1]! + 1, above[column]! + 1, above[column - 1]! + differ)
      if (row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1])
        edits = Math.min(edits, before[column - 2]! + 1)
      line.push(edits)
    }
    ;[before, above] = [above, line]
  }
  return above[to.length]!
}
