// Files of Debian packages. `unpack` puts them under target/: nothing is installed on the machine, so it needs no root, and
// packages of another processor are as good as those of this one. `install` installs them, as root.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

const base = join(import.meta.dirname, '..', 'target', 'debian')

/** Where Debian serves a release that is not this machine's. */
const MIRROR = '[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian'

/** Installs packages on this machine, if this is root on Debian. Whoever needs them looks afterwards whether they are there. */
export function install(...packages) {
  if (process.getuid?.() !== 0) return
  process.stderr.write(`deepring: installing ${packages.join(', ')}\n`)
  const words = ['install', '-y', '-qq', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=600', ...packages]
  const options = { stdio: ['ignore', 2, 2], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } }
  // Lists that could not be fetched anew may do.
  for (const parameters of [['update', '-qq'], words]) spawnSync('apt-get', parameters, options)
}

/**
 * Unpacks packages, and those of their dependencies whose names `follow` matches, and returns the folder that is then their
 * root. It is made once, and has the name `name`. They are of this machine's release of Debian, or of `release`.
 *
 * @throws if this is not Debian, or a package cannot be downloaded.
 */
export function unpack(name, packages, { architecture = 'amd64', follow = /^$/, release } = {}) {
  const folder = join(base, name)
  // Written last, so that what was interrupted is made again.
  const mark = join(folder, '.complete')
  if (existsSync(mark)) return folder
  if (spawnSync('apt-get', ['--version']).error) throw new Error('apt-get is missing: this needs a Debian system')
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const { lists, settings } = apt(release)
  const archives = join(base, `${name}.archives`)
  rmSync(archives, { recursive: true, force: true })
  mkdirSync(archives)
  const closure = () =>
    withDependencies(packages, architecture, follow, settings).map((found) => `${found}:${architecture}`)
  const download = () =>
    execFileSync('apt-get', [...settings, 'download', '-qq', ...closure()], { cwd: archives, stdio: ['ignore', 2, 2] })
  process.stderr.write(`deepring: downloading ${packages.join(', ')} (${architecture})\n`)
  // The lists can be old or absent; they are fetched only then.
  try {
    if (readdirSync(lists).length < 3) throw new Error('no lists')
    download()
  } catch {
    execFileSync('apt-get', [...settings, 'update', '-qq'], { stdio: ['ignore', 2, 2] })
    download()
  }
  for (const archive of readdirSync(archives)) execFileSync('dpkg-deb', ['-x', join(archives, archive), folder])
  rmSync(archives, { recursive: true })
  writeFileSync(mark, '')
  return folder
}

/** apt with lists and a cache of its own. It must not become another user, who cannot write into a checkout. */
function apt(release) {
  const place = release === undefined ? base : join(base, release)
  const [lists, cache] = [join(place, 'lists'), join(place, 'cache')]
  for (const path of [join(lists, 'partial'), join(cache, 'archives', 'partial')]) mkdirSync(path, { recursive: true })
  const settings = [
    ['APT::Sandbox::User', 'root'],
    ['APT::Architectures', 'amd64,arm64'],
    ['Dir::State::lists', lists],
    ['Dir::Cache', cache],
  ]
  if (release !== undefined) {
    const sources = join(place, 'sources.list')
    writeFileSync(sources, `deb ${MIRROR} ${release} main\n`)
    settings.push(['Dir::Etc::sourcelist', sources], ['Dir::Etc::sourceparts', '/dev/null'])
  }
  return { lists, settings: settings.flatMap(([name, value]) => ['-o', `${name}=${value}`]) }
}

function withDependencies(packages, architecture, follow, settings) {
  const found = new Set(packages)
  for (const name of found) {
    const parameters = ['depends', '--important', `${name}:${architecture}`]
    const depends = execFileSync('apt-cache', [...settings, ...parameters], { encoding: 'utf8' })
    for (const [, other] of depends.matchAll(/Depends: ([a-z\d][\w.+-]*)/g)) if (follow.test(other)) found.add(other)
  }
  return [...found]
}
