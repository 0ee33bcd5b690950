//! The driver's books: what is held must be held for something that exists.
//!
//! Checked after every half turn of a simulation, and after the turns of a debug build while there is little to check.

use super::Driver;
use super::block::Block;
use super::request::{Phase, Waiting};
use super::window::Window;
use crate::budget::Cost;
use crate::slots::Key;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::Ordering;

impl Driver {
    /// In a debug build, checks the books of an engine that has little to do. (A check takes as long as there are
    /// requests; of a million, each turn would.)
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        const REQUESTS_MAX: usize = 64;
        if self.requests.len() <= REQUESTS_MAX {
            let fault = self.audit().err();
            debug_assert!(fault.is_none(), "{fault:?}: {}", self.describe());
        }
    }

    fn all_blocks(&self) -> impl Iterator<Item = (Key, &Block)> {
        self.blocks.keys().into_iter().filter_map(|key| Some((key, self.blocks.get(key)?)))
    }

    /// Compares lines, budgets, windows and counters with the requests and the blocks in flight.
    ///
    /// # Errors
    /// What does not fit.
    pub(crate) fn audit(&self) -> Result<(), String> {
        self.audit_blocks()?;
        self.audit_lines()
    }

    fn audit_blocks(&self) -> Result<(), String> {
        let mut per_request: BTreeMap<u64, u32> = BTreeMap::new();
        let mut per_queue: BTreeMap<usize, (Cost, usize)> = BTreeMap::new();
        let mut held: BTreeMap<usize, (u32, u32)> = BTreeMap::new();
        let mut flying = vec![[(0u64, 0u32); 2]; self.devices.len()];
        let mut per_window: BTreeMap<(u64, usize), u32> = BTreeMap::new();
        for (key, block) in self.all_blocks() {
            let Some(request) = self.requests.get(block.request) else { return Err(format!("block {key:?} belongs to no request")) };
            *per_request.entry(block.request.to_bits()).or_default() += 1;
            for rider in &block.riders {
                *per_request.entry(rider.request.to_bits()).or_default() += 1;
            }
            let (used, blocks) = per_queue.entry(request.queue).or_insert((Cost::NOTHING, 0));
            used.add(block.grant.cost);
            *blocks += 1;
            let lane = &mut flying[self.queues[request.queue].device][request.submission.direction as usize];
            *lane = (lane.0 + block.grant.bytes, lane.1 + 1);
            if let Some(handle) = &request.submission.handle {
                *per_window.entry((handle.number(), request.queue)).or_default() += 1;
            }
        }
        for key in self.requests.keys() {
            let counted = per_request.get(&key.to_bits()).copied().unwrap_or(0);
            let in_flight = self.requests[key].in_flight;
            let request = &self.requests[key];
            let (waiting, room) = held.entry(request.queue).or_default();
            *waiting += u32::from(request.place.is_some());
            *room += u32::from(request.phase() == Phase::MakingRoom);
            if in_flight != counted {
                return Err(format!("request {key:?} counts {in_flight} blocks in flight and has {counted}"));
            }
        }
        let mut per_device = vec![Cost::NOTHING; self.devices.len()];
        for (index, queue) in self.queues.iter().enumerate() {
            let (used, blocks) = per_queue.get(&index).copied().unwrap_or((Cost::NOTHING, 0));
            per_device[queue.device].add(used);
            if (queue.used, queue.blocks) != (used, blocks) {
                return Err(format!("queue {index} counts {} blocks and {:?}, and has {blocks} and {used:?}", queue.blocks, queue.used));
            }
            let counted = held.get(&index).copied().unwrap_or_default();
            if queue.schedule.held() != counted || queue.making_room != counted.1 as usize {
                let (count, of_files) = (queue.making_room, queue.schedule.held());
                return Err(format!("queue {index} counts {count} that wait for room, {of_files:?} of its files, and has {counted:?}"));
            }
        }
        for (index, device) in self.devices.iter().enumerate() {
            if device.budget.own().used() != per_device[index] {
                return Err(format!("device {index} has {:?} taken, its blocks hold {:?}", device.budget.own().used(), per_device[index]));
            }
            if device.flying() != flying[index] {
                return Err(format!("the windows of device {index} count {:?}, its blocks are {:?}", device.flying(), flying[index]));
            }
        }
        for (number, window) in &self.windows {
            let counted = per_window.get(number).copied().unwrap_or(0);
            if window.in_flight() != counted {
                return Err(format!("the window {number:?} counts {} blocks and has {counted}", window.in_flight()));
            }
            if window.is_idle() {
                return Err(format!("the window {number:?} is idle and was not dropped"));
            }
        }
        let counted = self.core.counters.in_flight.load(Ordering::Relaxed);
        if counted != self.blocks.len() as u64 {
            return Err(format!("{counted} blocks are counted in flight, there are {}", self.blocks.len()));
        }
        Ok(())
    }

    /// A request that is ready stands in its device's line once, one that waits for its window in that line, and no
    /// other request stands in any.
    fn audit_lines(&self) -> Result<(), String> {
        let mut ready: Vec<u64> = self.queues.iter().flat_map(|queue| queue.schedule.begun()).map(Key::to_bits).collect();
        let mut queued: Vec<u64> = self.windows.values().flat_map(Window::line).map(Key::to_bits).collect();
        ready.sort_unstable();
        queued.sort_unstable();
        for key in self.requests.keys() {
            let request = &self.requests[key];
            let (is_ready, is_queued) = (ready.binary_search(&key.to_bits()).is_ok(), queued.binary_search(&key.to_bits()).is_ok());
            let fits = match request.phase() {
                Phase::Ready => is_ready,
                Phase::Parked(Waiting::Window) => is_queued && !is_ready,
                Phase::Parked(_) | Phase::MakingRoom | Phase::Draining | Phase::Trimming | Phase::Closing => !is_ready && !is_queued,
            };
            if !fits {
                return Err(format!(
                    "request {key:?} is {:?}, in its device's line {is_ready}, in its window's {is_queued}",
                    request.phase()
                ));
            }
            if request.phase() == Phase::Draining && request.is_drained() {
                return Err(format!("request {key:?} is drained and was not settled"));
            }
            if !request.late_edges.is_empty() && request.phase() != Phase::MakingRoom {
                return Err(format!("request {key:?} has late edges in phase {:?}", request.phase()));
            }
        }
        for line in [&ready, &queued] {
            if line.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err("a request stands in a line twice".to_owned());
            }
            if let Some(&bits) = line.iter().find(|&&bits| self.requests.get(Key::from_bits(bits)).is_none()) {
                return Err(format!("{:?} stands in a line and is gone", Key::from_bits(bits)));
            }
        }
        Ok(())
    }

    /// What is unfinished, for a report.
    pub(crate) fn describe(&self) -> String {
        let (paths_queued, paths_open) = self.paths.counts();
        let mut text = format!(
            "{} requests, {} blocks, {} controls, {} jobs, {paths_queued} paths queued, {paths_open} paths open, stopping {}",
            self.requests.len(),
            self.blocks.len(),
            self.controls.len(),
            self.jobs,
            self.stopping
        );
        for key in self.requests.keys() {
            let request = &self.requests[key];
            // A string takes whatever is written to it.
            let _ = write!(
                text,
                "\n  {:?} {}..{}: {:?}, {:?}, cursor {}, {} in flight, {} late edges, stopped {}",
                request.submission.direction,
                request.submission.position,
                request.end(),
                request.phase(),
                request.claim,
                request.cursor,
                request.in_flight,
                request.late_edges.len(),
                request.is_stopped()
            );
        }
        text
    }
}
