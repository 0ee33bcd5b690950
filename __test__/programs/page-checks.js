// Runs in a browser, in a page: what __test__/chromium.ts asks there.
/* eslint-env browser */
/* global axe */

/** Text can be a little closer than its boxes, which have room for accents. */
const SLACK_PX = 1

globalThis.openAll = () => {
  for (const details of document.querySelectorAll('details')) details.open = true
}

function boxOf(element) {
  return { words: element.textContent, ...element.getBoundingClientRect().toJSON() }
}

function touch(one, two) {
  return (
    one.left < two.right - SLACK_PX &&
    two.left < one.right - SLACK_PX &&
    one.top < two.bottom - SLACK_PX &&
    two.top < one.bottom - SLACK_PX
  )
}

function leaves(label, edge) {
  return (
    label.left < edge.left - SLACK_PX ||
    label.right > edge.right + SLACK_PX ||
    label.top < edge.top - SLACK_PX ||
    label.bottom > edge.bottom + SLACK_PX
  )
}

globalThis.overlaps = () => {
  const found = []
  for (const chart of document.querySelectorAll('svg')) {
    if (chart.getClientRects().length === 0) continue
    const labels = Array.from(chart.querySelectorAll('text'), boxOf)
    // A line has no width of its own.
    const axes = Array.from(chart.querySelectorAll('.axis'), boxOf).map(({ left, top, right, bottom }) => {
      return { left: left - SLACK_PX, top: top - SLACK_PX, right: right + SLACK_PX, bottom: bottom + SLACK_PX }
    })
    for (const [nth, label] of labels.entries()) {
      if (label.width === 0) found.push(`'${label.words}' is not shown`)
      if (leaves(label, boxOf(chart))) found.push(`'${label.words}' leaves its chart`)
      for (const other of labels.slice(nth + 1))
        if (touch(label, other)) found.push(`'${label.words}' and '${other.words}'`)
      if (axes.some((axis) => touch(label, axis))) found.push(`'${label.words}' and an axis`)
    }
  }
  const { scrollWidth, clientWidth } = document.documentElement
  if (scrollWidth > clientWidth) found.push(`the page is ${scrollWidth} pixels wide, the window ${clientWidth}`)
  return found
}

globalThis.violations = async () => {
  const { violations } = await axe.run(document)
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)}: ${failureSummary}`),
  )
}
