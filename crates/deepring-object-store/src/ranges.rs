//! Ranges of an object, made into reads. Pure.
//!
//! Each range is widened to whole units of direct I/O, so that no byte has to be copied from where the device puts it.
//! Neighbors are merged: what lies between them costs less to read than a request of its own. Small reads share a buffer,
//! which is freed when the last of its ranges is; large ones have their own.
//!
//! ```text
//!   asked     ...[  a  ].[ b ].......................[ c ].......
//!   units    |       |       |       |       |       |       |
//!   fetches  [ 0             ]                       [ 1     ]
//! ```

use std::ops::Range;

/// Reads of at most this many bytes share a buffer: a caller that keeps a range of one keeps at most [`PACK_BYTES`] in memory.
const SMALL_BYTES: u64 = 256 << 10;

/// The size of a shared buffer.
const PACK_BYTES: u64 = 1 << 20;

/// What the reads are to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Positions and lengths are multiples of it.
    pub(crate) unit: u64,
    /// Ranges are merged if at most this many bytes are between them,
    pub(crate) gap: u64,
    /// and the result is no longer than this.
    pub(crate) fetch_max: u64,
}

/// One read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) range: Range<u64>,
    /// The buffer that it goes to, and where in it.
    pub(crate) buffer: usize,
    pub(crate) offset: u64,
}

/// All reads of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the order of their positions.
    pub(crate) fetches: Vec<Fetch>,
    /// The lengths of the buffers.
    pub(crate) buffers: Vec<u64>,
    /// The fetch of each range that was asked for; that of an empty range is not defined.
    pub(crate) of_range: Vec<usize>,
}

/// A range, widened to whole units. Its end can be behind that of the object.
pub(crate) fn widened(range: &Range<u64>, unit: u64) -> Range<u64> {
    range.start / unit * unit..range.end.next_multiple_of(unit)
}

/// Plans the reads of these ranges, which are all inside the object.
pub(crate) fn plan(ranges: &[Range<u64>], shape: Shape) -> Plan {
    let mut order: Vec<usize> = (0..ranges.len()).filter(|&index| !ranges[index].is_empty()).collect();
    order.sort_unstable_by_key(|&index| (ranges[index].start, ranges[index].end));
    let mut plan = Plan { of_range: vec![0; ranges.len()], ..Plan::default() };
    for index in order {
        let wide = widened(&ranges[index], shape.unit);
        match plan.fetches.last_mut() {
            Some(Fetch { range: last, .. }) if wide.end <= last.end => {}
            Some(Fetch { range: last, .. })
                if wide.start <= last.end.saturating_add(shape.gap) && wide.end - last.start <= shape.fetch_max =>
            {
                last.end = wide.end;
            }
            _ => plan.fetches.push(Fetch { range: wide, buffer: 0, offset: 0 }),
        }
        plan.of_range[index] = plan.fetches.len() - 1;
    }
    let mut pack = None;
    for Fetch { range, buffer, offset } in &mut plan.fetches {
        let len = range.end - range.start;
        if len > SMALL_BYTES {
            (*buffer, *offset) = (plan.buffers.len(), 0);
            plan.buffers.push(len);
            continue;
        }
        let number = match pack {
            Some(number) if plan.buffers[number] + len <= PACK_BYTES => number,
            _ => {
                plan.buffers.push(0);
                plan.buffers.len() - 1
            }
        };
        pack = Some(number);
        (*buffer, *offset) = (number, plan.buffers[number]);
        plan.buffers[number] += len;
    }
    plan
}

/// The parts that a long range is read in: each ends at a multiple of `chunk` bytes, but the last one.
pub(crate) fn chunks(range: Range<u64>, chunk: u64) -> impl Iterator<Item = Range<u64>> + Send {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = (start / chunk + 1).saturating_mul(chunk).min(range.end);
        (start < range.end).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHAPE: Shape = Shape { unit: 4096, gap: 8192, fetch_max: 1 << 20 };

    #[test]
    fn neighbors_become_one_read_and_strangers_do_not() {
        let plan = plan(&[100_000..100_001, 10..20, 5000..5001, 0..0, 15..4097], SHAPE);
        let ranges: Vec<_> = plan.fetches.iter().map(|fetch| fetch.range.clone()).collect();
        assert_eq!(ranges, [0..8192, 98_304..102_400]);
        assert_eq!((plan.of_range, plan.buffers), (vec![1, 0, 0, 0, 0], vec![12_288]));
    }

    proptest! {
        #[test]
        fn every_range_is_inside_its_read_and_no_two_reads_share_memory(
            asked in prop::collection::vec((0u64..4 << 20, 0u64..600_000), 0..60),
            unit in prop::sample::select(vec![1u64, 512, 4096]),
            gap in prop::sample::select(vec![0u64, 4096, 64 << 10]),
            fetch_max in prop::sample::select(vec![4096u64, 1 << 20, 64 << 20]),
        ) {
            let ranges: Vec<_> = asked.iter().map(|&(start, len)| start..start + len).collect();
            let plan = plan(&ranges, Shape { unit, gap, fetch_max });
            for (index, range) in ranges.iter().enumerate().filter(|(_, range)| !range.is_empty()) {
                let fetch = &plan.fetches[plan.of_range[index]];
                prop_assert!(fetch.range.start <= range.start && range.end <= fetch.range.end);
            }
            let mut places: Vec<_> = plan.fetches.iter().map(|fetch| (fetch.buffer, fetch.offset, fetch.range.end - fetch.range.start)).collect();
            places.sort_unstable();
            for &(buffer, offset, len) in &places {
                prop_assert!(offset % unit == 0 && len % unit == 0 && offset + len <= plan.buffers[buffer]);
            }
            prop_assert!(places.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 + pair[0].2 <= pair[1].1));
            // Nothing is read for nobody, but what is between neighbors and in their units.
            let wanted: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let read: u64 = places.iter().map(|&(_, _, len)| len).sum();
            prop_assert!(read <= wanted + ranges.len() as u64 * (gap + 2 * unit));
        }

        #[test]
        fn chunks_are_the_range_without_a_gap(start in 0u64..100_000, len in 0u64..100_000, chunk in 1u64..20_000) {
            let parts: Vec<_> = chunks(start..start + len, chunk).collect();
            prop_assert!(parts.iter().all(|part| !part.is_empty() && part.end - part.start <= chunk));
            prop_assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].end % chunk == 0));
            prop_assert_eq!(parts.first().map_or(start, |part| part.start), start);
            prop_assert_eq!(parts.last().map_or(start + len, |part| part.end), start + len);
        }
    }
}
