//! The simulated backend of one engine.

use super::flight::Lane;
use super::world;
use crate::backend::{Backend, BackendKind, DeviceOp, Done};
use crate::sys::Errno;

/// The backend of one engine: a handle to the world's devices.
pub(crate) struct Sim {
    lane: usize,
}

impl Sim {
    /// A backend of this thread's world for the engine `station`.
    pub(crate) fn new(station: usize, kind: BackendKind) -> Self {
        Self { lane: world::with(|world| world.add_lane(station, kind)).unwrap_or(0) }
    }

    fn lane(&self) -> Option<Lane> {
        world::with(|world| world.device.lanes[self.lane].clone())
    }
}

impl Backend for Sim {
    fn kind(&self) -> BackendKind {
        self.lane().map_or(BackendKind::Uring, |lane| lane.kind)
    }

    fn capacity(&self) -> usize {
        world::with(|world| world.profile.capacity).unwrap_or(1)
    }

    fn push(&mut self, op: DeviceOp) {
        world::with(|world| world.push(self.lane, op));
    }

    fn submit(&mut self) -> Result<(), Errno> {
        if let Some(lane) = self.lane() {
            world::with(|world| world.submit(lane.station));
        }
        Ok(())
    }

    fn wait(&mut self, _: bool, done: &mut Vec<Done>) -> Result<(), Errno> {
        // Virtual time has passed while the driver was not called; see `crate::sim::run`.
        world::with(|world| world.collect(self.lane, done)).unwrap_or(Ok(()))
    }

    fn successor(&self) -> Result<Box<dyn Backend>, Errno> {
        let station = self.lane().map_or(0, |lane| lane.station);
        Ok(Box::new(Self::new(station, BackendKind::Threads)))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        world::with(|world| world.close_lane(self.lane));
    }
}
