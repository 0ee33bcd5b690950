//! The alignment that the kernel reports for a file, and any request on such a file.

use super::plan;
use crate::open::DirectSupport;
use crate::plan::{ALIGNMENT_MAX, extent_at};
use crate::sys::stat::Stat;
use arbitrary::{Result, Unstructured};

pub(super) fn check(bytes: &[u8]) {
    // Too few bytes make no answer.
    let _ = answer(&mut Unstructured::new(bytes));
}

fn answer(input: &mut Unstructured<'_>) -> Result<()> {
    let [memory, offset] = [alignment(input)?, alignment(input)?];
    let answered = if input.arbitrary()? {
        // SAFETY: all fields are integers.
        let mut stat: libc::statx = unsafe { std::mem::zeroed() };
        stat.stx_mask = input.arbitrary()?;
        (stat.stx_dio_mem_align, stat.stx_dio_offset_align) = (memory, offset);
        let answer = DirectSupport::of_stat(&Stat::of(&stat));
        assert_eq!(answer.is_some(), stat.stx_mask & libc::STATX_DIOALIGN != 0);
        answer
    } else {
        DirectSupport::of_xfs(memory, offset)
    };
    let Some(support) = answered else { return Ok(()) };
    assert!(!support.reason.is_empty());
    if !support.available {
        assert_eq!((support.offset_alignment, support.memory_alignment), (1, 1));
        return Ok(());
    }
    assert_eq!((support.offset_alignment, support.memory_alignment), (offset, memory));
    assert!(offset.max(memory) <= ALIGNMENT_MAX);
    let geometry = support.geometry(input.arbitrary()?);
    assert!(geometry.write_unit.is_multiple_of(geometry.read_unit));
    plan::check_span(input, geometry, extent_at)
}

/// Any number, or one that a kernel would report.
fn alignment(input: &mut Unstructured<'_>) -> Result<u32> {
    let shift = input.int_in_range(0..=63u32)?;
    if shift < 32 { Ok(1 << shift) } else { input.arbitrary() }
}
