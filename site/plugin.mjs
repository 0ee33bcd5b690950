// What the site adds to TypeDoc: addresses that a person can type, a navigation in the order of pages.json, and a check
// that TypeDoc lacks: every function and every class has an example.
//
// scripts/site.mjs stages the pages of docs/ with a title and an address in their front matter. TypeDoc itself takes only the
// title.

import { readFileSync } from 'node:fs'
import { Application, Converter, DefaultTheme, JSX, PageEvent, ReflectionKind, StructureRouter } from 'typedoc'

const sections = JSON.parse(readFileSync(new URL('pages.json', import.meta.url), 'utf8'))
/** Addresses of pages, by their reflection. */
const addresses = new Map()

/** Pages at their file's name, the reference below `api/`. */
class Addresses extends StructureRouter {
  getIdealBaseName(reflection) {
    return addresses.get(reflection) ?? `api/${super.getIdealBaseName(reflection)}`
  }
}

class Theme extends DefaultTheme {
  buildNavigation(project) {
    const byAddress = new Map(project.documents.map((page) => [addresses.get(page), page]))
    const entry = (page) => ({ text: page.name, path: this.router.getFullUrl(page), kind: page.kind, class: 'page' })
    const guide = Object.entries(sections).map(([text, slugs]) => ({
      text,
      children: slugs.map((slug) =>
        slug === 'README' ? { text: 'What it is', path: 'index.html', class: 'page' } : entry(byAddress.get(slug)),
      ),
    }))
    const examples = project.documents.filter((page) => addresses.get(page).startsWith('examples/'))
    // A group of the tree is a button, and cannot be a link as well.
    const modules = super
      .buildNavigation(project)
      .filter(({ kind }) => kind === ReflectionKind.Module)
      .map(({ text, path, children }) => ({ text, children: [{ text: 'Overview', path, class: 'page' }, ...children] }))
    const rust = ['deepring', 'deepring_tensors', 'deepring_object_store'].map((name) => ({
      text: name.replaceAll('_', '-'),
      path: `rust/${name}/index.html`,
      class: 'page',
    }))
    return [
      ...guide,
      { text: 'Examples', children: examples.map(entry) },
      { text: 'Reference: TypeScript', children: modules },
      { text: 'Reference: Rust', children: rust },
    ]
  }
}

/** The pages before and after a page, in the order of the navigation. */
function neighbors(project, page) {
  const order = [
    project,
    ...Object.values(sections)
      .flat()
      .slice(1)
      .map((slug) => project.documents.find((one) => addresses.get(one) === slug)),
  ]
  const at = order.indexOf(page)
  return at < 0 ? [] : [order[at - 1], order[at + 1]]
}

export function load(app) {
  app.renderer.defineRouter('deepring', Addresses)
  app.renderer.defineTheme('deepring', Theme)

  app.converter.on(Converter.EVENT_CREATE_DOCUMENT, (_context, page) => {
    addresses.set(page, page.frontmatter.address)
    page.frontmatter = {}
  })
  // A module is named as it is imported.
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const module of project.children ?? []) {
      if (module.kind === ReflectionKind.Module)
        module.name = module.name === 'index' ? 'deepring' : module.name.replace('lib/', 'deepring/')
    }
  })

  app.on(Application.EVENT_VALIDATE_PROJECT, (project) => {
    for (const item of project.getReflectionsByKind(ReflectionKind.Function | ReflectionKind.Class)) {
      const comments = item.signatures?.map(({ comment }) => comment) ?? [item.comment]
      if (!comments.some((comment) => comment?.getTag('@example')))
        app.logger.validationWarning(`${item.getFullName()} has no @example`)
    }
  })

  app.renderer.hooks.on('content.end', (context) => {
    const around = neighbors(context.page.project, context.page.model)
    if (around.every((page) => page === undefined)) return JSX.createElement(JSX.Fragment, null)
    const link = (page, rel, word) =>
      page &&
      JSX.createElement(
        'a',
        { href: context.urlTo(page), rel },
        JSX.createElement('span', null, word),
        page.isProject() ? 'What it is' : page.name,
      )
    return JSX.createElement(
      'nav',
      { class: 'neighbors', 'aria-label': 'Neighboring pages' },
      link(around[0], 'prev', 'Before'),
      link(around[1], 'next', 'Next'),
    )
  })
  app.renderer.on(PageEvent.END, (page) => {
    page.contents = withinReach(page.contents ?? '')
    if (!page.model.isDocument()) return
    const [section] = Object.entries(sections).find(([, slugs]) => slugs.includes(addresses.get(page.model))) ?? [
      'Examples',
    ]
    page.contents = page.contents.replace(
      /<ul class="tsd-breadcrumb"[\s\S]*?<\/ul>/,
      `<p class="section">${section}</p>`,
    )
  })
}

/** What TypeDoc leaves out for readers with a keyboard, a screen reader, or a phone. */
function withinReach(html) {
  const marked = html
    // On a page that is opened from its file, icons.js brings the icons into the page, and points there too late.
    .replaceAll(/href="[^"]*icons\.svg#/g, 'href="#')
    // Wide tables and long lines scroll by themselves; what scrolls is reached by the keyboard.
    .replaceAll('<table>', '<div class="table" tabindex="0" role="group" aria-label="Table"><table>')
    .replaceAll('</table>', '</table></div>')
    .replaceAll('<th></th>', '<td></td>')
    .replaceAll('<pre>', '<pre tabindex="0">')
    .replaceAll(
      '<div class="tsd-signature"',
      '<div tabindex="0" role="group" aria-label="Signature" class="tsd-signature"',
    )
    // Landmarks, by which a screen reader goes to the text.
    .replace('<div class="col-content">', '<div class="col-content" role="main">')
    .replace('<div class="page-menu">', '<div class="page-menu" role="complementary" aria-label="This page">')
    .replace('<nav class="tsd-navigation">', '<nav class="tsd-navigation" aria-label="Site">')
    // A summary is a button, and must have none inside.
    .replaceAll(/<summary[\s\S]*?<\/summary>/g, (summary) =>
      summary.replaceAll(/<a [^>]*class="tsd-anchor-icon"[\s\S]*?<\/a>/g, ''),
    )
  // No heading is more than one level below the one before it. They look as they did: site.css goes by data-level.
  let before = 0
  const open = []
  return marked.replaceAll(/<h([1-6])\b|<\/h[1-6]>/g, (_tag, level) => {
    if (level === undefined) return `</h${open.pop()}>`
    before = Math.min(Number(level), before + 1)
    open.push(before)
    return `<h${before} data-level="${level}"`
  })
}
