//! Trials of the engine: long programs against real kernels, real file systems and real crashes.
//!
//! Each trial is a module here, a program in `src/bin` that runs it for any length of time (`npm
//! run fsx`, `npm run lab`, ...), and a test in `tests` that runs its short form. A program ends
//! with a summary line, and exits with 1 if a promise was broken.
//!
//! They share the harness of the engine's own integration tests: disks made of files, seeds,
//! recognizable content.

#[path = "../../deepring/tests/harness/mod.rs"]
pub mod harness;

pub mod crash;
pub mod faultfs;
pub mod fsx;
pub mod lab;
pub mod saves;
