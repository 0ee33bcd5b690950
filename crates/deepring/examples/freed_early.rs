//! A program with a bug, for `npm run asan`: it frees memory that it has lent to a transfer.
//! AddressSanitizer must report it.
//!
//! The read begins at an odd position, so a thread of the engine copies its bytes out of a bounce
//! block, into memory that is already freed. Without the sanitizer the bug goes unnoticed, which is
//! why this is not a test.

use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{BackendKind, Direct, Direction, Engine, OpenOptions};
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

struct Reported(Sender<bool>);

impl Completion for Reported {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        // The receiver is gone if the sanitizer has ended the program.
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
    let (sender, outcome) = channel();
    let mut memory = vec![0u8; BYTES];
    let (address, len) = (memory.as_mut_ptr() as u64, memory.len() as u64);
    let transfer = RawTransfer::new(Direction::Read, address, len, 1).exact(true);
    // SAFETY: none. The memory is freed before the completion has settled; that is the bug.
    unsafe { file.submit(transfer, Arc::new(Reported(sender))) };
    drop(memory);
    engine.wake();
    let succeeded = outcome.recv()?;
    Err(format!("the bug was not noticed; the transfer succeeded: {succeeded}").into())
}
