// The crates, and the features with which they are tested and documented: named once for all scripts.

/** What is published, in the order in which it would be. */
export const CRATES = ['deepring', 'deepring-tensors', 'deepring-object-store']

/** The features that users can choose; those of the simulation are apart. */
export const FEATURES = [
  'deepring/bytes',
  'deepring/tracing',
  'deepring-object-store/v013',
  'deepring-object-store/v014',
  'deepring-object-store/checkpoint',
]

/**
 * The crate `deepring-tier`, a workspace of its own, because it needs a later Rust than the others. It is tested, linted and
 * documented with them. It is not packed with them: cargo packs a crate alone only if its dependencies are in the registry,
 * so it is published when `deepring` is there. It is built in the folder of the others, of which it has most dependencies in
 * common.
 */
export const TIER = {
  manifest: 'crates/deepring-tier/Cargo.toml',
  parameters: [
    ...['--manifest-path', 'crates/deepring-tier/Cargo.toml', '--target-dir', 'target'],
    ...['--locked', '--features', 'v013,v014'],
  ],
}
