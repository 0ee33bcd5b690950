//! The simulated backend of one engine. It keeps no state: everything in flight lies in the world.

use super::flight::BackendState;
use super::world;
use crate::backend::{Backend, BackendKind, DeviceOp, Done};
use crate::sys::Errno;

pub(crate) struct SimBackend {
    backend: usize,
}

impl SimBackend {
    /// A backend in this thread's world for the engine with this index.
    pub(crate) fn new(engine: usize, kind: BackendKind) -> Self {
        Self { backend: world::with(|world| world.add_backend(engine, kind)).unwrap_or(0) }
    }

    fn backend(&self) -> Option<BackendState> {
        world::with(|world| world.devices.backends[self.backend].clone())
    }
}

impl Backend for SimBackend {
    fn kind(&self) -> BackendKind {
        self.backend().map_or(BackendKind::Uring, |backend| backend.kind)
    }

    fn capacity(&self) -> usize {
        world::with(|world| world.profile.capacity).unwrap_or(1)
    }

    fn push(&mut self, op: DeviceOp) {
        world::with(|world| world.push(self.backend, op));
    }

    fn submit(&mut self) -> Result<(), Errno> {
        if let Some(backend) = self.backend() {
            world::with(|world| world.submit(backend.engine));
        }
        Ok(())
    }

    fn wait(&mut self, _: bool, done: &mut Vec<Done>) -> Result<(), Errno> {
        // Virtual time has passed while the driver was not called; see `crate::sim::run`.
        world::with(|world| world.collect(self.backend, done)).unwrap_or(Ok(()))
    }

    fn abandon(self: Box<Self>) {
        world::with(|world| world.lose(self.backend));
    }

    fn successor(&self) -> Result<Box<dyn Backend>, Errno> {
        let engine = self.backend().map_or(0, |backend| backend.engine);
        Ok(Box::new(Self::new(engine, BackendKind::Threads)))
    }
}

impl Drop for SimBackend {
    fn drop(&mut self) {
        world::with(|world| world.close_backend(self.backend));
    }
}
