/** What `npm run test:node` holds over node:fs, and what it cannot hold there. */

/** The files of the suite, by their names. */
export const SPECS: readonly string[] = [
  'abort',
  'aio',
  'aio-handle',
  'append',
  'bad-input',
  'buffer',
  'calls',
  'checksum',
  'deepnvme',
  'disk-full',
  'engine',
  'exact',
  'file',
  'honest',
  'hostile',
  'hostile-tensors',
  'many',
  'memory',
  'node-backend',
  'observed',
  'owned',
  'pending',
  'processes',
  'quiet',
  'safetensors',
  'safetensors-memory',
  'safetensors-readers',
  'safetensors-save',
  'safetensors-stream',
  'save-failures',
  'streams',
  'tensor',
  'whole',
]

/** Those of them that need no Linux. */
export const PORTABLE: readonly string[] = [
  'aio',
  'buffer',
  'checksum',
  'exact',
  'hostile',
  'many',
  'node-backend',
  'owned',
  'pending',
  'tensor',
]

/** Why a test cannot pass over node:fs. One that would wait for ever, or can pass by luck, is not run. */
export type Why = string | { readonly notRun: string }

const RESERVES = 'node:fs reserves no space, so a full disk is found in the middle of a write'
const PINS = 'memory is not pinned'
const SHARDS = 'models in several files are refused'
const WINDOWS = 'it finds no windows'
const NO_DIRECT = 'node:fs has no direct I/O'

/** By file and title. */
export const CANNOT: Readonly<Record<string, Readonly<Record<string, Why>>>> = {
  'aio-handle': {
    'locked tensors are zeroed, pinned and of the example’s type, and are freed once': PINS,
  },
  buffer: {
    'what is kept of disposed memory is bounded, serves other sizes, is counted, and is given up by trim':
      'nothing is pooled',
    'a transfer during a request does not take engine memory away': {
      notRun: 'memory is ordinary, and can be transferred',
    },
    'memory disposed during a write is still written (node)': 'memory is detached when the requests on it have settled',
  },
  checksum: {
    'memory that goes away while a thread sums it is reported': 'it is summed on this thread, before it can go away',
  },
  'disk-full': {
    'a new file that does not fit fails with a typed error, and its space is freed (ext4, node)': RESERVES,
    'an existing file keeps its length and bytes when a longer one does not fit (ext4, node)': RESERVES,
    'where space cannot be reserved, a write that does not fit fails before its first byte, too (ext2, node)': RESERVES,
    'a file that has its length and not its space keeps its bytes, however it is written (ext4, node)': RESERVES,
    'the engine works after a full disk as before (ext4, node)': { notRun: RESERVES },
  },
  engine: {
    'info of a path describes direct I/O there': NO_DIRECT,
    'a window that is auto is reported, within its bounds': WINDOWS,
    'a window that is fixed is reported, within its bounds': WINDOWS,
  },
  file: {
    'a relative path means the directory, also if its name means another one by now':
      'node:fs has no descriptor of the working directory',
  },
  honest: {
    'aligned memory is transferred directly without a copy, and the receipt says so (node)': NO_DIRECT,
    'a closed file keeps the last backend and directness it had (node)': NO_DIRECT,
    'unaligned memory is copied through bounce blocks; the receipt counts the bytes (node)': NO_DIRECT,
    'only unaligned edges are copied (node)': NO_DIRECT,
  },
  'hostile-tensors': {
    'a header of 371 474 tensors does not hold up the event loop': 'headers are read on the JavaScript thread',
  },
  memory: {
    ...Object.fromEntries(
      ['', ' in a worker', ' with permissions', ' where external memory is refused'].map((where) => [
        `every public function${where}: nothing crashes, hangs, leaks or is disturbed`,
        'checkpoints and swap stores are refused',
      ]),
    ),
    'memory taken away: nothing crashes, hangs, leaks or is disturbed': 'a read ends when its memory is taken',
    'workers terminated: nothing crashes, hangs, leaks or is disturbed': {
      notRun: 'node:fs can leave a descriptor open that a terminated worker was about to get',
    },
    'an idle second: nothing crashes, hangs, leaks or is disturbed': 'it asks for threads',
    'an append storm: nothing crashes, hangs, leaks or is disturbed': 'there are no threads of deepring',
  },
  observed: {
    'engines have a doctor, too': 'it asks for threads',
    'if the binding cannot be loaded, that is the advice': 'no binding is loaded',
  },
  processes: {
    'a file and info say whether writes keep other processes out': 'nothing is locked',
  },
  quiet: {
    'a queued transfer runs while the caller computes': { notRun: 'what ends is seen when the event loop turns' },
    'the outcome of a request of the class latency does not wait behind those of others': {
      notRun: 'what ends is seen when the event loop turns',
    },
  },
  'safetensors-memory': {
    'no memory of a load is an ArrayBuffer before its bytes are asked for': 'memory is ordinary',
  },
  'safetensors-readers': { 'the hub parses a model in several files': SHARDS },
  'safetensors-save': {
    'several files replace a model as a whole, and none of the old ones is left (node)': SHARDS,
    'what is saved is loaded again, of every element type (node)': NO_DIRECT,
  },
  whole: {
    'copyFile clones where the file system can, unless it must not': 'node:fs clones no parts of files',
    'copyFile keeps holes, at the front, in the middle and at the end': 'node:fs does not find holes',
    'hashFile computes beside the JavaScript thread':
      'without the binary, CRC-32C is computed on the JavaScript thread',
    'readFile, copyFile and chunks go past 2 GiB, where node:fs ends': 'node:fs does not find holes',
  },
}
