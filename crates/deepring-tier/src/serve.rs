//! A read, from its path to its bytes: which version, whether it still is the one, which ranges, and from where.
//!
//! Every fetch names the version that it wants. If the remote has another one by then, everything that is known of the object is
//! forgotten and the call starts over, once: so no read mixes two versions.

use crate::cells::{GAP_BYTES, Geometry};
use crate::failure::{Failure, Fault, Kind};
use crate::fetch::Fetched;
use crate::flights::Fetching;
use crate::gather::Call;
use crate::identity::Place;
use crate::known::{Known, Ticket};
use crate::pieces::Pieces;
use crate::remote::{Asked, Meta};
use crate::rules::Validate;
use crate::stats::add;
use crate::store::{Outcome, Store};
use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::ops::Range;
use std::sync::Arc;

/// What is no longer than this comes as a whole: in one chunk, if all of it is in the slab.
const WHOLE_BYTES: u64 = 64 << 20;

/// The chunks of everything longer.
const CHUNK_BYTES: u64 = 8 << 20;

/// Chunks of a stream that are brought ahead of its consumer.
const CHUNKS_AHEAD: usize = 2;

/// Whether an object is what the caller expects.
pub(crate) type Check<'a> = &'a (dyn Fn(&Meta) -> Result<(), Failure> + Send + Sync);

/// What a caller wants of an object.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    One(&'a Asked, Check<'a>),
    Many(&'a [Range<u64>]),
}

/// What a caller gets.
#[derive(Debug)]
pub(crate) struct Served {
    call: Call,
    /// What was asked for, inside the object.
    pub(crate) ranges: Vec<Range<u64>>,
    pieces: Pieces,
}

impl Wanted<'_> {
    /// The ranges of an object, if it is what the caller expects.
    fn resolve(&self, path: &str, meta: &Meta) -> Result<Vec<Range<u64>>, Failure> {
        let inside = |asked: &Asked| asked.resolve(meta.size).map_err(|fault| Failure::fault(path, fault));
        match self {
            Self::One(asked, check) => {
                check(meta)?;
                Ok(vec![inside(asked)?])
            }
            Self::Many(ranges) => ranges.iter().map(|range| inside(&Asked::Bounded(range.clone()))).collect(),
        }
    }

    /// What of these ranges is brought before the call returns.
    fn first(&self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        match self {
            Self::Many(_) => ranges.to_vec(),
            Self::One(..) => ranges.iter().map(first_chunk).collect(),
        }
    }

    /// What to fetch of an object whose size and version are not known.
    fn opening(&self, geometry: Geometry, fetch_max: u64) -> Asked {
        let cells = |range: &Range<u64>| {
            let start = range.start / geometry.cell * geometry.cell;
            Asked::Bounded(start..range.end.div_ceil(geometry.cell).saturating_mul(geometry.cell).min(start.saturating_add(fetch_max)))
        };
        match self {
            Self::One(Asked::Bounded(range), _) if range.is_empty() => Asked::Bounded(range.clone()),
            Self::One(Asked::Bounded(range), _) => cells(range),
            Self::One(Asked::Offset(start), _) => cells(&(*start..start.saturating_add(fetch_max))),
            // The cell in which they begin comes as a whole.
            Self::One(Asked::Suffix(bytes), _) => Asked::Suffix(bytes.saturating_add(geometry.cell - 1)),
            Self::One(Asked::All, _) => Asked::All,
            Self::Many(ranges) => {
                let mut sorted: Vec<_> = ranges.iter().collect();
                sorted.sort_unstable_by_key(|range| range.start);
                let Some(first) = sorted.first().copied().filter(|first| !first.is_empty()) else {
                    return sorted.first().map_or(Asked::All, |&first| Asked::Bounded(first.clone()));
                };
                // With those that are near.
                let near = |end: u64, range: &&Range<u64>| (range.start <= end.saturating_add(GAP_BYTES)).then_some(end.max(range.end));
                cells(&(first.start..sorted.iter().try_fold(first.end, |end, range| near(end, range).ok_or(end)).unwrap_or_else(|end| end)))
            }
        }
    }
}

fn first_chunk(range: &Range<u64>) -> Range<u64> {
    if range.end - range.start <= WHOLE_BYTES { range.clone() } else { range.start..(range.start / CHUNK_BYTES + 1) * CHUNK_BYTES }
}

impl Store {
    /// Describes an object.
    pub(crate) async fn describe(&self, path: &str, validate: Validate, check: Check<'_>) -> Result<Meta, Failure> {
        let place = self.place(path);
        let ticket = self.inner.catalog.ticket(&place);
        let known = self.inner.catalog.get(&place).filter(|known| known.is_cacheable && known.is_fresh(validate));
        if let Some(known) = known.filter(|known| check(&known.meta).is_ok()) {
            return Ok(known.meta.clone());
        }
        let known = self.head(&ticket).await?;
        check(&known.meta)?;
        Ok(known.meta.clone())
    }

    /// Asks the remote for the version of an object.
    async fn head(&self, ticket: &Ticket) -> Result<Arc<Known>, Failure> {
        match self.inner.fetcher.head(&*self.remote, &ticket.place).await {
            Ok(now) => {
                let before = self.inner.catalog.get(&ticket.place).filter(|before| before.identity == now.identity);
                let known = Arc::new(before.map_or(now.again(now.meta.clone()), |before| before.again(now.meta.clone())));
                self.inner.catalog.learn(ticket, &known);
                Ok(known)
            }
            Err(failure) => {
                if failure.kind == Kind::NotFound {
                    self.inner.forget(&ticket.place).await;
                }
                Err(failure)
            }
        }
    }

    /// Reads what a caller wants.
    pub(crate) async fn serve(&self, path: &str, validate: Validate, wanted: Wanted<'_>) -> Result<Outcome<Served>, Failure> {
        let place = self.place(path);
        let (mut has_started_over, mut seen) = (false, None);
        loop {
            let failure = match self.serve_once(&place, validate, wanted, &mut seen).await {
                Err(failure) => failure,
                served => return served,
            };
            if failure.kind == Kind::NotFound {
                self.inner.forget(&place).await;
            }
            if !matches!(failure.kind, Kind::Lost | Kind::Differs) {
                return Err(failure);
            }
            if let Some(lost) = seen.take() {
                self.lose(&lost).await;
            }
            if has_started_over && failure.kind == Kind::Lost {
                return Err(failure);
            }
            if has_started_over {
                // The remote answers with a version that was not asked for, and again: it has no `If-Match`.
                let ticket = self.inner.catalog.ticket(&place);
                self.inner.catalog.learn(&ticket, &Arc::new(Known::unsteady(&place)));
                add(&self.inner.counters.uncacheable, 1);
                return Ok(Outcome::Around);
            }
            has_started_over = true;
        }
    }

    /// Forgets a version that the remote has no more, unless another call has put a newer one in its place.
    async fn lose(&self, lost: &Known) {
        add(&self.inner.counters.preconditions_lost, 1);
        let place = &lost.identity.place;
        if self.inner.catalog.get(place).is_none_or(|now| now.identity == lost.identity) {
            self.inner.forget(place).await;
        }
    }

    /// One attempt. `seen` is the version that it is about.
    async fn serve_once(
        &self,
        place: &Arc<Place>,
        validate: Validate,
        wanted: Wanted<'_>,
        seen: &mut Option<Arc<Known>>,
    ) -> Result<Outcome<Served>, Failure> {
        let inner = &self.inner;
        let ticket = inner.catalog.ticket(place);
        let mut pieces = Pieces::default();
        // Whether the version holds by its rule, and whether the remote has confirmed it in this call.
        let (mut known, is_valid, mut is_new) = if let Some(known) = inner.catalog.get(place) {
            let is_fresh = known.is_fresh(validate);
            (known, is_fresh, false)
        } else {
            let (fetched, is_own) = self.open(&ticket, wanted.opening(inner.geometry, inner.fetcher.fetch_max)).await?;
            pieces.add(fetched.range.start, fetched.bytes());
            // Another call's fetch can have begun long before this call.
            let is_fresh = fetched.known.is_fresh(validate);
            (fetched.known, is_fresh, is_own)
        };
        loop {
            if !known.is_cacheable {
                add(&inner.counters.uncacheable, 1);
                if !is_new {
                    return Ok(Outcome::Around);
                }
                let ranges = wanted.resolve(&place.path, &known.meta)?;
                // All that was wanted can have come already.
                let is_here = ranges.iter().all(|range| pieces.covers(range));
                let served = Served { call: self.call(ticket, known), ranges, pieces };
                return Ok(if is_here { Outcome::Served(served) } else { Outcome::Around });
            }
            let resolved = wanted.resolve(&place.path, &known.meta);
            let is_certain = is_new || is_valid && resolved.is_ok();
            let first = resolved.as_ref().map(|ranges| wanted.first(ranges)).unwrap_or_default();
            // What is not in the slab is fetched, and that confirms the version, too.
            if !is_certain && (resolved.is_err() || inner.has_all(&known, &first)) {
                known = self.renew(&ticket, known, &mut pieces).await?;
                is_new = true;
                continue;
            }
            let ranges = resolved?;
            *seen = Some(Arc::clone(&known));
            let call = self.call(ticket.clone(), Arc::clone(&known));
            let has_asked = inner.gather(&call, &first, &mut pieces).await?;
            if !is_certain && !has_asked {
                let before = Arc::clone(&known);
                known = self.renew(&ticket, known, &mut pieces).await?;
                is_new = true;
                if known.identity != before.identity {
                    continue;
                }
            }
            return Ok(Outcome::Served(Served { call, ranges, pieces }));
        }
    }

    fn call(&self, ticket: Ticket, known: Arc<Known>) -> Call {
        Call { ticket, known, remote: Arc::clone(&self.remote) }
    }

    /// Asks for the version. What a call has of another one goes.
    async fn renew(&self, ticket: &Ticket, known: Arc<Known>, pieces: &mut Pieces) -> Result<Arc<Known>, Failure> {
        let now = self.head(ticket).await?;
        if now.identity != known.identity {
            pieces.clear();
        }
        Ok(now)
    }

    /// The first fetch of an object that nothing is known of, and whether it is this call's own: calls that ask for the same share it.
    async fn open(&self, ticket: &Ticket, asked: Asked) -> Result<(Fetched, bool), Failure> {
        let opening = (Arc::clone(&ticket.place), ticket.epoch, asked);
        let (fetching, is_own) = self.opening(ticket, &opening);
        match fetching.await {
            // Another call's failure can be of its time alone.
            Err(failure) if !is_own && failure.kind == Kind::Other => {
                let (fetching, is_own) = self.opening(ticket, &opening);
                Ok((fetching.await?, is_own))
            }
            result => Ok((result?, is_own)),
        }
    }

    fn opening(&self, ticket: &Ticket, opening: &(Arc<Place>, u64, Asked)) -> (Fetching, bool) {
        let mut flying = self.inner.flights.lock();
        if let Some(fetching) = flying.find_opening(opening) {
            add(&self.inner.counters.coalesced, 1);
            return (fetching, false);
        }
        let boarded = flying.board_opening(&self.inner.flights, opening);
        let number = boarded.number();
        let (inner, remote, ticket, asked) = (Arc::clone(&self.inner), Arc::clone(&self.remote), ticket.clone(), opening.2.clone());
        let fetching = async move {
            let fetched = inner.fetcher.fetch(&*remote, &ticket.place, asked, None).await?;
            let cells = inner.geometry.whole(&fetched.range, fetched.known.identity.size);
            add(&inner.counters.misses, cells.end - cells.start);
            inner.catalog.learn(&ticket, &fetched.known);
            let filling =
                if fetched.known.is_cacheable { inner.flights.lock().board_filling(&inner.flights, &fetched, &cells) } else { None };
            inner.fill(ticket, fetched.clone(), cells, filling);
            drop(boarded);
            Ok(fetched)
        };
        let fetching = fetching.boxed().shared();
        flying.depart_opening(number, opening.clone(), &fetching);
        (fetching, true)
    }
}

impl Served {
    pub(crate) fn meta(&self) -> &Meta {
        &self.call.known.meta
    }

    /// The bytes of each range.
    pub(crate) fn into_bytes(self) -> Result<Vec<Bytes>, Failure> {
        self.ranges.iter().map(|range| self.pieces.take(range).ok_or_else(|| self.changed())).collect()
    }

    /// The bytes of the first range, the rest of which is brought as it is read.
    pub(crate) fn into_stream(self, store: Store) -> BoxStream<'static, Result<Bytes, Failure>> {
        let Some(range) = self.ranges.first().cloned() else { return stream::empty().boxed() };
        // What came without being cacheable is here to its end.
        let first = if self.pieces.covers(&range) { range.clone() } else { first_chunk(&range) };
        let begin = match self.pieces.cut(&first) {
            Some(parts) => parts.into_iter().map(Ok).collect(),
            None => vec![Err(self.changed())],
        };
        let call = self.call;
        let rest = stream::iter(chunks(first.end..range.end)).map(move |chunk| bring(store.clone(), call.clone(), chunk));
        let rest = rest.buffered(CHUNKS_AHEAD).flat_map(|result| {
            stream::iter(match result {
                Ok(parts) => parts.into_iter().map(Ok).collect(),
                Err(failure) => vec![Err(failure)],
            })
        });
        stream::iter(begin).chain(rest).boxed()
    }

    fn changed(&self) -> Failure {
        Failure::fault(&self.call.ticket.place.path, Fault::Changed)
    }
}

/// A chunk in the middle of a stream: the version that it began with, or a failure.
async fn bring(store: Store, call: Call, chunk: Range<u64>) -> Result<Vec<Bytes>, Failure> {
    let mut pieces = Pieces::default();
    let changed = || Failure::fault(&call.ticket.place.path, Fault::Changed);
    match store.inner.gather(&call, std::slice::from_ref(&chunk), &mut pieces).await {
        Ok(_) => pieces.cut(&chunk).ok_or_else(changed),
        Err(failure) if matches!(failure.kind, Kind::Lost | Kind::Differs) => {
            store.lose(&call.known).await;
            Err(changed())
        }
        Err(failure) => Err(failure),
    }
}

/// The parts that a long range is brought in: each ends at a multiple of [`CHUNK_BYTES`], but the last one.
fn chunks(range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let start = at;
        at = (start / CHUNK_BYTES + 1).saturating_mul(CHUNK_BYTES).min(range.end);
        (start < range.end).then_some(start..at)
    })
}
