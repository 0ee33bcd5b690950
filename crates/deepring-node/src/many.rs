//! Calls with many ranges: the numbers are copied at the call, and everything else happens on threads of the engine: they are
//! checked there, too, because a look at a million numbers takes as long as the event loop may stand still.

use crate::convert::{Many, Refused};
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
use deepring::{Buffer, Direction, Engine, ManyOptions};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Counting more ranges than this takes longer than waking a thread.
const COUNTED_AT_ONCE: usize = 1024;

/// `Number.MAX_SAFE_INTEGER`.
const SAFE_MAX: u64 = (1 << 53) - 1;

/// Lists of this many bytes are copied to memory of the engine's pool, which is there, or has huge pages: half of the time that a
/// copy to new memory takes is for its pages.
const POOLED_BYTES: u64 = 256 << 10;

/// A copy of the bytes of a list.
enum Bytes {
    Own(Vec<u8>),
    Pooled(Buffer),
}

impl Bytes {
    fn of(list: View, engine: &Engine) -> deepring::Result<Self> {
        if list.len < POOLED_BYTES {
            return Ok(Self::Own(list.to_vec()));
        }
        let mut copy = engine.pooled_buffer(list.len as usize)?;
        list.read(|bytes| copy.copy_from_slice(bytes));
        Ok(Self::Pooled(copy))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Pooled(bytes) => bytes,
        }
    }
}

/// A list of numbers as JavaScript has it: the bytes of a typed array.
enum Numbers {
    /// The same for all.
    One(u64),
    Float64(Bytes),
    Uint64(Bytes),
    Uint32(Bytes),
}

impl Numbers {
    /// `None` if there is no list.
    fn of(kind: f64, list: View, engine: &Engine) -> deepring::Result<Option<Self>> {
        let bytes = || Bytes::of(list, engine);
        Ok(Some(match kind as u32 {
            NUMBERS_FLOAT64 => Self::Float64(bytes()?),
            NUMBERS_UINT64 => Self::Uint64(bytes()?),
            NUMBERS_UINT32 => Self::Uint32(bytes()?),
            _ => return Ok(None),
        }))
    }

    /// One of them, if JavaScript has it as a safe integer; 0 beyond the end.
    fn get(&self, index: usize) -> Option<u64> {
        let number = match self {
            Self::Float64(bytes) => {
                let given = f64::from_ne_bytes(at(bytes, index));
                ((0.0..=SAFE_MAX as f64).contains(&given) && given.fract() == 0.0).then_some(given as u64)?
            }
            Self::One(number) => *number,
            Self::Uint64(bytes) => u64::from_ne_bytes(at(bytes, index)),
            Self::Uint32(bytes) => u32::from_ne_bytes(at(bytes, index)).into(),
        };
        (number <= SAFE_MAX).then_some(number)
    }

    /// The same as it was given.
    fn given(&self, index: usize) -> Either<f64, BigInt> {
        match self {
            Self::Float64(bytes) => Either::A(f64::from_ne_bytes(at(bytes, index))),
            Self::Uint64(bytes) => Either::B(u64::from_ne_bytes(at(bytes, index)).into()),
            _ => Either::A(self.get(index).unwrap_or(0) as f64),
        }
    }
}

fn at<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
    bytes.get(index * N..).and_then(|rest| rest.first_chunk().copied()).unwrap_or([0; N])
}

/// The lists of a call.
struct Lists {
    count: usize,
    positions: Numbers,
    lengths: Numbers,
    /// Absent: the ranges are packed in memory, in their order.
    offsets: Option<Numbers>,
    /// The memory of the ranges.
    address: u64,
    size: u64,
}

impl Lists {
    /// The ranges as the engine has them; or the first that is not one of safe integers, in the memory.
    fn ranges(&self) -> std::result::Result<Vec<RawRange>, Refused> {
        let Self { positions, lengths, offsets, .. } = self;
        let mut ranges = Vec::with_capacity(self.count);
        let mut packed = 0;
        for index in 0..self.count {
            let offset = match offsets {
                Some(offsets) => offsets.get(index),
                None => Some(packed),
            };
            let (Some(position), Some(len), Some(offset)) = (positions.get(index), lengths.get(index), offset) else {
                return Err(self.refused(index, packed));
            };
            if offset + len > self.size || position + len > SAFE_MAX {
                return Err(self.refused(index, packed));
            }
            packed = packed.saturating_add(len);
            ranges.push(RawRange::new(position, len, self.address + offset));
        }
        Ok(ranges)
    }

    fn refused(&self, index: usize, packed: u64) -> Refused {
        Refused {
            index: index as u32,
            position: self.positions.given(index),
            length: self.lengths.given(index),
            offset: self.offsets.as_ref().map_or(Either::A(packed as f64), |offsets| offsets.given(index)),
        }
    }
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
    refused: Arc<OnceLock<Refused>>,
    line: Line,
    wants_counts: bool,
}

impl Landing {
    fn report(&self, result: &deepring::Result<deepring::Receipt>) {
        let failures: Vec<_> = self.ranges.failures().iter().map(Failure::from).collect();
        let overread = self.ranges.overread();
        let is_plain = failures.is_empty() && overread == 0 && !self.wants_counts && self.ranges.checksums().is_none();
        if result.is_ok() && is_plain {
            // An object with a property for each that is absent would cost the event loop more than the call.
            return self.delivery.push(self.line, Record::of_transfer(self.id, result));
        }
        let counts = || self.ranges.counts().into_iter().map(|count| count as f64).collect::<Vec<_>>();
        let many = Many {
            failure: result.as_ref().err().map(Failure::from),
            failures,
            refused: self.refused.get().cloned(),
            checksums: self.ranges.checksums().map(|sums| Uint32Array::new(sums.to_vec())),
            counts: (self.wants_counts && result.is_ok()).then(|| Float64Array::new(counts())),
            overread: overread as f64,
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
    /// Submits a call with many ranges, and wakes the driver. For `numbers` see `many` of `record.rs`. The lists have as many
    /// numbers as there are ranges.
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
        let direction = if has(MANY_WRITE) { Direction::Write } else { Direction::Read };
        let options = ManyOptions::new().exact(has(MANY_EXACT)).partial(has(MANY_PARTIAL)).gap(number(many::GAP) as u64);
        let options = options.checksums(has(MANY_SUMS));
        let options = if has(MANY_EXPECT) { options.expect(expected.read(words)) } else { options };
        let options = priority(number(many::PRIORITY) as u32).into_iter().fold(options, ManyOptions::priority);
        let (results, refused) = (Ranges::new(has(MANY_EXACT)), Arc::<OnceLock<Refused>>::default());
        let completion = Arc::new(Landing {
            id,
            delivery: Arc::clone(&self.state.delivery),
            lease: view.lease(),
            engine: file.engine().clone(),
            ranges: results.clone(),
            refused: Arc::clone(&refused),
            line: Line::Of(number(many::FILE) as u32),
            wants_counts: has(MANY_COUNTS),
        });
        let list = |kind: usize, list: View| Numbers::of(number(kind), list, file.engine());
        let lists = || -> deepring::Result<Lists> {
            Ok(Lists {
                count,
                positions: list(many::POSITIONS, positions)?.unwrap_or(Numbers::One(0)),
                lengths: list(many::LENGTHS, lengths)?.unwrap_or(Numbers::One(number(many::LEN) as u64)),
                offsets: list(many::OFFSETS, offsets)?,
                address: view.address,
                size: view.len,
            })
        };
        let lists = match lists() {
            Ok(lists) => lists,
            Err(error) => {
                completion.report(&Err(error));
                return Ok(());
            }
        };
        let make = move || lists.ranges().map_err(|first| refused.set(first)).ok();
        // SAFETY: as for a single transfer: engine memory is held by the completion, foreign memory by the facade, until the
        // record has been drained. Ranges that do not lie in it are refused.
        unsafe { file.submit_many(direction, count, make, options, &results, completion) };
        file.engine().wake();
        Ok(())
    }
}
