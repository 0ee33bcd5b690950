// An npm registry on loopback, for checks: it takes what `npm publish` sends, and serves it to any package manager. It knows no
// other package, so nothing else can be installed from it. It keeps everything in memory.

import { createHash } from 'node:crypto'
import { createServer } from 'node:http'

/**
 * Starts a registry. Returns its address, the packages that it has, by name, and every request that came (`GET /deepring`).
 */
export async function startRegistry() {
  const packages = new Map()
  const requests = []
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, 'http://registry').pathname)
    requests.push(`${request.method} ${path}`)
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const { status, type = 'application/json', body } = answer(request.method, path, Buffer.concat(chunks))
      response.writeHead(status, { 'content-type': type, 'content-length': body.length })
      response.end(body)
    })
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${server.address().port}/`

  function answer(method, path, body) {
    const [, name, tarball] = /^\/([\w.-]+)(?:\/-\/([\w.-]+\.tgz))?$/.exec(path) ?? []
    if (method === 'PUT' && name !== undefined) return publish(name, JSON.parse(body.toString()))
    const found = packages.get(name)
    if (method !== 'GET' || found === undefined) return json(404, { error: `${method} ${path}: not found` })
    if (tarball === undefined) return json(200, found.document)
    const content = found.tarballs.get(tarball)
    if (content === undefined) return json(404, { error: `no ${tarball}` })
    return { status: 200, type: 'application/octet-stream', body: content }
  }

  /** Takes one version, with its tarball in base64. A version that exists stays as it is. */
  function publish(name, { versions, 'dist-tags': tags, _attachments: attachments }) {
    const known = packages.get(name) ?? {
      document: { name, 'dist-tags': {}, versions: {}, time: { created: LONG_AGO, modified: LONG_AGO } },
      tarballs: new Map(),
    }
    for (const [version, manifest] of Object.entries(versions)) {
      if (version in known.document.versions) return json(403, { error: `${name}@${version} exists already` })
      const [{ data }] = Object.values(attachments)
      const content = Buffer.from(data, 'base64')
      const integrity = `sha512-${createHash('sha512').update(content).digest('base64')}`
      if (integrity !== manifest.dist.integrity)
        return json(400, { error: `${name}@${version}: other bytes than said` })
      const file = `${name}-${version}.tgz`
      known.tarballs.set(file, content)
      known.document.versions[version] = { ...manifest, dist: { ...manifest.dist, tarball: `${url}${name}/-/${file}` } }
      known.document.time[version] = LONG_AGO
    }
    Object.assign(known.document['dist-tags'], tags)
    packages.set(name, known)
    return json(201, { ok: true })
  }

  return { url, packages, requests, close: () => new Promise((resolve) => server.close(resolve)) }
}

/** Package managers refuse versions that are younger than a day or so. */
const LONG_AGO = '2020-01-01T00:00:00.000Z'

function json(status, value) {
  return { status, body: Buffer.from(JSON.stringify(value)) }
}
