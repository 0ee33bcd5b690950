//! [`Extents`]: which memory of a pool is free, and what the kernel knows of it. A pure structure; no
//! system call.
//!
//! Mappings are cut into extents of whole pages. Free neighbors are merged, so free memory serves
//! every size. For each page it is known whether it was *touched*: then it takes memory, although it
//! is free. Touched and free bytes are *kept*, and their number is limited. Frames that are free as
//! a whole are listed in the order in which they became so. The newest stay as they are, the older
//! ones are left to the kernel to take (*lazy*), and the oldest are discarded.

use super::frame::{FRAME_BYTES, Frame, Pages};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many bytes of free memory are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At all.
    pub(super) kept: usize,
    /// And not left to the kernel.
    pub(super) hot: usize,
    /// Beside that, one mapping larger than `kept`, up to this many bytes: all of it lazy.
    pub(super) spare: usize,
}

/// What the kernel is to do with free memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It may take the pages whenever it likes.
    Lazy,
    /// It takes them now; then they are zero.
    Gone,
}

/// Free memory, taken out until the kernel has been told its fate.
#[derive(Debug)]
pub(super) struct Surplus {
    pub(super) range: Range<usize>,
    pub(super) fate: Fate,
}

/// Memory that was handed out.
#[derive(Debug)]
pub(super) struct Taken<T> {
    pub(super) start: usize,
    pub(super) owner: T,
    /// Where it may be other than zero; only filled in if asked for.
    pub(super) touched: Vec<Range<usize>>,
    /// The kernel can take pages of it, until they are written.
    pub(super) lazy: bool,
}

struct Mapping<T> {
    owner: T,
    frames: Vec<Frame>,
    /// Bytes that are not free.
    used: usize,
}

pub(super) struct Extents<T> {
    limits: Limits,
    /// By their start.
    mappings: BTreeMap<usize, Mapping<T>>,
    /// Free extents: start and length.
    by_start: BTreeMap<usize, usize>,
    /// The same: length and start.
    by_len: BTreeSet<(usize, usize)>,
    /// Frames that are free as a whole, oldest first.
    hot: BTreeMap<u64, usize>,
    /// And those that were left to the kernel.
    lazy: BTreeMap<u64, usize>,
    clock: u64,
    /// Bytes that are touched and free, without those of the spare mapping.
    kept: usize,
    /// The lazy ones among them.
    kept_lazy: usize,
    /// See [`Limits::spare`]: its start and its kept bytes. None of its frames is listed.
    spare: Option<(usize, usize)>,
}

impl<T: Clone> Extents<T> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            mappings: BTreeMap::new(),
            by_start: BTreeMap::new(),
            by_len: BTreeSet::new(),
            hot: BTreeMap::new(),
            lazy: BTreeMap::new(),
            clock: 0,
            kept: 0,
            kept_lazy: 0,
            spare: None,
        }
    }

    /// Bytes that are free and take memory.
    pub(super) fn kept(&self) -> usize {
        self.kept + self.spare.map_or(0, |(_, bytes)| bytes)
    }

    /// Adds a new mapping of whole frames.
    pub(super) fn add(&mut self, start: usize, bytes: usize, owner: T) {
        let frames = vec![Frame::default(); bytes / FRAME_BYTES];
        self.mappings.insert(start, Mapping { owner, frames, used: 0 });
        self.insert(start, bytes);
    }

    /// Takes `len` bytes, a multiple of the page, at a multiple of `align`: from the smallest extent
    /// that has them.
    pub(super) fn take(&mut self, len: usize, align: usize, zeroed: bool) -> Option<Taken<T>> {
        let (from, size) = self.fitting(len, align)?;
        let start = from.next_multiple_of(align);
        self.cut(from, size, &(start..start + len));
        let home = self.home(start);
        if self.spare.is_some_and(|(spare, _)| spare == home) {
            self.list_spare();
        }
        let Self { mappings, hot, lazy: idle, kept, kept_lazy, .. } = self;
        let mapping = mappings.get_mut(&home)?;
        mapping.used += len;
        let (mut touched, mut lazy) = (Vec::new(), false);
        for (address, frame, pages) in parts(&mut mapping.frames, home, start..start + len) {
            *kept -= frame.touched.and(pages).bytes();
            *kept_lazy -= frame.lazy.and(pages).bytes();
            lazy |= !frame.lazy.and(pages).is_empty();
            if zeroed {
                frame.touched.and(pages).runs().for_each(|run| join(&mut touched, address + run.start..address + run.end));
            }
            frame.touched = frame.touched.or(pages);
            frame.lazy = frame.lazy.without(pages);
            frame.used += pages.bytes();
            unlist(frame, hot, idle);
        }
        Some(Taken { start, owner: mapping.owner.clone(), touched, lazy })
    }

    /// Takes back what [`Extents::take`] handed out. `lazy` if the kernel may take all of it already.
    pub(super) fn give(&mut self, start: usize, len: usize, lazy: bool) {
        let home = self.home(start);
        let Some(mapping) = self.mappings.get_mut(&home) else { return };
        mapping.used -= len;
        for (address, frame, pages) in parts(&mut mapping.frames, home, start..start + len) {
            self.kept += pages.bytes();
            frame.used -= pages.bytes();
            if lazy {
                self.kept_lazy += pages.bytes();
                frame.lazy = frame.lazy.or(pages);
            }
            if frame.used == 0 {
                self.clock += 1;
                frame.stamp = self.clock;
                let list = if frame.lazy == frame.touched { &mut self.lazy } else { &mut self.hot };
                list.insert(frame.stamp, address);
            }
        }
        let bytes = mapping.frames.len() * FRAME_BYTES;
        let is_spare = lazy && mapping.used == 0 && len > self.limits.kept && bytes <= self.limits.spare;
        self.insert(start, len);
        if is_spare {
            self.list_spare();
            self.set_spare(home);
        }
    }

    /// Takes out what is to be given up beyond the limits; with `all`, everything that is kept.
    pub(super) fn surplus(&mut self, all: bool) -> Vec<Surplus> {
        let (kept, hot) = if all { (0, 0) } else { (self.limits.kept, self.limits.hot) };
        let mut surplus = Vec::new();
        if all {
            self.list_spare();
        }
        while self.kept > kept
            && let Some((_, frame)) = self.lazy.pop_first().or_else(|| self.hot.pop_first())
        {
            self.withdraw(frame..frame + FRAME_BYTES, Fate::Gone, &mut surplus);
        }
        if self.kept > kept {
            self.sweep(Fate::Gone, kept - kept / 8, &mut surplus);
        }
        while self.kept - self.kept_lazy > hot
            && let Some((_, frame)) = self.hot.pop_first()
        {
            self.withdraw(frame..frame + FRAME_BYTES, Fate::Lazy, &mut surplus);
        }
        if self.kept - self.kept_lazy > hot {
            self.sweep(Fate::Lazy, hot - hot / 8, &mut surplus);
        }
        surplus
    }

    /// The kernel knows the fate of this memory: it is free again. Returns the owner of a mapping
    /// that nothing is left of.
    pub(super) fn settle(&mut self, surplus: &Surplus) -> Option<T> {
        let range = surplus.range.clone();
        let home = self.home(range.start);
        let mapping = self.mappings.get_mut(&home)?;
        mapping.used -= range.len();
        for (address, frame, pages) in parts(&mut mapping.frames, home, range.clone()) {
            frame.used -= pages.bytes();
            if surplus.fate == Fate::Gone {
                frame.touched = frame.touched.without(pages);
                frame.lazy = frame.lazy.without(pages);
            } else {
                frame.lazy = frame.lazy.or(frame.touched.and(pages));
                self.kept += frame.touched.and(pages).bytes();
                self.kept_lazy += frame.lazy.and(pages).bytes();
            }
            if frame.used == 0 && !frame.touched.is_empty() {
                self.clock += 1;
                frame.stamp = self.clock;
                let list = if frame.lazy == frame.touched { &mut self.lazy } else { &mut self.hot };
                list.insert(frame.stamp, address);
            }
        }
        let is_over = mapping.used == 0 && mapping.frames.iter().all(|frame| frame.touched.is_empty());
        let bytes = mapping.frames.len() * FRAME_BYTES;
        self.insert(range.start, range.len());
        if !is_over {
            return None;
        }
        self.remove(home, bytes);
        self.mappings.remove(&home).map(|mapping| mapping.owner)
    }

    // ---- free extents ----

    /// The smallest free extent that holds `len` bytes at a multiple of `align`.
    fn fitting(&self, len: usize, align: usize) -> Option<(usize, usize)> {
        /// Candidates looked at before only those are that are sure to fit.
        const CANDIDATES: usize = 16;
        let fits = |&&(size, start): &&(usize, usize)| start.next_multiple_of(align) - start + len <= size;
        let near = self.by_len.range((len, 0)..).take(CANDIDATES).find(fits);
        let found = near.or_else(|| self.by_len.range((len.saturating_add(align), 0)..).find(fits));
        found.map(|&(size, start)| (start, size))
    }

    /// The start of the mapping that this address lies in.
    fn home(&self, address: usize) -> usize {
        self.mappings.range(..=address).next_back().map_or(0, |(&start, _)| start)
    }

    fn remove(&mut self, start: usize, len: usize) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
    }

    /// Takes `range` out of the free extent at `from`.
    fn cut(&mut self, from: usize, size: usize, range: &Range<usize>) {
        self.remove(from, size);
        for (start, end) in [(from, range.start), (range.end, from + size)] {
            if start < end {
                self.by_start.insert(start, end - start);
                self.by_len.insert((end - start, start));
            }
        }
    }

    /// Adds a free extent and merges it with its neighbors in the same mapping.
    fn insert(&mut self, start: usize, len: usize) {
        let home = self.home(start);
        let end = home + self.mappings.get(&home).map_or(0, |mapping| mapping.frames.len() * FRAME_BYTES);
        let (mut from, mut to) = (start, start + len);
        if let Some((&before, &size)) = self.by_start.range(home..start).next_back()
            && before + size == start
        {
            self.remove(before, size);
            from = before;
        }
        if to < end
            && let Some(&size) = self.by_start.get(&to)
        {
            self.remove(to, size);
            to += size;
        }
        self.by_start.insert(from, to - from);
        self.by_len.insert((to - from, from));
    }

    // ---- what is given up ----

    /// Takes a part of a free extent out until [`Extents::settle`].
    fn withdraw(&mut self, range: Range<usize>, fate: Fate, surplus: &mut Vec<Surplus>) {
        let Some((&from, &size)) = self.by_start.range(..=range.start).next_back() else { return };
        let home = self.home(range.start);
        self.cut(from, size, &range);
        let Self { mappings, hot, lazy, kept, kept_lazy, .. } = self;
        let Some(mapping) = mappings.get_mut(&home) else { return };
        mapping.used += range.len();
        for (_, frame, pages) in parts(&mut mapping.frames, home, range.clone()) {
            *kept -= frame.touched.and(pages).bytes();
            *kept_lazy -= frame.lazy.and(pages).bytes();
            frame.used += pages.bytes();
            unlist(frame, hot, lazy);
        }
        match surplus.last_mut() {
            // Within one mapping: one call for both.
            Some(last) if last.fate == fate && last.range.end == range.start && range.start != home => last.range.end = range.end,
            _ => surplus.push(Surplus { range, fate }),
        }
    }

    /// The same with free pages of frames that are partly used, until `target` bytes are left. Huge
    /// pages are split by that, so it is the last resort.
    fn sweep(&mut self, fate: Fate, target: usize, surplus: &mut Vec<Surplus>) {
        let free: Vec<(usize, usize)> = self.by_start.iter().map(|(&start, &len)| (start, len)).collect();
        for (start, len) in free {
            let home = self.home(start);
            if self.spare.is_some_and(|(spare, _)| spare == home) {
                continue;
            }
            let Some(mapping) = self.mappings.get_mut(&home) else { return };
            let mut runs = Vec::new();
            for (address, frame, pages) in parts(&mut mapping.frames, home, start..start + len) {
                // All free pages of the frame: those beside a touched one can take memory too.
                let given_up = if fate == Fate::Lazy { frame.touched.without(frame.lazy) } else { frame.touched }.and(pages);
                if !given_up.is_empty() {
                    pages.runs().for_each(|run| join(&mut runs, address + run.start..address + run.end));
                }
            }
            for run in runs {
                let left = if fate == Fate::Lazy { self.kept - self.kept_lazy } else { self.kept };
                if left <= target {
                    return;
                }
                self.withdraw(run, fate, surplus);
            }
        }
    }

    // ---- the spare mapping ----

    /// Makes a mapping that is free as a whole the spare one.
    fn set_spare(&mut self, home: usize) {
        let Some(mapping) = self.mappings.get_mut(&home) else { return };
        let mut bytes = 0;
        for frame in &mut mapping.frames {
            unlist(frame, &mut self.hot, &mut self.lazy);
            bytes += frame.touched.bytes();
            self.kept_lazy -= frame.lazy.bytes();
        }
        self.kept -= bytes;
        self.spare = Some((home, bytes));
    }

    /// The spare mapping, if there is one, becomes one like the others.
    fn list_spare(&mut self) {
        let Some((home, bytes)) = self.spare.take() else { return };
        let Some(mapping) = self.mappings.get_mut(&home) else { return };
        self.kept += bytes;
        for (index, frame) in mapping.frames.iter_mut().enumerate().filter(|(_, frame)| !frame.touched.is_empty()) {
            self.kept_lazy += frame.lazy.bytes();
            self.clock += 1;
            frame.stamp = self.clock;
            let list = if frame.lazy == frame.touched { &mut self.lazy } else { &mut self.hot };
            list.insert(frame.stamp, home + index * FRAME_BYTES);
        }
    }
}

/// The frames that a range lies in, with their addresses and the range's pages of each.
fn parts(frames: &mut [Frame], home: usize, range: Range<usize>) -> impl Iterator<Item = (usize, &mut Frame, Pages)> {
    let (first, end) = ((range.start - home) / FRAME_BYTES, (range.end - home).div_ceil(FRAME_BYTES));
    frames[first..end].iter_mut().enumerate().map(move |(index, frame)| {
        let address = home + (first + index) * FRAME_BYTES;
        let pages = Pages::of(&(range.start.max(address) - address..range.end.min(address + FRAME_BYTES) - address));
        (address, frame, pages)
    })
}

fn unlist(frame: &mut Frame, hot: &mut BTreeMap<u64, usize>, lazy: &mut BTreeMap<u64, usize>) {
    if frame.stamp != 0 {
        hot.remove(&frame.stamp);
        lazy.remove(&frame.stamp);
        frame.stamp = 0;
    }
}

/// Adds a range to a list in order, joined to the last one if they touch.
fn join(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

#[cfg(test)]
#[path = "extents_tests.rs"]
mod tests;
