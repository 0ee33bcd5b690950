// The public names of a module, found by reflection.

/** Properties of every function, and those between a class and its prototype. */
const OF_ALL_FUNCTIONS = new Set(['length', 'name', 'prototype'])

/**
 * The names of everything public in a module or object: each export, and of each class its static and its prototype's
 * members.
 *
 * @param known - Names that do not count, because they belong to something else.
 */
export function surfaceOf(name, module, known = {}) {
  const isModule = Object.prototype.toString.call(module) === '[object Module]'
  const keys = isModule
    ? Object.keys(module)
    : Reflect.ownKeys(module).filter((key) => isMember(key) && !(key in known))
  return keys.flatMap((key) => {
    const path = `${name}.${written(key)}`
    const value = isModule ? module[key] : undefined
    return isClass(value) ? [path].concat(membersOf(path, value)) : path
  })
}

/** Public names without a check, and checks of names that are not public: one sentence each. */
export function unevenness(surface, checked) {
  return [
    ...surface.filter((name) => !checked.includes(name)).map((name) => `${name} is public and not checked`),
    ...checked.filter((name) => !surface.includes(name)).map((name) => `${name} is checked and not public`),
  ]
}

function membersOf(path, made) {
  const fixed = Reflect.ownKeys(made).filter((key) => !OF_ALL_FUNCTIONS.has(key) && isMember(key))
  const each = Reflect.ownKeys(made.prototype).filter((key) => key !== 'constructor' && isMember(key))
  return [...fixed.map((key) => `${path}.${written(key)}`), ...each.map((key) => `${path}.prototype.${written(key)}`)]
}

/** Elements of an array are not members. */
function isMember(key) {
  return typeof key === 'symbol' || !/^\d+$/.test(key)
}

function isClass(value) {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value))
}

/** The description of well-known symbols differs by runtime where the language does not have them yet. */
function written(key) {
  return typeof key === 'symbol' ? `@@${key.description.replace(/^(Symbol|nodejs)\./, '')}` : key
}
