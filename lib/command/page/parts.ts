/** What pages are made of: sections, tables, figures in large type. */

import { html, prose, type Content, type Html } from './html.ts'

/** What a verb shows. */
export interface Parts {
  readonly title: string
  /** In words, below the title. */
  readonly words: readonly string[]
  readonly when?: string
  readonly notes?: readonly string[]
  readonly figures?: Html | undefined
  readonly sections: Content
  readonly footer?: string
}

/** A table. `sides`: one of `<` and `>` for each column. */
export interface Table {
  readonly name: string
  readonly head: readonly string[]
  readonly sides: string
  readonly rows: readonly (readonly string[])[]
}

/** A part of a page: what was found, charts, and the tables behind them. */
export function section(title: string, finding: string, charts: Content, tables: readonly Table[]): Html {
  return html` <section>
    <h2>${title}</h2>
    <p>${prose(finding)}</p>
    ${charts}
    ${tables.map(
      (table) =>
        html`<details>
          <summary>${table.name}</summary>
          ${tableOf(table, `${title}: ${table.name}`)}
        </details> `,
    )}
  </section>`
}

/** A table that is wider than a phone can be moved within its frame, with keys, too. */
function tableOf({ head, sides, rows }: Table, label: string): Html {
  const side = (column: number): Content => (sides[column] === '<' ? html` class="left"` : undefined)
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${label}">
    <table>
      <thead>
        <tr>
          ${head.map((word, column) => html`<th scope="col" ${side(column)}>${word}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (row) =>
            html`<tr>
              ${row.map((cell, column) =>
                column === 0 ? html`<th scope="row" ${side(0)}>${cell}</th>` : html`<td${side(column)}>${cell}</td>`,
              )}
            </tr> `,
        )}
      </tbody>
    </table>
  </div>`
}

/** Names and values. */
export function factsTable(rows: readonly (readonly [what: string, value: string])[]): Html {
  return html`<table class="facts">
    <tbody>
      ${rows.map(
        ([what, value]) =>
          html`<tr>
            <th scope="row">${what}</th>
            <td>${value}</td>
          </tr> `,
      )}
    </tbody>
  </table>`
}

/** A figure in large type. */
export interface Figure {
  readonly name: string
  readonly value: string
  readonly unit?: string
  readonly more?: string | undefined
}

/** The figures that a reader looks for first. */
export function figuresOf(figures: readonly Figure[]): Html | undefined {
  if (figures.length === 0) return undefined
  return html`<dl class="figures">
    ${figures.map(
      ({ name, value, unit, more }) =>
        html`<div>
          <dt>${name}</dt>
          <dd class="value">${value}${unit === undefined ? undefined : html` <small>${unit}</small>`}</dd>
          ${more === undefined || more === '' ? undefined : html`<dd class="more">${prose(more)}</dd>`}
        </div> `,
    )}
  </dl>`
}
