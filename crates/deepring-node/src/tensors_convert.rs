//! Conversion of elements, on threads of the engine: in pieces, a few of them at the same time.
//!
//! Each lane converts a piece and goes to the end of the line, so that a large conversion holds up no other job.

use crate::failure::Failure;
use crate::memory::{Foreign, View};
use crate::session::Session;
use crate::tensors_job::Landing;
use deepring::{Engine, IoBuf};
use deepring_tensors::DType;
use deepring_tensors::convert::{convert_into, pieces};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of a piece: converted in about a millisecond.
const PIECE_BYTES: usize = 4 << 20;

/// Pieces that are converted at the same time: as many as the engine has threads for jobs like these.
const LANES: usize = 4;

struct Conversion {
    engine: Engine,
    from: DType,
    to: DType,
    source: Foreign,
    target: Foreign,
    pieces: Vec<(Range<usize>, Range<usize>)>,
    next: AtomicUsize,
    done: AtomicUsize,
    landing: Arc<Landing>,
}

impl Conversion {
    /// Converts the next piece, and goes on with the one after it behind other jobs.
    fn step(self: Arc<Self>) {
        if self.landing.is_canceled() {
            return;
        }
        let Some((source, target)) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
        // SAFETY: the facade holds the memory until the record has come. A program that writes to the source meanwhile gets
        // either bytes.
        let source = unsafe { self.source.part(source.clone()) };
        // SAFETY: as above. The facade has checked that target and source are apart, and no two pieces have bytes of the target
        // in common.
        let target = unsafe { self.target.part_mut(target.clone()) };
        let converted = convert_into(self.from, source, self.to, target);
        if let Err(error) = converted {
            return self.landing.end(Err(Box::new(Failure::plain("ERR_DEEPRING_INVALID", &error.to_string()))));
        }
        if self.done.fetch_add(1, Ordering::AcqRel) + 1 == self.pieces.len() {
            return self.landing.end(Ok(None));
        }
        let engine = self.engine.clone();
        drop(engine.run_blocking(move || self.step()));
    }
}

#[napi]
impl Session {
    // ---- conversion ----

    /// Converts all elements of `source` into `target`, which has their size.
    #[napi]
    pub fn convert(&self, env: &Env, id: f64, engine: u32, from: String, source: View, to: String, target: View) -> Result<()> {
        let engine = self.state.engine(engine)?;
        let dtype = |name: &str| DType::of(name).ok_or_else(|| Error::new(Status::InvalidArg, format!("unknown element type {name}")));
        let (from, to) = (dtype(&from)?, dtype(&to)?);
        let landing = self.landing(env, id)?;
        let (source, target) = (Foreign::of(&source, &landing), Foreign::of(&target, &landing));
        let elements = source.len() * 8 / from.bits() as usize;
        let pieces: Vec<_> = pieces(from, to, elements, PIECE_BYTES).collect();
        if pieces.is_empty() {
            landing.end(Ok(None));
            return Ok(());
        }
        let lanes = pieces.len().min(LANES);
        let next = AtomicUsize::new(0);
        let conversion = Conversion { engine: engine.clone(), from, to, source, target, pieces, next, done: AtomicUsize::new(0), landing };
        let conversion = Arc::new(conversion);
        for _ in 0..lanes {
            let lane = Arc::clone(&conversion);
            drop(engine.run_blocking(move || lane.step()));
        }
        Ok(())
    }
}
