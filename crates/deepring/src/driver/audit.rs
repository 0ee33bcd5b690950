//! The driver's books, checked between two halves of a turn: what is held must be held by somebody.

use super::request::Block;
use super::{Driver, Waits};
use crate::budget::Cost;
use crate::slots::Key;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

impl Driver {
    fn all_blocks(&self) -> impl Iterator<Item = (Key, &Block)> {
        self.blocks.keys().into_iter().filter_map(|key| Some((key, self.blocks.get(key)?)))
    }

    /// Compares budget, windows and counters with the blocks in flight.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn audit(&self) -> Result<(), String> {
        let mut per_request: BTreeMap<u64, u32> = BTreeMap::new();
        let mut per_device: BTreeMap<usize, Cost> = BTreeMap::new();
        let mut per_handle: BTreeMap<u64, (u32, u32)> = BTreeMap::new();
        for (key, block) in self.all_blocks() {
            let Some(request) = self.requests.get(block.request) else { return Err(format!("block {key:?} belongs to no request")) };
            *per_request.entry(block.request.to_bits()).or_default() += 1;
            let used = per_device.entry(request.device).or_insert(Cost { requests: 0, bytes: 0 });
            used.requests += block.cost.requests;
            used.bytes += block.cost.bytes;
            if let Some(handle) = &request.submission.handle {
                per_handle.entry(handle.number()).or_insert((0, handle.in_flight())).0 += 1;
            }
        }
        for key in self.requests.keys() {
            let Some(request) = self.requests.get(key) else { continue };
            let counted = per_request.get(&key.to_bits()).copied().unwrap_or(0);
            if request.in_flight != counted {
                return Err(format!("request {key:?} counts {} blocks in flight and has {counted}", request.in_flight));
            }
        }
        for (index, device) in self.devices.iter().enumerate() {
            let counted = per_device.get(&index).copied().unwrap_or(Cost { requests: 0, bytes: 0 });
            if device.used() != counted {
                return Err(format!("device {index} has {:?} taken, its blocks hold {counted:?}", device.used()));
            }
        }
        for (handle, (blocks, in_flight)) in per_handle {
            if blocks != in_flight {
                return Err(format!("handle {handle} counts {in_flight} blocks and has {blocks}"));
            }
        }
        let counted = self.core.counters.in_flight.load(Ordering::Relaxed);
        if counted != self.blocks.len() as u64 {
            return Err(format!("{counted} blocks are counted in flight, there are {}", self.blocks.len()));
        }
        Ok(())
    }

    /// What is unfinished, for a report.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "{} requests, {} blocks, {} controls, {} jobs, {} paths queued, {} paths open, {} extending, stopping {}",
            self.requests.len(),
            self.blocks.len(),
            self.controls.len(),
            self.jobs,
            self.paths.len(),
            self.open_paths,
            self.extending,
            self.stopping
        );
        for key in self.requests.keys() {
            let Some(request) = self.requests.get(key) else { continue };
            let waits = match request.waits {
                Waits::No => "for nothing",
                Waits::Parked => "parked",
                Waits::Helper => "for a helper",
            };
            // A string takes whatever is written to it.
            let _ = write!(
                text,
                "\n  {:?} {}..{}: waits {waits}, cursor {}, {} in flight, {} late, failure {:?}, kept {:?}, stopped {}",
                request.submission.direction,
                request.submission.position,
                request.end(),
                request.cursor,
                request.in_flight,
                request.late.len(),
                request.failure,
                request.kept,
                request.is_stopped()
            );
        }
        text
    }
}
