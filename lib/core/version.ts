/** The version of the package. A bundle has no package.json, and the binary must be of the same version. */
export const VERSION = '0.1.0'
