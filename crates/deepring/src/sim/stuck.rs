//! A device that does not answer: nothing moves there, and no job ends that asks for it. Everything else must go on.

use super::run::Run;
use super::world::{self, violate};

/// The most that the client does before it waits.
const MOVES_MAX: u64 = 200;

impl Run {
    /// Makes a device stuck when its time has come. Returns whether one is.
    pub(super) fn get_stuck(&mut self) -> bool {
        if self.profile.stuck_at.is_some_and(|at| at <= self.made) {
            self.profile.stuck_at = None;
            self.stuck_left = self.rng.between(1, MOVES_MAX);
            let device = self.rng.below(self.profile.devices.into()) as u32;
            world::with(|world| {
                world.note(|| format!("device {device} is stuck"));
                world.devices.stuck = Some(device);
            });
        }
        world::with(|world| world.devices.stuck.is_some()).unwrap_or(false)
    }

    /// Nothing else moves any more: what is not on the stuck device must have ended. Then the device goes on.
    pub(super) fn get_unstuck(&mut self) -> bool {
        let Some(stuck) = world::with(|world| world.devices.release(world.now_ns)).flatten() else { return false };
        for (id, request) in &self.requests {
            let number = self.files[request.file].number;
            let device = world::with(|world| world.facts(number).device);
            // A file by path is not known before it exists.
            if number != 0 && device != Some(stuck) {
                violate(format!(
                    "request {id} ({:?}) waits for device {stuck}, and its file is on {device:?}: {}",
                    request.kind,
                    self.describe()
                ));
            }
        }
        world::with(|world| world.note(|| format!("device {stuck} goes on")));
        self.stuck_left = 0;
        true
    }
}
