//! The bytes of ranges of a version: from the drive, from fetches of others, and from the remote, all at once.

use crate::cells::GAP_BYTES;
use crate::failure::{Failure, Kind};
use crate::fetch::Fetched;
use crate::flights::{Found, Joined};
use crate::hits::Hit;
use crate::inner::Inner;
use crate::known::{Known, Ticket};
use crate::pieces::Pieces;
use crate::remote::{Asked, Remote};
use crate::stats::add;
use futures_util::future::{self, BoxFuture, FutureExt};
use futures_util::stream::{self, StreamExt};
use std::ops::Range;
use std::sync::Arc;

/// A cell that was bad, or that another call failed to fetch, is tried again; from this round on without the drive.
const ROUNDS_WITH_DRIVE: u32 = 2;

/// One version of an object, for one call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) ticket: Ticket,
    pub(crate) known: Arc<Known>,
    pub(crate) remote: Arc<dyn Remote>,
}

/// Where the cells of a round come from.
#[derive(Default)]
struct Plan {
    hits: Vec<Hit>,
    coming: Vec<Coming>,
}

/// Bytes that are fetched, and whether by this call.
type Coming = BoxFuture<'static, (Result<Fetched, Failure>, bool)>;

impl Inner {
    /// Whether all cells of these ranges are in the slab.
    pub(crate) fn has_all(&self, known: &Known, ranges: &[Range<u64>]) -> bool {
        let mut parts = self.geometry.runs(ranges).into_iter().flat_map(|run| self.geometry.parts(run));
        parts.all(|part| {
            let extent = self.extent(&known.identity, part.extent);
            extent.is_some_and(|extent| extent.has(part.cells))
        })
    }

    /// Brings what is missing of these ranges, which are inside the object. Returns whether the remote was asked for some of it
    /// in this call, and so has confirmed the version.
    ///
    /// # Errors
    /// [`Kind::Lost`] and [`Kind::Differs`] if the object has another version by now.
    pub(crate) async fn gather(self: &Arc<Self>, call: &Call, ranges: &[Range<u64>], pieces: &mut Pieces) -> Result<bool, Failure> {
        let mut has_asked = false;
        let mut uses_drive = true;
        for round in 0.. {
            let gaps: Vec<_> = ranges.iter().flat_map(|range| pieces.gaps(range)).collect();
            if gaps.is_empty() {
                break;
            }
            uses_drive &= round < ROUNDS_WITH_DRIVE;
            let Plan { hits, coming } = self.plan(call, self.geometry.runs(&gaps), uses_drive);
            let read = self.slab.read(&hits, call.known.identity.size);
            let fetched = self.take_all(stream::iter(coming).buffer_unordered(self.fetches), round, &mut has_asked);
            let (read, fetched) = future::join(read, fetched).await;
            match read {
                Ok(good) => good.into_iter().for_each(|(start, bytes)| pieces.add(start, bytes)),
                // The engine is closed, or there is no memory: the remote has the bytes, too.
                Err(_) => uses_drive = false,
            }
            fetched?.into_iter().for_each(|fetched| pieces.add(fetched.range.start, fetched.bytes()));
        }
        Ok(has_asked)
    }

    /// What fetches bring. One of another call that failed is left to the next round, once.
    async fn take_all(
        &self,
        fetched: impl stream::Stream<Item = (Result<Fetched, Failure>, bool)>,
        round: u32,
        has_asked: &mut bool,
    ) -> Result<Vec<Fetched>, Failure> {
        let mut fetched = std::pin::pin!(fetched);
        let mut all = Vec::new();
        while let Some((result, is_own)) = fetched.next().await {
            match result {
                Ok(fetched) => {
                    *has_asked |= is_own;
                    all.push(fetched);
                }
                Err(failure) if !is_own && round == 0 && failure.kind == Kind::Other => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(all)
    }

    fn plan(self: &Arc<Self>, call: &Call, runs: Vec<Range<u64>>, uses_drive: bool) -> Plan {
        let mut plan = Plan::default();
        let missing = if uses_drive { self.look(call, &runs, &mut plan.hits) } else { runs };
        if missing.is_empty() {
            return plan;
        }
        let (mut own, mut wanted) = (Vec::new(), 0);
        let identity = &call.known.identity;
        let mut flying = self.flights.lock();
        for run in missing {
            let mut at = run.start;
            while at < run.end {
                match flying.find(identity, at, run.end) {
                    Found::Joined(joined, end) => {
                        add(&self.counters.coalesced, end - at);
                        plan.coming.push(arrived(joined, false).boxed());
                        at = end;
                    }
                    Found::Nothing(end) => {
                        // A fill can have ended just now.
                        let runs: Vec<_> = std::iter::once(at..end).collect();
                        own.extend(if uses_drive { self.look(call, &runs, &mut plan.hits) } else { runs });
                        at = end;
                    }
                }
            }
        }
        let fetch_cells = self.fetcher.fetch_max / self.geometry.cell;
        let mut fetches: Vec<Range<u64>> = Vec::new();
        for run in own {
            wanted += run.end - run.start;
            for start in run.clone().step_by(fetch_cells as usize) {
                let cells = start..run.end.min(start + fetch_cells);
                let merges = fetches.last().is_some_and(|last| {
                    let gap = last.end..cells.start;
                    (gap.end - gap.start) * self.geometry.cell <= GAP_BYTES
                        && cells.end - last.start <= fetch_cells
                        && (gap.is_empty() || flying.is_free(identity, &gap))
                });
                match fetches.last_mut().filter(|_| merges) {
                    Some(last) => last.end = cells.end,
                    None => fetches.push(cells),
                }
            }
        }
        for cells in fetches {
            let boarded = flying.board(&self.flights, identity, &cells);
            let number = boarded.number();
            let (inner, call) = (Arc::clone(self), call.clone());
            let (of, run) = (Arc::clone(identity), cells.clone());
            let fetching = async move {
                let asked = Asked::Bounded(inner.geometry.bytes(&run, call.known.identity.size));
                let place = &call.ticket.place;
                let arrived = inner.fetcher.fetch(&*call.remote, place, asked, Some(Arc::clone(&call.known))).await?;
                inner.catalog.confirm(&call.ticket, &arrived.known);
                inner.fill(call.ticket.clone(), arrived.clone(), run, Some(boarded));
                Ok(arrived)
            };
            let fetching = fetching.boxed().shared();
            flying.depart((number, &of), &cells, &fetching);
            plan.coming.push(arrived(Joined::Fetching(fetching), true).boxed());
        }
        drop(flying);
        add(&self.counters.misses, wanted);
        plan.hits.sort_unstable_by_key(|hit| hit.cells.start);
        plan
    }

    /// Finds cells in the slab. Returns the runs of those that are not there.
    fn look(&self, of: &Call, runs: &[Range<u64>], hits: &mut Vec<Hit>) -> Vec<Range<u64>> {
        let mut missing: Vec<Range<u64>> = Vec::new();
        for part in runs.iter().flat_map(|run| self.geometry.parts(run.clone())) {
            let base = part.extent * self.geometry.per_extent();
            let extent = self.extent(&of.known.identity, part.extent);
            let sums = extent.as_ref().map_or_else(Vec::new, |extent| extent.sums(part.cells.clone()));
            for (cell, sum) in part.cells.zip(sums.into_iter().chain(std::iter::repeat(None))) {
                let cell = base + cell;
                match (&extent, sum) {
                    (Some(extent), Some(sum)) => match hits.last_mut() {
                        Some(hit) if hit.cells.end == cell && Arc::ptr_eq(&hit.extent, extent) => {
                            hit.cells.end += 1;
                            hit.sums.push(sum);
                        }
                        _ => hits.push(Hit { extent: Arc::clone(extent), cells: cell..cell + 1, sums: vec![sum] }),
                    },
                    _ => match missing.last_mut() {
                        Some(run) if run.end == cell => run.end += 1,
                        _ => missing.push(cell..cell + 1),
                    },
                }
            }
        }
        missing
    }
}

/// The bytes of a fetch: there already, or when they come.
async fn arrived(joined: Joined, is_own: bool) -> (Result<Fetched, Failure>, bool) {
    match joined {
        Joined::Fetching(fetching) => (fetching.await, is_own),
        Joined::Filling(fetched) => (Ok(fetched), is_own),
    }
}
