'use strict'

// The loader is lib/core/load.ts. This file is not published; it remains for scripts that copy a
// checkout part by part and name it.
exports.load = () => require('./dist/lib/core/load.js').load()
