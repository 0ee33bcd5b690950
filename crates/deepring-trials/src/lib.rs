//! What the engine is put through: long programs against real kernels, real file systems and real crashes.
//!
//! Each trial is a module here, a program in `src/bin` that runs it for as long as one likes (`npm run fsx`, `npm run lab`, ...), and a
//! test in `tests` that runs it in a short form. A program ends with one line that sums it up, and with 1 if a promise was broken.
//!
//! The harness they use (disks made of files, seeds, content that can be recognised) is that of the engine's own integration tests.

#[path = "../../deepring/tests/harness/mod.rs"]
pub mod harness;

pub mod crash;
pub mod faultfs;
pub mod fsx;
pub mod lab;
