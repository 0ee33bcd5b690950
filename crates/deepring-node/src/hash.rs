//! The SHA-256 of a file. CRC-32C is the engine's own, because it can be put together from parts in any order
//! (`files.rs`); this can only go from the first byte to the last.
//!
//! ```text
//!   a few pieces in flight:  read into a buffer of the pool ──► hashed in their order, on blocking threads ──► the next read
//! ```

use crate::convert::Detail;
use crate::failure::Failure;
use crate::session::{Session, unknown};
use crate::tensors_job::Gauge;
use deepring::{Buffer, File, Op};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// Bytes that are hashed at once: about a millisecond. Then other jobs have the thread.
const PIECE_BYTES: u64 = 2 << 20;

/// Pieces that are read while one is hashed.
const PIECES: usize = 6;

#[napi]
impl Session {
    // ---- hashes ----

    /// The SHA-256 of the first `length` bytes. The detail has its bytes.
    #[napi]
    pub fn sha256(&self, env: &Env, id: f64, number: u32, length: f64) -> Result<()> {
        let files = self.state.files.borrow();
        let file = files.get(&number).ok_or_else(|| unknown("file", number))?;
        let (engine, own) = (file.engine().clone(), file.try_clone());
        let (landing, gauge) = (self.landing(env, id)?, Arc::<Gauge>::default());
        let reported = Arc::clone(&gauge);
        self.start(&engine, landing, gauge, async move {
            let failed = |error: deepring::Error| Box::new(Failure::from(&error));
            hash(&own.map_err(failed)?, length as u64, &reported).await.map_err(failed)
        });
        Ok(())
    }
}

async fn hash(file: &File, length: u64, gauge: &Gauge) -> deepring::Result<Option<Detail>> {
    let mut flying: VecDeque<Op<Buffer>> = VecDeque::with_capacity(PIECES);
    let (mut next, mut done, mut hash) = (0, 0, Sha256::new());
    let mut read = |spare: Option<Buffer>| -> deepring::Result<Option<Op<Buffer>>> {
        let bytes = PIECE_BYTES.min(length - next);
        if bytes == 0 {
            return Ok(None);
        }
        let buffer = match spare {
            Some(buffer) if buffer.len() as u64 == bytes => buffer,
            _ => file.engine().pooled_buffer(bytes as usize)?,
        };
        let position = next;
        next += bytes;
        Ok(Some(file.read_exact_at(buffer, position)))
    };
    while flying.len() < PIECES
        && let Some(op) = read(None)?
    {
        flying.push_back(op);
    }
    while let Some(op) = flying.pop_front() {
        let (buffer, _) = op.await.ok()?;
        hash.update(&buffer[..]);
        done += buffer.len() as u64;
        gauge.set(done, length);
        flying.extend(read(Some(buffer))?);
        let_others().await;
    }
    Ok(Some(Detail::Numbers(hash.finalize().iter().map(|&byte| f64::from(byte)).collect())))
}

/// Lets the other jobs of the thread go on.
async fn let_others() {
    let mut waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
