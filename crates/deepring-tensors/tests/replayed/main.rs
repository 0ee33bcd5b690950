//! Commits of checkpoints, whose calls are recorded and then cut off after each of them: by a power cut, with every disk that it
//! can leave; by the death of a writer; and by another process that collects. Needs the feature `sim`.
//!
//! Each planted bug of a commit must be found by one of the three: see [`PlantedBug`](deepring_tensors::checkpoint::PlantedBug).

#[path = "../harness/mod.rs"]
mod harness;

mod alive;
mod commits;
mod died;
mod disk;
mod power;
