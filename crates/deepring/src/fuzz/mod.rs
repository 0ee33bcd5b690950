//! Hostile input for everything that computes with numbers or parses text from outside: the bodies
//! of the fuzz targets. Not part of the public API.
//!
//! ```text
//!   plan       positions, lengths, addresses, block sizes  ─► extents
//!   queue      the text of sysfs                            ─► a device's queue
//!   geometry   statx and XFS_IOC_DIOINFO                    ─► alignment ─► extents
//!   settings   DEEPRING_BACKEND, an engine's and a handle's numbers
//!   error      any errno, path and numbers                  ─► code, sentence, message
//! ```
//!
//! A target builds an input from bytes and panics if a promise does not hold. In `npm run fuzz`
//! libFuzzer searches for such bytes (`crates/deepring/fuzz`). Without libFuzzer, the tests here
//! run each target on the corpus that it left, and on mutations of it.

mod error;
mod geometry;
mod plan;
mod queue;
mod settings;

/// A target: panics on a broken promise.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("plan", plan::check),
    ("queue", queue::check),
    ("geometry", geometry::check),
    ("settings", settings::check),
    ("error", error::check),
];

/// The target with a planted bug, which must fail: see `plan`.
pub const PLANTED: (&str, Target) = ("planted", plan::planted);

/// Runs a target by its name.
///
/// # Panics
/// If a promise does not hold, or `name` is not a target.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().chain([&PLANTED]).find(|(known, _)| *known == name);
    let (_, check) = target.unwrap_or_else(|| panic!("there is no target {name}"));
    check(bytes);
}

#[cfg(test)]
mod tests;
