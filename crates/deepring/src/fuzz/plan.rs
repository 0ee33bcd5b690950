//! The planner, with any request that its callers let through.

use crate::config::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, END_MAX};
use crate::plan::ALIGNMENT_MAX;
use crate::plan::{BOUNCE_BYTES_MAX, Direction, Extent, Geometry, Span, extent_at};
use arbitrary::{Result, Unstructured};

/// Extents checked from the front of a request. A request of 2^63 bytes has too many to check all.
const EXTENTS_MAX: usize = 256;

/// Offsets checked in the middle of a request, where a short transfer would resume.
const RESUMED_MAX: usize = 32;

/// The largest address of a program's memory.
const ADDRESS_MAX: u64 = 1 << 56;

/// The planner, or one with a bug.
type Planner = fn(Geometry, &Span, u64) -> Option<Extent>;

pub(super) fn check(bytes: &[u8]) {
    // Too few bytes make no request.
    let _ = check_planner(bytes, extent_at);
}

/// A planner with a planted bug: it bounces unaligned memory in whole blocks. A fuzzer must find
/// it.
pub(super) fn planted(bytes: &[u8]) {
    let _ = check_planner(bytes, |geometry, span, offset| {
        let extent = extent_at(geometry, span, offset)?;
        if !extent.bounce || extent.file_len < BOUNCE_BYTES_MAX {
            return Some(extent);
        }
        let end = (extent.file_start + extent.file_len).next_multiple_of(span.block);
        Some(Extent { file_len: end - extent.file_start, len: (end - extent.file_start - extent.skip).min(span.len - offset), ..extent })
    });
}

fn check_planner(bytes: &[u8], planner: Planner) -> Result<()> {
    let mut input = Unstructured::new(bytes);
    let geometry = geometry(&mut input)?;
    check_span(&mut input, geometry, planner)
}

fn geometry(input: &mut Unstructured<'_>) -> Result<Geometry> {
    let mut alignment = || Ok(1u64 << input.int_in_range(0..=ALIGNMENT_MAX.ilog2())?);
    let (read_unit, read_memory, write_unit, write_memory) = (alignment()?, alignment()?, alignment()?, alignment()?);
    Ok(Geometry { read_unit, write_unit: read_unit.max(write_unit), read_memory, write_memory })
}

/// A number from 0 to `max`: any, or one close to a power of two, where mistakes show.
fn number(input: &mut Unstructured<'_>, max: u64) -> Result<u64> {
    let any = input.arbitrary::<u64>()?;
    let shift = input.int_in_range(0..=130u32)?;
    let near = match shift {
        0..64 => (1u64 << shift).wrapping_add(any % 5).wrapping_sub(2),
        64 => max - any % 4096 % max.max(1),
        _ => any,
    };
    Ok(if near <= max { near } else { near % (max + 1) })
}

/// Builds a request that the entry points let through, and checks its extents.
pub(super) fn check_span(input: &mut Unstructured<'_>, geometry: Geometry, planner: Planner) -> Result<()> {
    let direction = if input.arbitrary()? { Direction::Write } else { Direction::Read };
    let position = number(input, END_MAX)?;
    let len = number(input, END_MAX - position)?;
    let address = number(input, ADDRESS_MAX)?;
    // Rounded as by the engine and the request.
    let block = number(input, BLOCK_BYTES_MAX)?.max(1).next_multiple_of(BLOCK_BYTES_MIN);
    let block = block.next_multiple_of(geometry.read_unit.max(geometry.write_unit));
    let page = 4096 << input.int_in_range(0..=18u32)?;
    let whole_pages = (direction == Direction::Read && input.arbitrary()?).then_some(page);
    let span = Span { direction, position, len, address, block, whole_pages, scattered: false };

    let mut next = 0;
    for _ in 0..EXTENTS_MAX {
        let Some(extent) = planner(geometry, &span, next) else {
            assert_eq!(next, len, "the extents do not end where the request ends: {span:?}");
            break;
        };
        check_extent(geometry, &span, next, &extent);
        next += extent.len;
    }
    for _ in 0..RESUMED_MAX {
        let offset = number(input, len)?;
        match planner(geometry, &span, offset) {
            Some(extent) => check_extent(geometry, &span, offset, &extent),
            None => assert_eq!(offset, len, "no extent inside the request: {span:?}"),
        }
    }
    Ok(())
}

fn check_extent(geometry: Geometry, span: &Span, offset: u64, extent: &Extent) {
    let unit = geometry.unit(span.direction);
    let (first, end) = (span.address + offset, span.address + offset + extent.len);
    let page = span.whole_pages.filter(|_| !extent.bounce).unwrap_or(0).max(geometry.read_unit);
    let covers = |page: u64| first - first % page >= span.address && end.next_multiple_of(page) <= span.address + span.len;
    let holds = [
        ("it begins at the offset", extent.offset == offset),
        ("it moves forward", extent.len > 0),
        ("it ends inside the request", offset.checked_add(extent.len).is_some_and(|end| end <= span.len)),
        ("it transfers from the position of its offset", extent.file_start + extent.skip == span.position + offset),
        ("its file range holds all its bytes", extent.skip + extent.len <= extent.file_len),
        ("its file range begins on a unit", extent.file_start.is_multiple_of(unit)),
        ("its file range is whole units", extent.file_len.is_multiple_of(unit)),
        ("it is no larger than a block, or a page that one block must fill", extent.file_len <= span.block.max(page)),
        ("its end fits a signed offset", i64::try_from(extent.file_end()).is_ok()),
        ("its length fits a device operation", u32::try_from(extent.file_len).is_ok()),
        ("a bounce block is small", !extent.bounce || extent.file_len <= BOUNCE_BYTES_MAX.max(unit)),
        ("only a bounced extent has padding", extent.bounce || (extent.skip, extent.len) == (0, extent.file_len)),
        ("direct memory is aligned", extent.bounce || (span.address + offset).is_multiple_of(geometry.memory(span.direction))),
        ("direct memory is whole pages", extent.bounce || span.whole_pages.is_none_or(covers)),
        ("only edges of writes are modified", !extent.rmw || (extent.bounce && span.direction == Direction::Write)),
        ("a write keeps neighboring bytes", span.direction == Direction::Read || extent.rmw || extent.len == extent.file_len),
        ("a modified edge is one unit", !extent.rmw || extent.file_len == unit),
    ];
    for (promise, kept) in holds {
        assert!(kept, "broken: {promise}: {extent:?} of {span:?} at {offset} for {geometry:?}");
    }
}
