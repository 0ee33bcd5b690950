/**
 * The verbs of the command, with their options: the one table that is parsed by, that `--help` prints, and that shells complete
 * from. Pure data: a verb's code is loaded when it runs.
 */

import type { Action } from './invocation.ts'

/** An option of a verb. */
export interface OptionRow {
  /** Without it, the option is a switch. With it, the name of its value in the help. */
  readonly value?: string
  /** The value can be left out; if there is one, it follows a `=`. */
  readonly optional?: true
  readonly short?: string
  readonly help: string
  /** The values that there are. */
  readonly words?: readonly string[]
}

/** A verb. */
export interface Verb {
  /** One word, or two: `checkpoint list`. */
  readonly name: string
  /** The positional arguments, as the help has them. */
  readonly usage: string
  /** How many there are, at least and at most. */
  readonly count: readonly [least: number, most: number]
  /** One line. */
  readonly summary: string
  /** More lines, for its own help. */
  readonly details: readonly string[]
  readonly options: Readonly<Record<string, OptionRow>>
  readonly examples: readonly (readonly [command: string, what: string])[]
  readonly load: () => Promise<Action>
}

/** Options that every verb has. */
export const COMMON: Readonly<Record<string, OptionRow>> = {
  json: { help: 'print one JSON document instead of text' },
  help: { short: 'h', help: 'print this help' },
}

const HTML: OptionRow = {
  value: 'FILE',
  help: 'write a page, too: with charts, tables and the JSON document, in one file',
}

const GENERATION: OptionRow = { value: 'N', help: 'this generation of a store of checkpoints; default: the newest' }

/** All verbs, in the order of the help. */
export const VERBS: readonly Verb[] = [
  {
    name: 'info',
    usage: '[PATH]',
    count: [0, 1],
    summary: 'what moves the bytes here, and why',
    details: [
      'Backend, kernel, limits of the container; and of PATH (default: the working directory) the file system, the',
      'device and its queue, alignment, direct I/O, and what the engine keeps in flight.',
    ],
    options: { html: HTML },
    examples: [
      ['deepring info', 'of the working directory'],
      ['deepring info /mnt/nvme --json', 'for a program'],
      ['deepring info /mnt/nvme --html info.html', 'to attach to an issue'],
    ],
    load: async () => (await import('./info.ts')).info,
  },
  {
    name: 'doctor',
    usage: '[PATH]',
    count: [0, 1],
    summary: 'what to change, in order of gain',
    details: [
      'Prints a sentence for each thing that costs speed or safety here, and how to change it. PATH: default is the',
      'working directory.',
    ],
    options: { check: { help: 'exit with 1 if there is advice' } },
    examples: [
      ['deepring doctor /mnt/nvme', ''],
      ['deepring doctor /mnt/nvme --check', 'for a script that qualifies machines'],
    ],
    load: async () => (await import('./doctor.ts')).doctor,
  },
  {
    name: 'ls',
    usage: 'PATH',
    count: [1, 1],
    summary: 'the tensors of a model or a checkpoint',
    details: [
      'PATH is a safetensors file, an index, a directory of either, or a store of checkpoints. Only headers are read.',
    ],
    options: {
      tree: { help: 'sum up by the parts of the names, between their points' },
      generation: GENERATION,
    },
    examples: [
      ['deepring ls model.safetensors', ''],
      ['deepring ls model/ --tree', 'what takes the room in a model of several files'],
      ['deepring ls run-1/ --generation 12', ''],
    ],
    load: async () => (await import('./ls.ts')).ls,
  },
  {
    name: 'verify',
    usage: 'PATH...',
    count: [0, Infinity],
    summary: 'compares files, models and checkpoints with their checksums',
    details: [
      'A model is compared with the checksums in its headers, a checkpoint with those in its manifest, and what is damaged',
      'is named. Any file is compared with a SHA-256 or CRC-32C, given here or in a list. A blob of the cache of Hugging',
      'Face is named by its SHA-256, also where a link leads to it. Exit code 1: something is damaged, or there is nothing',
      'to compare with.',
    ],
    options: {
      sha256: { value: 'HEX', help: 'the SHA-256 of the one file' },
      crc32c: { value: 'HEX', help: 'the CRC-32C of the one file, 8 digits' },
      list: {
        value: 'FILE',
        help: 'lines of HEX and NAME, as sha256sum and --write make them; names are relative to FILE',
      },
      write: { value: 'FILE', help: 'write such a list with the CRC-32C of each PATH, and compare nothing' },
      generation: { ...GENERATION, help: 'only this generation of a store of checkpoints; default: all' },
    },
    examples: [
      ['deepring verify model.safetensors', 'with the checksums that the file has'],
      ['deepring verify model.gguf --sha256 9f86d0...', ''],
      ['deepring verify --write SUMS *.gguf', ''],
      ['deepring verify --list SUMS', ''],
    ],
    load: async () => (await import('./verify.ts')).verify,
  },
  {
    name: 'cp',
    usage: 'SOURCE... TARGET',
    count: [2, Infinity],
    summary: 'copies files and directories at the speed of the drive',
    details: [
      'A copy is a clone where the file system can make one. Holes, links, hard links, permissions and times are kept.',
      'A file takes its name when it is complete; an interrupted run leaves nothing behind, or with --resume what the next',
      'one goes on from: that reads the part that is there again, and compares it with the checksums of a journal beside TARGET.',
    ],
    options: {
      recursive: { short: 'r', help: 'copy directories, with what is in them' },
      'no-clone': { help: 'always copy the bytes' },
      verify: { help: 'read each copy back, past the page cache, and compare checksums' },
      resume: { help: 'keep what an interruption leaves, and go on from it' },
      durable: { help: 'end when everything survives a power cut' },
      jobs: { value: 'N', help: 'files at once; default 8' },
    },
    examples: [
      ['deepring cp model.safetensors /mnt/nvme/', ''],
      ['deepring cp -r model/ /mnt/nvme/model --verify', ''],
      ['deepring cp -r --resume model/ /mnt/backup/model', 'the same again after an interruption'],
    ],
    load: async () => (await import('./cp.ts')).cp,
  },
  {
    name: 'checkpoint list',
    usage: 'DIR',
    count: [1, 1],
    summary: 'the generations of a store of checkpoints',
    details: [],
    options: {},
    examples: [['deepring checkpoint list run-1', '']],
    load: async () => (await import('./checkpoint.ts')).list,
  },
  {
    name: 'checkpoint verify',
    usage: 'DIR [N...]',
    count: [1, Infinity],
    summary: 'reads every byte of generations, and compares checksums',
    details: ['Without a number, it reads all generations. Exit code 1: one is damaged.'],
    options: {},
    examples: [['deepring checkpoint verify run-1 12 13', '']],
    load: async () => (await import('./checkpoint.ts')).verify,
  },
  {
    name: 'checkpoint pin',
    usage: 'DIR N...',
    count: [2, Infinity],
    summary: 'keeps generations until they are unpinned',
    details: [],
    options: {},
    examples: [['deepring checkpoint pin run-1 12', '']],
    load: async () => (await import('./checkpoint.ts')).pin,
  },
  {
    name: 'checkpoint unpin',
    usage: 'DIR N...',
    count: [2, Infinity],
    summary: 'removes pins',
    details: [],
    options: {},
    examples: [['deepring checkpoint unpin run-1 12', '']],
    load: async () => (await import('./checkpoint.ts')).unpin,
  },
  {
    name: 'checkpoint remove',
    usage: 'DIR N...',
    count: [2, Infinity],
    summary: 'removes generations that are neither pinned nor open',
    details: [],
    options: {},
    examples: [['deepring checkpoint remove run-1 7', '']],
    load: async () => (await import('./checkpoint.ts')).remove,
  },
  {
    name: 'checkpoint collect',
    usage: 'DIR',
    count: [1, 1],
    summary: 'removes what dead writers left, and generations beyond a number',
    details: ['Without --last and --every, no generation is removed. Pinned and open ones never are.'],
    options: {
      last: { value: 'N', help: 'keep only the N newest that are whole' },
      every: { value: 'STEPS', help: 'with --last: keep also those whose step is a multiple of this' },
    },
    examples: [
      ['deepring checkpoint collect run-1', 'only the remains of dead writers'],
      ['deepring checkpoint collect run-1 --last 3 --every 10000', ''],
    ],
    load: async () => (await import('./checkpoint.ts')).collect,
  },
  {
    name: 'swap stats',
    usage: 'DIR',
    count: [1, 1],
    summary: 'what a swap store had at its last flush, and who has it open',
    details: ['Reads the index and the table of locks of the kernel. Takes no lock, and disturbs no process.'],
    options: {},
    examples: [['deepring swap stats /mnt/nvme/swap', '']],
    load: async () => (await import('./swap.ts')).stats,
  },
  {
    name: 'convert',
    usage: 'SOURCE TARGET',
    count: [2, 2],
    summary: 'writes a model with another element type, order or number of files',
    details: [
      'SOURCE is what `ls` takes. TARGET is a file; with --shards it is a directory that is new or has no model. Elements of',
      'integers stay as they are. What was there is replaced as a whole, or stays.',
    ],
    options: {
      dtype: { value: 'TYPE', help: 'convert floating-point tensors to this', words: ['F32', 'F16', 'BF16'] },
      shards: { value: 'SIZE', help: 'several files of at most this size, and an index' },
      order: { value: 'ORDER', help: 'of the tensors in a file', words: ['blocks', 'reference', 'given'] },
      checksum: { help: 'state the CRC-32C of each tensor in the header, for `deepring verify`' },
      memory: { value: 'SIZE', help: 'hold at most SIZE of the tensors in memory; default 1G' },
      generation: GENERATION,
    },
    examples: [
      ['deepring convert model.safetensors half.safetensors --dtype BF16', ''],
      ['deepring convert model.safetensors shards/ --shards 5G --checksum', ''],
    ],
    load: async () => (await import('./convert.ts')).convert,
  },
  {
    name: 'bench',
    usage: '[DIR]',
    count: [0, 1],
    summary: 'what a drive gives, at the place where the data will be',
    details: [
      'Makes files of random bytes in DIR (default: the working directory), reads and writes them past the page cache, round by',
      'round, with node:fs and, where it is installed, fio beside it, and removes them. The first round warms up and is shown apart.',
      'With one of --block-size, --depth, --single-submit, --sequential and --parallel, streams go through an AioHandle, as',
      "those of DeepNVMe's ds_io do. Tasks: read, overwrite, new, sync, random-1, -2, -4 to -128, many, mixed, latency.",
    ],
    options: {
      'io-size': { value: 'SIZE', help: 'bytes of a file; default 1G' },
      'block-size': { value: 'SIZE', help: 'bytes of a block at the device' },
      depth: { value: 'N', help: 'blocks in flight' },
      'single-submit': { help: 'submit blocks one by one' },
      sequential: { help: 'submit the next blocks when all before have ended' },
      parallel: { value: 'N', help: 'multiplies the depth, as the threads of DeepNVMe do' },
      loops: { value: 'N', help: 'rounds behind the one that warms up; default 6' },
      validate: { help: 'compare what was read and written, outside of the time' },
      only: { value: 'TASK,...', help: 'only these tasks' },
      min: { value: 'TASK=RATE,...', help: 'exit with 1 if a task has a lower rate, in the unit of the table' },
      'no-fio': { help: 'do not run fio' },
      profile: { help: 'use the profile of the device, as programs do; without it, none is used' },
      save: { help: 'keep the result, in ~/.local/state/deepring' },
      compare: {
        value: 'FILE',
        optional: true,
        help: 'say what has changed since the last result that was kept, or that in FILE; exit with 1 if a task is worse',
      },
      'no-node-fs': { help: 'do not run node:fs' },
      html: HTML,
    },
    examples: [
      ['deepring bench /mnt/nvme', ''],
      ['deepring bench /mnt/nvme --html bench.html', 'a page with charts'],
      ['deepring bench /mnt/nvme --only read,random-128 --min read=3,random-128=200', 'to qualify a machine'],
      ['deepring bench /mnt/nvme --block-size 1M --depth 32 --sequential', 'as ds_io'],
      ['deepring bench /mnt/nvme --save --compare', 'every night: 1 if the drive has become slower by more than noise'],
    ],
    load: async () => (await import('./bench.ts')).bench,
  },
  {
    name: 'tune',
    usage: '[DIR]',
    count: [0, 1],
    summary: 'finds what a drive needs in flight, and writes a profile that programs use',
    details: [
      'Finds the window and the block of DIR (default: the working directory) for reads and writes: first by the search of the',
      'engine, then beside a short grid of others. The smallest that is as good as the best is chosen, and written to a profile',
      "of the device, in ~/.config/deepring: engines begin their search there. DeepSpeed's section `aio` is printed, too.",
    ],
    options: {
      for: {
        value: 'AIM',
        help: 'what matters; latency takes less in flight, for up to 6 % of the rate',
        words: ['throughput', 'latency'],
      },
      output: { value: 'FILE', help: 'write the profile there; DEEPRING_PROFILE=FILE loads it' },
      html: HTML,
      seconds: { value: 'N', help: 'seconds that it takes at most; default 30' },
      'io-size': {
        value: 'SIZE',
        help: 'bytes of the file, if they can be written in an eighth of the time; default 1G',
      },
    },
    examples: [
      ['deepring tune /mnt/nvme', ''],
      ['deepring tune /mnt/nvme --for latency', 'where requests of users wait behind streams'],
      [
        'deepring tune /mnt/nvme --output nvme.profile --json',
        'and then DEEPRING_PROFILE=nvme.profile for the programs',
      ],
    ],
    load: async () => (await import('./tune.ts')).tune,
  },
  {
    name: 'completion',
    usage: 'SHELL',
    count: [1, 1],
    summary: 'prints a completion script for bash, zsh or fish',
    details: [],
    options: {},
    examples: [
      ['source <(deepring completion bash)', 'in ~/.bashrc; for zsh, the same in ~/.zshrc after compinit'],
      ['deepring completion fish | source', 'in ~/.config/fish/config.fish'],
    ],
    load: async () => (await import('./completion.ts')).completion,
  },
]

/** The verb of these words, and how many of them are its name. */
export function verbOf(words: readonly string[]): Verb | undefined {
  const [first = '', second = ''] = words
  return VERBS.find(({ name }) => name === first || name === `${first} ${second}`)
}

/** All options of a verb. */
export function optionsOf({ options }: Verb): Readonly<Record<string, OptionRow>> {
  return { ...options, ...COMMON }
}
