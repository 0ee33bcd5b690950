//! Holds an engine's driver still, so that a test can queue requests and know that none of them has
//! begun.

use deepring::binding::{Completion, EngineBinding, FileBinding, Outcome, RawTransfer};
use deepring::{Direction, File};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// While it exists, the driver of the file's engine is busy with a completion that does not return.
pub(crate) struct Gate {
    _open: Sender<()>,
}

struct BlockingCompletion {
    arrived: Mutex<Sender<()>>,
    opened: Mutex<Receiver<()>>,
}

impl Completion for BlockingCompletion {
    fn settle(self: Arc<Self>, _: Outcome) {
        self.arrived.lock().expect("the sender").send(()).expect("a test that waits");
        // Ends when the gate is dropped.
        let _ = self.opened.lock().expect("the receiver").recv();
    }
    fn canceled(&self) -> bool {
        false
    }
}

impl Gate {
    pub(crate) fn close(file: &File) -> Self {
        let (arrive, arrived) = channel();
        let (open, opened) = channel();
        let completion = Arc::new(BlockingCompletion { arrived: Mutex::new(arrive), opened: Mutex::new(opened) });
        let address = std::ptr::from_mut(Box::leak(Box::new(0u8))) as u64;
        let transfer = RawTransfer::new(Direction::Read, address, 1, 0);
        // SAFETY: the byte is leaked, so it stays, and nothing else uses it.
        unsafe { file.submit(transfer, completion) };
        file.engine().wake();
        arrived.recv().expect("the driver at the gate");
        Self { _open: open }
    }
}
