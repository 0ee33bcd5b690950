//! One request to a remote, and everything that must be true of its answer.

use crate::cells::{UNIT_BYTES, padded};
use crate::failure::{Failure, Fault, Kind};
use crate::identity::Place;
use crate::known::Known;
use crate::remote::{Answer, Ask, Asked, Meta, Remote};
use crate::stats::{Counters, add};
use crate::timed::timed;
use bytes::Bytes;
use deepring::Engine;
use futures_util::StreamExt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a version that a remote has sent.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) known: Arc<Known>,
    /// Which bytes of the object.
    pub(crate) range: Range<u64>,
    /// Those bytes in memory for direct I/O: at the same offset from a unit as in the object, and zeros up to the next unit.
    buffer: Bytes,
}

impl Fetched {
    pub(crate) fn bytes(&self) -> Bytes {
        self.slice(&self.range)
    }

    /// A part of it. It can end behind the object, with the last unit of that.
    pub(crate) fn slice(&self, range: &Range<u64>) -> Bytes {
        let base = self.range.start / UNIT_BYTES * UNIT_BYTES;
        self.buffer.slice((range.start - base) as usize..(range.end - base) as usize)
    }
}

/// What fetches need.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    pub(crate) engine: Engine,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timeout: Duration,
    pub(crate) fetch_max: u64,
}

impl Fetcher {
    /// Describes an object.
    pub(crate) async fn head(&self, remote: &dyn Remote, place: &Arc<Place>) -> Result<Known, Failure> {
        add(&self.counters.heads, 1);
        let ask = Ask { asked: Asked::All, if_match: None, head: true };
        let answer = timed(self.timeout, &place.path, remote.get(&place.path, ask)).await?;
        Ok(Known::of(place, answer.meta))
    }

    /// Fetches bytes: of a version that is known, or of whichever there is. Of that, at most as many as a fetch may have.
    pub(crate) async fn fetch(
        &self,
        remote: &dyn Remote,
        place: &Arc<Place>,
        asked: Asked,
        expected: Option<Arc<Known>>,
    ) -> Result<Fetched, Failure> {
        add(&self.counters.fetches, 1);
        timed(self.timeout, &place.path, self.request(remote, place, asked, expected)).await
    }

    async fn request(
        &self,
        remote: &dyn Remote,
        place: &Arc<Place>,
        asked: Asked,
        expected: Option<Arc<Known>>,
    ) -> Result<Fetched, Failure> {
        let if_match = expected.as_ref().map(|known| known.identity.e_tag.to_string());
        let lost = |failure: Failure| if failure.kind == Kind::Precondition { failure.with_kind(Kind::Lost) } else { failure };
        let answer = remote.get(&place.path, Ask { asked: asked.clone(), if_match, head: false }).await.map_err(lost)?;
        let Answer { meta, range, mut body } = answer;
        if let Some(expected) = &expected {
            check_version(place, expected, &meta)?;
        }
        let fault = |fault| Failure::fault(&place.path, fault);
        if asked.resolve(meta.size) != Ok(range.clone()) {
            let Range { start, end } = range;
            return Err(fault(Fault::WrongRange { asked: asked.to_string(), start, end, size: meta.size }));
        }
        // Of an object whose size was not known, more can have been asked for than is taken.
        let wanted = range.start..range.end.min(range.start.saturating_add(self.fetch_max));
        let (len, lead) = ((wanted.end - wanted.start) as usize, (wanted.start % UNIT_BYTES) as usize);
        let space = padded((lead + len) as u64) as usize;
        let mut buffer = self.engine.pooled_buffer(space).map_err(|error| Failure::new(Kind::Other, &*place.path, error))?;
        let mut at = 0;
        while at < len || wanted == range {
            let Some(chunk) = body.next().await else { break };
            let chunk = chunk?;
            let taken = chunk.len().min(len - at);
            if taken < chunk.len() && wanted == range {
                return Err(fault(Fault::Long { expected: len as u64 }));
            }
            buffer[lead + at..lead + at + taken].copy_from_slice(&chunk[..taken]);
            at += taken;
            add(&self.counters.bytes_from_remote, taken as u64);
        }
        if at < len {
            return Err(fault(Fault::Short { expected: len as u64, found: at as u64 }));
        }
        // Nothing of what was in this memory before goes to the drive.
        buffer[..lead].fill(0);
        buffer[lead + len..].fill(0);
        let known = Arc::new(expected.map_or_else(|| Known::of(place, meta.clone()), |expected| expected.again(meta.clone())));
        Ok(Fetched { known, range: wanted, buffer: Bytes::from_owner(buffer) })
    }
}

/// Whether an answer is of the version that was asked for.
fn check_version(place: &Place, expected: &Known, meta: &Meta) -> Result<(), Failure> {
    let is_same = meta.e_tag.as_deref() == Some(&*expected.identity.e_tag) && meta.size == expected.identity.size;
    if is_same { Ok(()) } else { Err(Failure::fault(&place.path, Fault::Changed).with_kind(Kind::Differs)) }
}
