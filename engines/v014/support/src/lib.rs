//! What the tests of these engines have in common: objects behind a tier, and a process that is killed while it writes.

mod place;
mod writer;

pub use place::Place;
pub use writer::{kill_after, say, say_durable};
