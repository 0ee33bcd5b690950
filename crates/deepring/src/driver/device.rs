//! A device: its budget, and the windows within it that are found while it works. Pure but for the budget.

use super::flows::Size;
use super::probe::{Bounds, Search};
use super::schedule::{Contention, Price};
use crate::budget::Cost;
use crate::config::{Config, WindowMode};
use crate::open::Device as Found;
use crate::plan::Direction;
use crate::priority::Priority;
use crate::profile::{Seed, Seeds};
use crate::share::Share;
use crate::windows::{DeviceWindow, WindowBoard, WindowSize};
use std::sync::Arc;
use std::time::Duration;

/// What a device request can carry at most in scattered memory: 254 segments of 4 KiB on common queues, less one for
/// safety of rounding.
const SCATTERED_REQUEST_BYTES: u64 = 1 << 20;

/// The fewest small blocks in flight that are searched for.
const WINDOW_BLOCKS_MIN: u64 = 16;
/// Where the search begins: alone, with the constant that suited most drives; shared, with what a drive of 7 GB/s and
/// 1 ms needs.
const START_BYTES: [u64; 2] = [64 << 20, 8 << 20];

/// Blocks that fit into a device's queue, or into the window, at least.
const BLOCKS_IN_QUEUE: u64 = 8;
const BLOCKS_IN_WINDOW: u64 = 4;
/// A profile says how many blocks a window has, but not more than these.
const BLOCKS_IN_WINDOW_MAX: u64 = 1024;
/// No block is cut smaller than this for the sake of the window.
const BLOCK_BYTES_MIN: u64 = 256 << 10;

/// Small requests go beyond a window that large ones fill by this part of it.
const SMALL_SHARE: u64 = 8;
const SMALL_BYTES_MIN: u64 = 1 << 20;

/// For so long after the last sign of it, a device counts as shared: the next small request would wait for what is in
/// flight when it comes.
const CONTENTION_LASTS: Duration = Duration::from_secs(2);

/// The price of one device operation in bytes: before it is known, and its bounds.
const OPERATION_BYTES: u64 = 16 << 10;
const OPERATION_BYTES_MIN: u64 = 4 << 10;
const OPERATION_BYTES_MAX: u64 = 256 << 10;

/// One direction of a device.
struct Lane {
    /// In bytes, and in small blocks.
    bytes: Search,
    blocks: Search,
    flying_bytes: u64,
    flying_blocks: u32,
    flying_small: u32,
    /// What has come since the last sample, and what was refused.
    came_bytes: u64,
    came_small: u64,
    refused: [bool; 2],
    /// The price of an operation beside its bytes.
    operation_bytes: u64,
    /// Blocks that a window is cut into.
    blocks_in_window: u64,
}

impl Lane {
    /// Begins where a profile says.
    fn seed(&mut self, seed: Seed) {
        self.bytes.seed(seed.window, seed.shared);
        self.blocks.seed(seed.blocks, seed.blocks.map(|blocks| (blocks / 2).max(1)));
        if let (Some(window), Some(block)) = (seed.window, seed.block) {
            self.blocks_in_window = (window / block.max(1)).clamp(1, BLOCKS_IN_WINDOW_MAX);
        }
        if let Some(gap) = seed.gap {
            self.operation_bytes = gap.clamp(OPERATION_BYTES_MIN, OPERATION_BYTES_MAX);
        }
    }
}

/// What one device may have in flight, and has.
pub(super) struct Device {
    pub(super) budget: Share,
    /// Which of the descriptions of this device was followed last.
    version: u64,
    request_bytes: u64,
    /// The largest block that leaves room for others in the device's queue.
    block_bytes: u64,
    /// Whether more than one file system lives there.
    pub(super) is_shared: bool,
    finds_window: bool,
    lanes: [Lane; 2],
    contention: Contention,
    contended_at: Duration,
    board: Arc<WindowBoard>,
    /// Where the searches begin, if a profile says so.
    seeds: Option<Seeds>,
}

/// The limits of a device for an engine.
pub(super) fn limit_of(config: &Config, found: &Found) -> Cost {
    Cost { blocks: config.device_blocks(found.requests), requests: Config::device_requests(found.requests), bytes: config.in_flight_bytes }
}

fn searches(config: &Config, limit: Cost) -> [Search; 2] {
    let bytes =
        Bounds { min: config.window_bytes_min.min(limit.bytes), max: limit.bytes, start: START_BYTES.map(|start| start.min(limit.bytes)) };
    let blocks = u64::from(limit.blocks.min(limit.requests));
    [Search::new(bytes), Search::new(Bounds { min: WINDOW_BLOCKS_MIN.min(blocks), max: blocks, start: [blocks, (blocks / 2).max(1)] })]
}

fn block_bytes_of(found: &Found, limit: Cost) -> u64 {
    let request_bytes = found.request_bytes.min(SCATTERED_REQUEST_BYTES);
    let bytes = u64::from(limit.requests).saturating_mul(request_bytes) / BLOCKS_IN_QUEUE;
    // A power of two, so that blocks start where the file system's do.
    1 << bytes.max(4096).ilog2()
}

impl Device {
    pub(super) fn new(config: &Config, found: &Found, budget: Share, board: Arc<WindowBoard>) -> Self {
        let limit = budget.own().limit();
        let lane = || {
            let [bytes, blocks] = searches(config, limit);
            Lane {
                bytes,
                blocks,
                flying_bytes: 0,
                flying_blocks: 0,
                flying_small: 0,
                came_bytes: 0,
                came_small: 0,
                refused: [false; 2],
                operation_bytes: OPERATION_BYTES,
                blocks_in_window: BLOCKS_IN_WINDOW,
            }
        };
        let device = Self {
            budget,
            version: found.version,
            request_bytes: found.request_bytes,
            block_bytes: block_bytes_of(found, limit),
            is_shared: false,
            finds_window: config.window == WindowMode::Auto,
            lanes: [lane(), lane()],
            contention: Contention::Alone,
            contended_at: Duration::ZERO,
            board,
            seeds: None,
        };
        device.publish();
        device
    }

    /// The profile of the device was found.
    pub(super) fn seed(&mut self, seeds: Seeds) {
        self.seeds = Some(seeds);
        self.begin_as_seeded();
        self.publish();
    }

    fn begin_as_seeded(&mut self) {
        for (lane, seed) in self.lanes.iter_mut().zip(self.seeds.iter().flatten()) {
            lane.seed(*seed);
        }
    }

    /// The device's queue has been looked at again: what it holds now is followed.
    pub(super) fn follow(&mut self, config: &Config, found: &Found) {
        if found.version <= self.version {
            return;
        }
        let limit = limit_of(config, found);
        (self.version, self.request_bytes, self.block_bytes) = (found.version, found.request_bytes, block_bytes_of(found, limit));
        if limit != self.budget.own().limit() {
            self.budget.set_limit(limit);
            for lane in &mut self.lanes {
                [lane.bytes, lane.blocks] = searches(config, self.budget.own().limit());
            }
            self.begin_as_seeded();
            self.publish();
        }
    }

    /// What a block of this length takes of the budget. One that needs more than all of it takes all.
    pub(super) fn cost(&self, bytes: u64) -> Cost {
        let requests = bytes.div_ceil(self.request_bytes.clamp(4096, SCATTERED_REQUEST_BYTES)).min(u64::from(u32::MAX)) as u32;
        Cost { blocks: 1, requests, bytes }
    }

    /// What a block costs the flow that issues it.
    pub(super) fn price(&self, direction: Direction, cost: Cost, bytes: u64) -> Price {
        Price { bytes, total: cost.bytes + self.lanes[direction as usize].operation_bytes }
    }

    /// The largest block now: a window of a few blocks has no gaps between them.
    pub(super) fn block_bytes(&self, direction: Direction) -> u64 {
        if !self.finds_window {
            return u64::MAX;
        }
        let lane = &self.lanes[direction as usize];
        let part = lane.bytes.size() / lane.blocks_in_window;
        self.block_bytes.min((1 << part.max(1).ilog2()).max(BLOCK_BYTES_MIN))
    }

    /// Whether the window of this direction has room for a block.
    pub(super) fn has_room(&mut self, direction: Direction, size: Size, class: Priority, cost: Cost) -> bool {
        if !self.finds_window {
            return true;
        }
        let is_calm = self.contention != Contention::Latency;
        let lane = &mut self.lanes[direction as usize];
        let window = lane.bytes.size();
        let beyond =
            if size == Size::Small || class == Priority::Latency && !is_calm { (window / SMALL_SHARE).max(SMALL_BYTES_MIN) } else { 0 };
        let fits = lane.flying_bytes + cost.bytes <= window + beyond
            && (size == Size::Large || u64::from(lane.flying_small) < lane.blocks.size())
            || lane.flying_blocks == 0;
        lane.refused[size as usize] |= !fits;
        fits
    }

    /// The budget, which others share, has no room for a block.
    pub(super) fn was_full(&mut self, direction: Direction, size: Size) {
        self.lanes[direction as usize].refused[size as usize] = true;
    }

    pub(super) fn take(&mut self, direction: Direction, size: Size, cost: Cost) {
        let lane = &mut self.lanes[direction as usize];
        lane.flying_bytes += cost.bytes;
        lane.flying_blocks += 1;
        lane.flying_small += u32::from(size == Size::Small);
    }

    /// A block is done. `cost` is what it holds of the budget, `bytes` what it took. What did not come from the device says
    /// nothing of it.
    pub(super) fn give(&mut self, direction: Direction, size: Size, cost: Cost, bytes: u64, at_device: bool) {
        self.budget.give(cost);
        let lane = &mut self.lanes[direction as usize];
        lane.flying_bytes -= bytes;
        lane.flying_blocks -= 1;
        lane.flying_small -= u32::from(size == Size::Small);
        if at_device {
            lane.came_bytes += bytes;
            lane.came_small += u64::from(size == Size::Small);
        }
    }

    /// Once a turn, after all that can go was issued: what has come since the last time, and who has shared the device.
    pub(super) fn sample(&mut self, now: Duration, contention: Contention) {
        if !self.finds_window {
            return;
        }
        let contention = if self.budget.has_company() { contention.max(Contention::Shared) } else { contention };
        if contention >= self.contention {
            if contention > Contention::Alone {
                self.contended_at = now;
            }
            self.contention = contention;
        } else if now.saturating_sub(self.contended_at) > CONTENTION_LASTS {
            (self.contention, self.contended_at) = (contention, now);
        }
        let mut changed = false;
        for lane in &mut self.lanes {
            let [small, large] = std::mem::take(&mut lane.refused);
            changed |= lane.bytes.sample(now, lane.came_bytes, large, self.contention);
            changed |= lane.blocks.sample(now, lane.came_small, small, self.contention);
            (lane.came_bytes, lane.came_small) = (0, 0);
        }
        if changed {
            self.learn_price();
            self.publish();
        }
    }

    /// A device that moves B bytes a second, or does N small operations, spends on an operation what B / N bytes take.
    fn learn_price(&mut self) {
        for lane in &mut self.lanes {
            let (bytes, operations) = (lane.bytes.best_rate(), lane.blocks.best_rate());
            if bytes > 0.0 && operations > 0.0 {
                let price = (bytes / operations) as u64;
                lane.operation_bytes = price.saturating_sub(OPERATION_BYTES_MIN).clamp(OPERATION_BYTES_MIN, OPERATION_BYTES_MAX);
            }
        }
    }

    /// What `stats` and `path_info` report.
    fn publish(&self) {
        let limit = self.budget.own().limit();
        let of = |direction: Direction| {
            let lane = &self.lanes[direction as usize];
            if !self.finds_window {
                return WindowSize::new(limit.bytes, limit.bytes, limit.blocks);
            }
            size_of(&lane.bytes, &lane.blocks)
        };
        self.board.set(of(Direction::Read), of(Direction::Write));
    }

    /// What blocks in flight hold of the windows, for the books: bytes and blocks of each direction.
    #[cfg(any(debug_assertions, feature = "sim"))]
    pub(super) fn flying(&self) -> [(u64, u32); 2] {
        [0, 1].map(|lane: usize| (self.lanes[lane].flying_bytes, self.lanes[lane].flying_blocks))
    }
}

fn size_of(bytes: &Search, blocks: &Search) -> WindowSize {
    WindowSize::new(bytes.found(Contention::Alone), bytes.found(Contention::Shared), blocks.found(Contention::Alone) as u32)
}

/// The windows that an engine begins with at a device.
pub(crate) fn first_window(config: &Config, found: &Found, seeds: Option<Seeds>) -> DeviceWindow {
    let limit = limit_of(config, found);
    let [read, write] = seeds.unwrap_or_default().map(|seed| {
        let [mut bytes, mut blocks] = searches(config, limit);
        bytes.seed(seed.window, seed.shared);
        blocks.seed(seed.blocks, None);
        match config.window {
            WindowMode::Auto => size_of(&bytes, &blocks),
            WindowMode::Fixed => WindowSize::new(limit.bytes, limit.bytes, limit.blocks),
        }
    });
    DeviceWindow::new(&found.name, read, write)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::WINDOW_BYTES_MIN;
    use crate::doorbell::Doorbell;
    use crate::share::Devices;
    use crate::sys::event::Event;
    use crate::windows::Windows;

    fn found(requests: u32, request_bytes: u64, version: u64) -> Found {
        Found { id: 1, name: "disk".into(), requests, request_bytes, file_system_uuid: None, version }
    }

    fn device(config: &Config, found: &Found) -> Device {
        let bell = Arc::new(Doorbell::new(Event::new().expect("an eventfd")));
        let budget = Devices::default().join(found.id, limit_of(config, found), &bell);
        Device::new(config, found, budget, Windows::default().add(found.id, &found.name))
    }

    fn config(window: WindowMode) -> Config {
        let in_flight_bytes = if window == WindowMode::Auto { 256 << 20 } else { 64 << 20 };
        Config {
            queue_depth: None,
            block_bytes: 4 << 20,
            in_flight_bytes,
            window,
            window_bytes_min: WINDOW_BYTES_MIN,
            max_queued: 1,
            threads: 8,
            offload_bytes: 1,
        }
    }

    /// Blocks of a large request that go at once.
    fn blocks_at_once(device: &mut Device, block_bytes: u64) -> u32 {
        let mut blocks = 0;
        loop {
            let cost = device.cost(device.block_bytes(Direction::Read).min(block_bytes));
            if !device.has_room(Direction::Read, Size::Large, Priority::Throughput, cost) || !device.budget.take(cost) {
                return blocks;
            }
            device.take(Direction::Read, Size::Large, cost);
            blocks += 1;
        }
    }

    #[test]
    fn a_block_leaves_room_for_others_in_a_small_queue() {
        for (requests, request_bytes) in [(31, 256 << 10), (32, 128 << 10), (64, 512 << 10), (128, 1 << 20), (1023, 128 << 10)] {
            let mut device = device(&config(WindowMode::Auto), &found(requests, request_bytes, 1));
            assert!(blocks_at_once(&mut device, 4 << 20) >= 8, "{requests} of {request_bytes}");
        }
        let mut fixed = device(&config(WindowMode::Fixed), &found(256, 1 << 20, 1));
        assert_eq!(blocks_at_once(&mut fixed, 4 << 20), 16, "64 MiB in blocks of 4 MiB");
    }

    #[test]
    fn a_queue_that_has_changed_is_followed() {
        let config = config(WindowMode::Auto);
        let mut device = device(&config, &found(256, 1 << 20, 5));
        device.follow(&config, &found(32, 128 << 10, 6));
        assert_eq!(device.budget.own().limit(), Cost { blocks: 16, requests: 16, bytes: 256 << 20 });
        assert_eq!(device.block_bytes(Direction::Write), 256 << 10);
        device.follow(&config, &found(256, 1 << 20, 5));
        assert_eq!(device.budget.own().limit().requests, 16, "what was seen before is old");
        device.follow(&config, &found(512, 1 << 20, 7));
        assert_eq!(device.budget.own().limit().requests, 256);
    }

    #[test]
    fn a_profile_says_where_a_device_begins() {
        let config = config(WindowMode::Auto);
        let seed = Seed { window: Some(16 << 20), shared: Some(2 << 20), blocks: Some(32), block: Some(1 << 20), gap: Some(40_000) };
        let mut device = device(&config, &found(1023, 4 << 20, 1));
        device.seed([seed, Seed::default()]);
        let windows = |device: &Device| {
            let lane = |index: usize| size_of(&device.lanes[index].bytes, &device.lanes[index].blocks);
            [lane(0), lane(1)]
        };
        let seeded = WindowSize::new(16 << 20, 2 << 20, 32);
        let [read, write] = windows(&device);
        assert_eq!((read, write.bytes), (seeded, START_BYTES[0]), "the other direction begins as without it");
        assert_eq!((device.block_bytes(Direction::Read), device.block_bytes(Direction::Write)), (1 << 20, 16 << 20));
        let price = device.price(Direction::Read, device.cost(4096), 4096).total;
        assert_eq!(price, device.cost(4096).bytes + 40_000);
        // Its queue is looked at again: the search begins anew, and there.
        device.follow(&config, &found(512, 4 << 20, 2));
        assert_eq!(windows(&device)[0], seeded);
        assert_eq!(first_window(&config, &found(512, 4 << 20, 2), Some([seed, Seed::default()])).read, seeded);
        // Beyond the bounds, it begins at them.
        let far = Seed { window: Some(1 << 40), blocks: Some(60_000), ..Seed::default() };
        device.seed([far, far]);
        assert_eq!(windows(&device), [2, 8].map(|shared| WindowSize::new(256 << 20, shared << 20, 256)), "shared, it says nothing");
    }

    #[test]
    fn large_requests_leave_room_for_small_ones_and_those_of_others_for_urgent_ones() {
        let mut device = device(&config(WindowMode::Auto), &found(1023, 1 << 20, 1));
        device.sample(Duration::ZERO, Contention::Latency);
        let before = blocks_at_once(&mut device, 256 << 10);
        assert_eq!(before, 16, "4 MiB while urgent requests come");
        let cost = device.cost(4096);
        assert!(device.has_room(Direction::Read, Size::Small, Priority::Throughput, cost));
        let cost = device.cost(256 << 10);
        assert!(device.has_room(Direction::Read, Size::Large, Priority::Latency, cost));
        assert!(!device.has_room(Direction::Read, Size::Large, Priority::Background, cost));
        device.sample(CONTENTION_LASTS, Contention::Alone);
        assert!(!device.has_room(Direction::Read, Size::Large, Priority::Throughput, cost), "for a while after the last");
        device.sample(CONTENTION_LASTS + Duration::from_millis(1), Contention::Alone);
        assert!(device.has_room(Direction::Read, Size::Large, Priority::Throughput, cost));
    }
}
