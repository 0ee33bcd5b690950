//! A program with a bug, for `npm run asan`: it frees memory that it has lent to a transfer. AddressSanitizer must report it.
//!
//! The read begins at an odd position, so the engine copies its bytes out of a bounce block, on a thread of its own, into what is freed by
//! then. Without the sanitizer nobody would notice, which is why this is no test.

use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{BackendKind, Direct, Direction, Engine, OpenOptions};
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

struct Told(Sender<bool>);

impl Completion for Told {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        // Nobody listens any more if the sanitizer has done its work.
        let _ = self.0.send(outcome.result.is_ok());
    }

    fn canceled(&self) -> bool {
        false
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    const BYTES: usize = 1 << 20;
    let directory = std::env::var_os("DEEPRING_TEST_DIR").map_or_else(std::env::temp_dir, Into::into);
    let place = tempfile::tempdir_in(directory)?;
    let path = place.path().join("file");
    std::fs::write(&path, vec![1u8; 2 * BYTES])?;
    let engine = Engine::builder().backend(BackendKind::Threads).build()?;
    let file = engine.open(&path, OpenOptions::new().read(true).direct(Direct::Require))?;
    let (sender, told) = channel();
    let mut memory = vec![0u8; BYTES];
    let (address, len) = (memory.as_mut_ptr() as u64, memory.len() as u64);
    let transfer = RawTransfer { direction: Direction::Read, address, len, position: 1, exact: true, handle: None };
    // SAFETY: none. The memory is freed before the completion is settled, and that is the bug.
    unsafe { file.submit(transfer, Arc::new(Told(sender))) };
    drop(memory);
    engine.wake();
    let succeeded = told.recv()?;
    Err(format!("nobody noticed; the transfer succeeded: {succeeded}").into())
}
