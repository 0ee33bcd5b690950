//! The planner: where one request's next piece lies in the file and in memory. A pure function; no
//! system call, no state.
//!
//! Direct I/O requires file ranges in whole units and memory at an aligned address. The planner
//! cuts a request accordingly:
//!
//! ```text
//!   file units   |........|........|........|........|
//!   request           ^------------------------^
//!   extents           edge  direct    direct   edge
//! ```
//!
//! * The aligned middle goes **direct**, cut at multiples of the block size *of the file position*.
//!   So every block but the first starts on a block boundary. (ext4 hands a write that starts
//!   inside a file-system block to a worker thread, although `statx` allows it.)
//! * An unaligned head or tail goes through a **bounce** block of one unit. When writing, such an
//!   edge is read, modified and written (`rmw`), under a range lock that the driver takes.
//! * If the memory address is unaligned, the middle is bounced too, in blocks of at most
//!   [`BOUNCE_BYTES_MAX`].
//! * Where direct I/O does not pin pages, a read goes direct only to whole pages of memory, each
//!   filled by one block ([`Span::whole_pages`]).
//!
//! The driver calls the function again with the position where the last extent ended. A short
//! transfer is resumed the same way.

/// Transfers with unaligned memory are copied through blocks of this size. That is large enough for
/// the device and for the threads that copy, and small enough that the copy of one overlaps the
/// transfer of many others. (Overwriting from such memory measured 0.97 of aligned memory, with
/// blocks of 256 KiB 0.77; reading 0.80 and 0.74.)
pub(crate) const BOUNCE_BYTES_MAX: u64 = 1 << 20;

/// The largest alignment that can be planned for, in bytes: an edge is bounced in one block.
pub(crate) const ALIGNMENT_MAX: u32 = 256 << 10;

/// A read with unaligned ends of at most this many bytes becomes one bounced block instead of head,
/// middle and tail.
const SMALL_READ_BYTES: u64 = 64 << 10;

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the file into memory.
    Read,
    /// From memory into the file.
    Write,
}

impl Direction {
    /// The name of the transfer's system call, for errors.
    pub(crate) fn call_name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// The alignment that direct transfers of a file require: powers of two, at most [`ALIGNMENT_MAX`].
/// All are 1 for buffered files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// File positions and lengths of direct reads are multiples of this many bytes.
    pub(crate) read_unit: u64,
    /// The same for writes: at least the file-system block, so that no write is punted and no drive
    /// has to read, modify and write.
    pub(crate) write_unit: u64,
    /// Memory addresses of direct reads are multiples of this many bytes.
    pub(crate) read_memory: u64,
    /// The same for writes: at least a page. ext4 takes turns with writes into new blocks whose address is not on a block
    /// boundary, and btrfs copies them through the page cache, whatever the device requires.
    pub(crate) write_memory: u64,
}

impl Geometry {
    /// Buffered I/O, which requires no alignment.
    pub(crate) const BUFFERED: Self = Self { read_unit: 1, write_unit: 1, read_memory: 1, write_memory: 1 };

    /// The unit for transfers in `direction`.
    pub(crate) fn unit(self, direction: Direction) -> u64 {
        match direction {
            Direction::Read => self.read_unit,
            Direction::Write => self.write_unit,
        }
    }

    /// What addresses of transfers in `direction` are multiples of.
    pub(crate) fn memory(self, direction: Direction) -> u64 {
        match direction {
            Direction::Read => self.read_memory,
            Direction::Write => self.write_memory,
        }
    }
}

/// One request as the planner sees it. All fields are in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    /// Whether it reads or writes.
    pub(crate) direction: Direction,
    /// The position in the file where the request begins.
    pub(crate) position: u64,
    /// Its length.
    pub(crate) len: u64,
    /// The memory address where it begins.
    pub(crate) address: u64,
    /// The size of one block; a multiple of every unit.
    pub(crate) block: u64,
    /// Set where direct I/O does not pin the pages of this memory: their size, a power of two. Direct
    /// reads then fill pages that nothing else writes to: neither the program, because the request
    /// covers them whole, nor the copy out of a bounce block. If the process has forked, such a
    /// write gives it a copy of the page, and the device goes on filling the original.
    pub(crate) whole_pages: Option<u64>,
    /// Its bytes go to several places in memory: all are bounced. Reads only.
    pub(crate) scattered: bool,
}

impl Span {
    /// The file positions between which a read can be direct. Empty if no page boundary of the memory
    /// is a unit boundary of the file.
    fn direct_range(&self, geometry: Geometry) -> (u64, u64) {
        let (Some(page), unit) = (self.whole_pages, geometry.read_unit) else { return (0, u64::MAX) };
        let first = up(self.position + (up(self.address, page) - self.address), unit);
        let last = down(self.position + down(self.address + self.len, page).saturating_sub(self.address), unit);
        let meets = (self.address + (first - self.position)).is_multiple_of(page);
        // Where this does not hold, some blocks are direct and others are not.
        let meets = meets && self.address.wrapping_sub(self.position).is_multiple_of(geometry.read_memory);
        if meets { (first, last) } else { (0, 0) }
    }

    /// Where a direct block that begins at `from` and can go on to `block_end` ends. No page is filled by two blocks: after
    /// a fork between them the second would get a copy of it, and the first go on filling the original.
    fn direct_end(&self, geometry: Geometry, from: u64, block_end: u64) -> u64 {
        let Some(page) = self.whole_pages else { return block_end };
        let (first, last) = self.direct_range(geometry);
        let step = page.max(geometry.read_unit);
        let one = first + down(from - first, step) + step;
        last.min(one.max(first + down(block_end.saturating_sub(first), step)))
    }
}

/// Where one block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The file range the device transfers.
    pub(crate) file_start: u64,
    /// Its length.
    pub(crate) file_len: u64,
    /// Bytes of that range before the first byte of the request. 0 unless bounced.
    pub(crate) skip: u64,
    /// Offset in the request of the first byte of this extent.
    pub(crate) offset: u64,
    /// Number of bytes of the request.
    pub(crate) len: u64,
    /// Whether the bytes pass through a bounce block.
    pub(crate) bounce: bool,
    /// Whether the range must be read and modified before it is written.
    pub(crate) rmw: bool,
}

impl Extent {
    /// The file position after the last transferred byte.
    pub(crate) fn file_end(&self) -> u64 {
        self.file_start + self.file_len
    }
}

fn down(value: u64, unit: u64) -> u64 {
    value - value % unit
}

fn up(value: u64, unit: u64) -> u64 {
    down(value + unit - 1, unit)
}

/// The extent that begins `offset` bytes into the request; `None` at its end.
///
/// # Panics
/// Never for `position + len <= 2^63 - 2^31`, which every entry point guarantees.
pub(crate) fn extent_at(geometry: Geometry, span: &Span, offset: u64) -> Option<Extent> {
    if offset >= span.len {
        return None;
    }
    let unit = geometry.unit(span.direction);
    let from = span.position + offset;
    let end = span.position + span.len;
    let start = down(from, unit);
    let memory_fits = |at: u64| (span.address + (at - span.position)).is_multiple_of(geometry.memory(span.direction));
    let extent = |file_start: u64, file_end: u64, bounce: bool, rmw: bool| Extent {
        file_start,
        file_len: file_end - file_start,
        skip: from - file_start,
        offset,
        len: end.min(file_end) - from,
        bounce,
        rmw,
    };
    let block_end = down(from, span.block) + span.block;
    let bounce_end = block_end.min(down(from, BOUNCE_BYTES_MAX) + BOUNCE_BYTES_MAX);

    let is_edge = start != from || end - from < unit;
    match span.direction {
        Direction::Write if is_edge => Some(extent(start, start + unit, true, true)),
        Direction::Write if memory_fits(from) => Some(extent(from, down(end, unit).min(block_end), false, false)),
        Direction::Write => Some(extent(from, down(end, unit).min(bounce_end), true, false)),
        Direction::Read => {
            let stop = up(end, unit);
            if span.scattered {
                return Some(extent(start, stop.min(bounce_end), true, false));
            }
            let has_edges = is_edge || stop != end;
            let (first, last) = span.direct_range(geometry);
            // The last of several blocks can lie on a page that a direct one fills.
            let can_be_one = span.whole_pages.is_none() || !(first..last).contains(&from);
            if has_edges && can_be_one && stop - start <= SMALL_READ_BYTES.min(span.block) {
                // One operation and one copy are cheaper than separate operations for head, middle
                // and tail.
                return Some(extent(start, stop, true, false));
            }
            let aligned = up(from, unit);
            if !memory_fits(aligned) || first >= last || from >= last {
                return Some(extent(start, stop.min(bounce_end), true, false));
            }
            if from < first {
                return Some(extent(start, first.min(stop).min(bounce_end), true, false));
            }
            if is_edge {
                return Some(extent(start, start + unit, true, false));
            }
            Some(extent(from, down(end, unit).min(span.direct_end(geometry, from, block_end)), false, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(geometry: Geometry, span: &Span) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut offset = 0;
        while let Some(extent) = extent_at(geometry, span, offset) {
            offset += extent.len;
            extents.push(extent);
            assert!(extents.len() < 100_000, "the planner makes no progress");
        }
        extents
    }

    fn geometries() -> impl Strategy<Value = Geometry> {
        prop_oneof![
            Just(Geometry::BUFFERED),
            Just(Geometry { read_unit: 512, write_unit: 4096, read_memory: 512, write_memory: 4096 }),
            Just(Geometry { read_unit: 4096, write_unit: 4096, read_memory: 4096, write_memory: 4096 }),
            Just(Geometry { read_unit: 512, write_unit: 4096, read_memory: 4, write_memory: 4096 }),
            Just(Geometry { read_unit: 512, write_unit: 4096, read_memory: 4096, write_memory: 4096 }),
            Just(Geometry { read_unit: 65536, write_unit: 65536, read_memory: 512, write_memory: 4096 }),
        ]
    }

    fn spans() -> impl Strategy<Value = Span> {
        (any::<bool>(), 0u64..1 << 41, 0u64..6 << 20, 0u64..8192, prop_oneof![Just(64u64 << 10), Just(1 << 20), Just(8 << 20)]).prop_map(
            |(write, position, len, address, block)| Span {
                direction: if write { Direction::Write } else { Direction::Read },
                position,
                len,
                address: (1 << 40) + address,
                block,
                whole_pages: None,
                scattered: false,
            },
        )
    }

    fn pages() -> impl Strategy<Value = u64> {
        prop_oneof![Just(4096u64), Just(65536), Just(2 << 20)]
    }

    /// Half of all spans start or end on a unit or a block, where mistakes are likely.
    fn snapped() -> impl Strategy<Value = Span> {
        (spans(), 0u32..4, 0u32..4).prop_map(|(mut span, snap_start, snap_address)| {
            match snap_start {
                0 => span.position = down(span.position, 4096),
                1 => span.position = down(span.position, span.block),
                _ => {}
            }
            if snap_address < 2 {
                span.address = down(span.address, 4096);
            }
            span
        })
    }

    /// Half of them on memory whose pages are not pinned.
    fn shared() -> impl Strategy<Value = Span> {
        (snapped(), proptest::option::of(pages()), any::<bool>()).prop_map(|(span, whole_pages, scattered)| {
            let scattered = scattered && span.direction == Direction::Read;
            Span { whole_pages, scattered, ..span }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn extents_cover_the_request_exactly_once(geometry in geometries(), span in shared()) {
            let mut next = 0;
            for extent in all(geometry, &span) {
                prop_assert_eq!(extent.offset, next);
                prop_assert_eq!(extent.file_start + extent.skip, span.position + extent.offset);
                prop_assert!(extent.len > 0);
                next += extent.len;
            }
            prop_assert_eq!(next, span.len);
        }

        #[test]
        fn every_extent_is_aligned_and_every_direct_one_in_memory_too(geometry in geometries(), span in shared()) {
            let unit = geometry.unit(span.direction);
            for extent in all(geometry, &span) {
                prop_assert_eq!(extent.file_start % unit, 0);
                prop_assert_eq!(extent.file_len % unit, 0);
                if !extent.bounce {
                    prop_assert_eq!((span.address + extent.offset) % geometry.memory(span.direction), 0);
                    prop_assert_eq!((extent.skip, extent.len), (0, extent.file_len));
                    prop_assert!(!extent.rmw);
                }
                prop_assert!(extent.skip + extent.len <= extent.file_len);
            }
        }

        #[test]
        fn no_extent_is_larger_than_a_block_and_no_bounce_larger_than_its_limit(geometry in geometries(), span in shared()) {
            for extent in all(geometry, &span) {
                // A page that must be filled by one block can be larger.
                let page = span.whole_pages.filter(|_| !extent.bounce).unwrap_or(0);
                prop_assert!(extent.file_len <= span.block.max(page).max(geometry.read_unit));
                if extent.bounce {
                    prop_assert!(extent.file_len <= BOUNCE_BYTES_MAX.max(geometry.unit(span.direction)));
                }
            }
        }

        #[test]
        fn a_write_modifies_at_most_its_first_and_last_unit(geometry in geometries(), span in snapped()) {
            let extents = all(geometry, &Span { direction: Direction::Write, ..span });
            let edges = extents.iter().filter(|extent| extent.rmw).count();
            prop_assert!(edges <= 2);
            for extent in &extents {
                // A write never touches a byte outside the request unless it has read it before.
                prop_assert!(extent.rmw || extent.len == extent.file_len);
            }
        }

        #[test]
        fn aligned_requests_on_aligned_memory_are_never_copied(geometry in geometries(), span in snapped()) {
            let unit = geometry.unit(span.direction).max(4096);
            let aligned = Span { position: down(span.position, unit), len: down(span.len, unit), address: down(span.address, 4096), ..span };
            prop_assert!(all(geometry, &aligned).iter().all(|extent| !extent.bounce));
        }

        #[test]
        fn without_pins_nothing_else_writes_to_the_pages_of_a_direct_read(geometry in geometries(), span in snapped(), page in pages()) {
            let span = Span { direction: Direction::Read, whole_pages: Some(page), ..span };
            let (direct, bounced): (Vec<_>, Vec<_>) = all(geometry, &span).into_iter().partition(|extent| !extent.bounce);
            let memory = |extent: &Extent| (span.address + extent.offset, span.address + extent.offset + extent.len);
            let (Some(first), Some(last)) = (direct.first(), direct.last()) else { return Ok(()) };
            // Direct extents follow each other, so these are the pages of all.
            let (start, end) = (down(memory(first).0, page), up(memory(last).1, page));
            prop_assert!(start >= span.address && end <= span.address + span.len);
            for (from, to) in bounced.iter().map(memory) {
                prop_assert!(to <= start || from >= end);
            }
            for pair in direct.windows(2) {
                prop_assert!(memory(&pair[1]).0.is_multiple_of(page), "two blocks fill one page: {pair:?}");
            }
        }

        #[test]
        fn without_pins_a_read_of_whole_pages_is_planned_as_with_them(geometry in geometries(), span in snapped(), page in pages()) {
            let unit = geometry.read_unit.max(page);
            let whole = Span {
                direction: Direction::Read,
                position: down(span.position, unit),
                len: down(span.len, unit),
                address: down(span.address, page),
                ..span
            };
            let whole = Span { block: whole.block.max(unit), ..whole };
            prop_assert_eq!(all(geometry, &Span { whole_pages: Some(page), ..whole }), all(geometry, &whole));
        }

        #[test]
        fn without_pins_a_read_bounces_at_most_a_page_and_a_unit_more_at_either_end(
            geometry in geometries(), span in snapped(), page in pages(),
        ) {
            // Otherwise no page boundary is a unit boundary, and all is bounced.
            let step = geometry.read_unit.max(geometry.read_memory);
            let address = down(span.address, step) + span.position % step;
            let span = Span { direction: Direction::Read, address, ..span };
            let bounced = |span: &Span| all(geometry, span).iter().filter(|extent| extent.bounce).map(|extent| extent.len).sum::<u64>();
            let (pinned, not) = (bounced(&span), bounced(&Span { whole_pages: Some(page), ..span }));
            prop_assert!(not <= pinned + 2 * (page + geometry.read_unit));
        }
    }

    #[test]
    fn without_pins_the_shared_pages_of_a_read_are_bounced_or_all_if_no_page_meets_a_unit() {
        let geometry = Geometry { read_unit: 512, write_unit: 4096, read_memory: 4, write_memory: 4096 };
        let planned = |address: u64| {
            let span = Span {
                direction: Direction::Read,
                position: 0,
                len: 1 << 20,
                address,
                block: 4 << 20,
                whole_pages: Some(4096),
                scattered: false,
            };
            all(geometry, &span).iter().map(|extent| (extent.offset, extent.len, extent.bounce)).collect::<Vec<_>>()
        };
        assert_eq!(planned((1 << 40) + 512), [(0, 3584, true), (3584, (1 << 20) - 4096, false), ((1 << 20) - 512, 512, true)]);
        assert_eq!(planned((1 << 40) + 16), [(0, 1 << 20, true)]);
    }

    #[test]
    fn a_small_unaligned_read_is_one_operation() {
        let geometry = Geometry { read_unit: 512, write_unit: 4096, read_memory: 512, write_memory: 4096 };
        let span = Span {
            direction: Direction::Read,
            position: 1000,
            len: 5000,
            address: 4096,
            block: 1 << 20,
            whole_pages: None,
            scattered: false,
        };
        assert_eq!(all(geometry, &span).len(), 1);
    }

    #[test]
    fn blocks_are_cut_at_multiples_of_the_block_size_of_the_file() {
        let geometry = Geometry { read_unit: 512, write_unit: 4096, read_memory: 512, write_memory: 4096 };
        let span = Span {
            direction: Direction::Write,
            position: 4096,
            len: 2 << 20,
            address: 4096,
            block: 1 << 20,
            whole_pages: None,
            scattered: false,
        };
        let starts: Vec<u64> = all(geometry, &span).iter().map(|extent| extent.file_start).collect();
        assert_eq!(starts, [4096, 1 << 20, 2 << 20]);
    }
}
