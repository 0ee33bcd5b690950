//! Calls with many ranges: the numbers are copied at the call, and everything else happens on threads of the engine.

use crate::convert::Many;
use crate::delivery::Delivery;
use crate::failure::Failure;
use crate::memory::View;
use crate::record::{
    MANY_COUNTS, MANY_EXACT, MANY_EXPECT, MANY_PARTIAL, MANY_SUMS, MANY_WRITE, NUMBERS_FLOAT64, NUMBERS_UINT32, NUMBERS_UINT64, Record,
    many, priority,
};
use crate::session::{Session, unknown};
use crate::turns::Line;
use deepring::binding::{Completion, EngineBinding, FileBinding, MemoryLease, Outcome, Ranges, RawRange};
use deepring::{Direction, Engine, ManyOptions};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// Counting more ranges than this takes longer than waking a thread.
const COUNTED_AT_ONCE: usize = 1024;

/// A list of numbers as JavaScript has it: the bytes of a typed array.
enum Numbers {
    /// The same for all.
    One(u64),
    Float64(Vec<u8>),
    Uint64(Vec<u8>),
    Uint32(Vec<u8>),
}

impl Numbers {
    fn of(kind: f64, list: View) -> Option<Self> {
        match kind as u32 {
            NUMBERS_FLOAT64 => Some(Self::Float64(list.to_vec())),
            NUMBERS_UINT64 => Some(Self::Uint64(list.to_vec())),
            NUMBERS_UINT32 => Some(Self::Uint32(list.to_vec())),
            _ => None,
        }
    }

    /// One of them; 0 beyond the end.
    fn get(&self, index: usize) -> u64 {
        fn at<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
            bytes.get(index * N..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; N])
        }
        match self {
            Self::One(number) => *number,
            Self::Float64(bytes) => f64::from_ne_bytes(at(bytes, index)) as u64,
            Self::Uint64(bytes) => u64::from_ne_bytes(at(bytes, index)),
            Self::Uint32(bytes) => u32::from_ne_bytes(at(bytes, index)).into(),
        }
    }
}

/// The ranges as the engine has them. Without offsets, their memory is packed in their order.
fn ranges(count: usize, positions: &Numbers, lengths: &Numbers, offsets: Option<&Numbers>, address: u64) -> Vec<RawRange> {
    let mut packed = 0;
    let range = |index| {
        let len = lengths.get(index);
        let offset = offsets.map_or(packed, |offsets| offsets.get(index));
        packed += len;
        RawRange::new(positions.get(index), len, address + offset)
    };
    (0..count).map(range).collect()
}

/// The numbers of a `Uint32Array`.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// The completion of a call: makes its record.
struct Landing {
    id: u64,
    delivery: Arc<Delivery>,
    lease: Option<MemoryLease>,
    engine: Engine,
    ranges: Ranges,
    line: Line,
    wants_counts: bool,
}

impl Landing {
    fn report(&self, result: &deepring::Result<deepring::Receipt>) {
        let failures: Vec<_> = self.ranges.failures().iter().map(Failure::from).collect();
        let counts = || self.ranges.counts().into_iter().map(|count| count as f64).collect::<Vec<_>>();
        let many = Many {
            failure: result.as_ref().err().map(Failure::from),
            failures,
            checksums: self.ranges.checksums().map(|sums| Uint32Array::new(sums.to_vec())),
            counts: (self.wants_counts && result.is_ok()).then(|| Float64Array::new(counts())),
            overread: self.ranges.overread() as f64,
        };
        self.delivery.push(self.line, Record::of_many(self.id, result, many));
    }
}

impl Completion for Landing {
    fn settle(self: Arc<Self>, outcome: Outcome) {
        if outcome.memory_lost {
            // The kernel can still write there.
            std::mem::forget(self.lease.clone());
        }
        if self.ranges.len() <= COUNTED_AT_ONCE {
            return self.report(&outcome.result);
        }
        let engine = self.engine.clone();
        engine.run_blocking_on(None, move || self.report(&outcome.result));
    }

    fn canceled(&self) -> bool {
        self.delivery.is_canceled(self.id)
    }
}

#[napi]
impl Session {
    /// Submits a call with many ranges, and wakes the driver. For `numbers` see `many` of `record.rs`. The facade has checked
    /// that all ranges lie in the view.
    #[napi]
    pub fn many(
        &self,
        env: &Env,
        numbers: Float64ArraySlice<'_>,
        view: View,
        positions: View,
        lengths: View,
        offsets: View,
        expected: View,
    ) -> Result<()> {
        let number = |field: usize| numbers[field];
        let has = |flag: u32| number(many::FLAGS) as u32 & flag != 0;
        let (id, file, count) = (number(many::ID) as u64, number(many::FILE) as u32, number(many::COUNT) as usize);
        let files = self.state.files.borrow();
        let file = files.get(&file).ok_or_else(|| unknown("file", file))?;
        self.state.delivery.expect(env)?;
        let positions = Numbers::of(number(many::POSITIONS), positions).unwrap_or(Numbers::One(0));
        let lengths = Numbers::of(number(many::LENGTHS), lengths).unwrap_or(Numbers::One(number(many::LEN) as u64));
        let offsets = Numbers::of(number(many::OFFSETS), offsets);
        let direction = if has(MANY_WRITE) { Direction::Write } else { Direction::Read };
        let options = ManyOptions::new().exact(has(MANY_EXACT)).partial(has(MANY_PARTIAL)).gap(number(many::GAP) as u64);
        let options = options.checksums(has(MANY_SUMS));
        let options = if has(MANY_EXPECT) { options.expect(words(&expected.to_vec())) } else { options };
        let options = priority(number(many::PRIORITY) as u32).into_iter().fold(options, ManyOptions::priority);
        let results = Ranges::new(has(MANY_EXACT));
        let completion = Arc::new(Landing {
            id,
            delivery: Arc::clone(&self.state.delivery),
            lease: view.lease(),
            engine: file.engine().clone(),
            ranges: results.clone(),
            line: Line::Of(number(many::FILE) as u32),
            wants_counts: has(MANY_COUNTS),
        });
        let address = view.address;
        let make = move || ranges(count, &positions, &lengths, offsets.as_ref(), address);
        // SAFETY: as for a single transfer: engine memory is held by the completion, foreign memory by the facade, until the
        // record has been drained. The facade has checked that the ranges lie in it.
        unsafe { file.submit_many(direction, count, make, options, &results, completion) };
        file.engine().wake();
        Ok(())
    }
}
