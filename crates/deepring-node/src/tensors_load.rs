//! Loads: into memory of the engine, which JavaScript takes over group by group, and into memory of JavaScript.

use crate::convert::Detail;
use crate::memory::Foreign;
use crate::session::Session;
use crate::tensors_detail::Fresh;
use crate::tensors_job::{Gauge, Together, both, failed};
use deepring::IoBuf;
use deepring_tensors::binding::{self, Destination};
use deepring_tensors::{LoadOptions, LoadReceipt, Selection, Slice, StreamOptions, Table};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Slices by the indices of their tensors. In the numbers, each is: the index, the number of dimensions, and of each where it
/// begins and ends, or -1 twice for all of it.
pub fn slices(numbers: &[f64]) -> Vec<(usize, Slice)> {
    let (mut found, mut rest) = (Vec::new(), numbers);
    while let [index, dimensions, after @ ..] = rest {
        let (ranges, next) = after.split_at((*dimensions as usize * 2).min(after.len()));
        found.push((*index as usize, slice_of(ranges)));
        rest = next;
    }
    found
}

/// One slice. In the numbers are, of each dimension, where it begins and ends, or -1 twice for all of it.
pub fn slice_of(ranges: &[f64]) -> Slice {
    let range = |pair: &[f64]| (pair[0] >= 0.0).then(|| pair[0] as u64..pair[1] as u64);
    Slice::new(ranges.chunks_exact(2).map(range))
}

/// The tensors of a call: those at the indices, or all.
pub fn selection(table: &Table, indices: Option<Vec<u32>>) -> Selection {
    match indices {
        None => table.all(),
        Some(indices) => table.selection(indices.into_iter().map(|index| index as usize).collect()),
    }
}

/// Options of a stream with these slices.
pub fn sliced_stream(table: &Table, slices: &[(usize, Slice)], options: StreamOptions) -> StreamOptions {
    slices.iter().fold(options, |options, (index, slice)| options.slice(binding::name_of(table, *index), slice.clone()))
}

#[napi]
impl Session {
    // ---- loads ----

    /// Loads tensors; those at the indices `into` go to the memory in `views`, in their order. The record's detail is a
    /// `LoadedTensors` of the others.
    #[napi]
    pub fn load_tensors(
        &self,
        env: &Env,
        id: f64,
        table: u32,
        indices: Option<Uint32ArraySlice<'_>>,
        slice_numbers: Float64ArraySlice<'_>,
        group_bytes: f64,
        verify: Option<bool>,
        into: Uint32ArraySlice<'_>,
        views: Object<'_>,
    ) -> Result<()> {
        let tensors = self.state.open_tensors(table)?;
        let (indices, into, slices) = (indices.map(|indices| indices.to_vec()), into.to_vec(), slices(&slice_numbers));
        self.state.tensors.memories.borrow_mut().tell(env)?;
        let landing = self.landing(env, id)?;
        // On an error here the landing is dropped, and its record comes; the facade does not expect one then.
        let destinations: Vec<_> = into.iter().copied().zip(Foreign::all(&views, into.len(), &landing)?).collect();
        let gauge = Arc::<Gauge>::default();
        let reported = Arc::clone(&gauge);
        let engine = tensors.engine().clone();
        self.start(&engine, landing, gauge, async move {
            let table = tensors.table();
            let elsewhere: HashSet<u32> = into.iter().copied().collect();
            let mut slice_of: HashMap<usize, Slice> = slices.into_iter().collect();
            let all = selection(table, indices);
            let rest = if elsewhere.is_empty() {
                all
            } else {
                table.selection(all.indices().filter(|&index| !elsewhere.contains(&(index as u32))).collect())
            };
            let lent: u64 = destinations.iter().map(|(_, memory)| IoBuf::len(memory) as u64).sum();
            let filled = Arc::new(AtomicU64::new(0));
            let destinations =
                destinations.into_iter().map(|(index, memory)| Destination { index, slice: slice_of.remove(&(index as usize)), memory });
            let jobs = binding::load_into(&tensors, destinations.collect(), group_bytes as u64, verify).map_err(failed)?;
            let jobs = Together::new(jobs);
            let (seen, progress) = (Arc::clone(&filled), Arc::clone(&reported));
            let options = verify.into_iter().fold(LoadOptions::new().group_bytes(group_bytes as u64), LoadOptions::verify);
            let options = options.on_progress(move |done, total| progress.set(done + seen.load(Ordering::Relaxed), total + lent));
            let options =
                slice_of.into_iter().fold(options, |options, (index, slice)| options.slice(binding::name_of(table, index), slice));
            let mut receipt: Option<LoadReceipt> = None;
            let filling = jobs.run(|result| {
                let (memory, part) = result?;
                filled.fetch_add(memory.iter().map(|memory| IoBuf::len(memory) as u64).sum(), Ordering::Relaxed);
                match &mut receipt {
                    None => receipt = Some(part),
                    Some(receipt) => binding::add_receipt(receipt, &part),
                }
                Ok::<(), deepring_tensors::Error>(())
            });
            let loading = binding::load(&tensors, rest, options);
            let ((), mut loaded) = both(filling, loading).await.map_err(failed)?;
            if let Some(part) = receipt {
                binding::add_receipt(&mut loaded.receipt, &part);
            }
            Ok(Some(Detail::Fresh(Box::new(Fresh::Loaded(loaded)))))
        });
        Ok(())
    }
}
