/** The style sheet of pages: light and dark, phones and paper, without a font or a picture of its own. */

export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #fdfdfb; --ink: #1b1f24; --dim: #58616d; --rule: #e2e3e0; --grid: #e9eae7; --panel: #f5f5f1;
  --ours: #0b5f8a; --fio: #666e79; --node: #96591c; --warn: #8a4b00;
  --d1: #27806f; --d2: #0b6d9e; --d3: #45489c; --d4: #2a1f4a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171b; --ink: #e6e8ea; --dim: #a2a9b3; --rule: #2c3138; --grid: #262b31; --panel: #1b1f25;
    --ours: #5fb3de; --fio: #98a1ac; --node: #dba45f; --warn: #e5b567;
    --d1: #6fc9b0; --d2: #5fb3de; --d3: #a9a6f0; --d4: #ece4ff;
  }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; font-variant-numeric: tabular-nums }
main { max-width: 752px; margin: 0 auto; padding: 48px 16px 64px }
h1, h2 { line-height: 1.2; text-wrap: balance; margin: 0 }
h1 { font-size: 32px; font-weight: 650; letter-spacing: -0.015em; overflow-wrap: anywhere }
h2 { font-size: 20px; font-weight: 620; letter-spacing: -0.005em }
p { margin: 8px 0; max-width: 68ch; text-wrap: pretty; overflow-wrap: break-word }
.verb { margin: 0 0 6px; color: var(--dim); font-size: 14px }
.when { color: var(--dim); font-size: 14px }
header p.words { margin-top: 16px }
section { margin-top: 56px }
section > p { margin-bottom: 20px }
ul.notes { margin: 20px 0 0; padding: 0; list-style: none }
ul.notes li { padding: 2px 0 2px 12px; border-left: 3px solid var(--warn); margin: 8px 0; overflow-wrap: break-word }
dl.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(126px, 1fr)); gap: 20px; margin: 32px 0 0; padding: 20px 0; border: solid var(--rule); border-width: 1px 0 }
dl.figures div { display: flex; flex-direction: column }
dl.figures dt { font-size: 13px; color: var(--dim); order: 0 }
dl.figures dd { margin: 0 }
dl.figures .value { font-size: 24px; font-weight: 600; letter-spacing: -0.01em; line-height: 1.3; overflow-wrap: anywhere }
dl.figures .value small { font-size: 14px; font-weight: 400; letter-spacing: 0; color: var(--dim) }
dl.figures .more { font-size: 13px; color: var(--dim) }

.chart { margin: 0 0 12px }
.chart svg { display: block; width: 100%; height: auto; overflow: visible }
.chart svg.narrow { display: none }
.chart text { font-size: 12px; fill: var(--ink) }
.chart .middle { text-anchor: middle }
.chart .end { text-anchor: end }
.chart .tick, .chart .title { fill: var(--dim) }
.chart .group { font-weight: 600 }
.chart text:not(.tick) { paint-order: stroke; stroke: var(--page); stroke-width: 4px; stroke-linejoin: round }
.chart .grid { stroke: var(--grid); stroke-width: 1 }
.chart .axis { stroke: var(--dim); stroke-width: 1 }
.chart .mark { stroke: currentColor; stroke-width: 1; stroke-dasharray: 2 3 }
.chart .line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
.chart .dot { fill: currentColor; stroke: var(--page); stroke-width: 1 }
.chart .whisker { stroke: currentColor; stroke-width: 1.5 }
.chart .leader { stroke: currentColor; stroke-width: 1; opacity: 0.55 }
.chart .bar { fill: currentColor }
.chart .bar + .whisker { stroke: var(--ink) }
.ours { color: var(--ours) } .fio { color: var(--fio) } .node { color: var(--node) }
.d1 { color: var(--d1) } .d2 { color: var(--d2) } .d3 { color: var(--d3) } .d4 { color: var(--d4) }
.chart .name, .chart .marked { fill: currentColor; font-weight: 600 }
.fio .line { stroke-dasharray: 6 4 } .shared .line, .beside .line { stroke-dasharray: 1 4 }
.beside { color: var(--node) }
h3 { font-size: 14px; font-weight: 600; margin: 24px 0 8px }
p.caption { font-size: 13px; color: var(--dim); max-width: none }

details { border-top: 1px solid var(--rule); font-size: 14px }
details + details { margin-top: 0 }
summary { cursor: pointer; padding: 10px 0; color: var(--dim) }
summary:hover { color: var(--ink) }
:focus-visible { outline: 2px solid var(--ours); outline-offset: 2px }
.scroll { overflow-x: auto; padding-bottom: 8px }
table { border-collapse: collapse; font-size: 13px; line-height: 1.4 }
.scroll > table { min-width: 100% }
th, td { padding: 5px 0 5px 16px; text-align: right; white-space: nowrap; vertical-align: baseline }
th:first-child { padding-left: 0 }
thead th { color: var(--dim); font-weight: 400; border-bottom: 1px solid var(--rule) }
tbody th { font-weight: 600 }
tbody tr + tr > * { border-top: 1px solid var(--grid) }
.left { text-align: left }
table.facts { width: 100% }
table.facts th { width: 9em; font-weight: 400; color: var(--dim); white-space: normal; text-align: left }
table.facts td { white-space: normal; text-align: left; overflow-wrap: anywhere }
pre { margin: 0; padding: 12px; background: var(--panel); font: 12px/1.45 ui-monospace, 'SF Mono', Menlo, Consolas, monospace; overflow: auto; max-height: 480px }
footer { margin-top: 56px; color: var(--dim); font-size: 13px }
footer p { max-width: none }

@media (max-width: 719px) {
  main { padding: 28px 16px 48px }
  h1 { font-size: 26px }
  section { margin-top: 44px }
  .chart svg.wide { display: none }
  .chart svg.narrow { display: block; max-width: 480px }
}
@media print {
  :root {
    color-scheme: light;
    --page: #fff; --ink: #000; --dim: #444; --rule: #ccc; --grid: #e4e4e4; --panel: #fff;
    --ours: #0b5f8a; --fio: #666e79; --node: #96591c; --warn: #8a4b00;
    --d1: #27806f; --d2: #0b6d9e; --d3: #45489c; --d4: #2a1f4a;
  }
  body { font-size: 11pt }
  main { max-width: none; padding: 0 }
  section { margin-top: 28px }
  .chart svg.wide { display: block }
  .chart svg.narrow { display: none }
  .chart, tr, dl.figures div { break-inside: avoid }
  h2, h3, summary { break-after: avoid }
  details::details-content { content-visibility: visible; height: auto }
  details.raw { display: none }
  .scroll { overflow: visible }
  table { font-size: 8pt }
  th, td { padding-left: 8px }
}
`
