//! Streams: groups one after the other, within a budget. The budget's share of a group goes back with its memory.

use crate::convert::Detail;
use crate::delivery::lock;
use crate::memory::{Foreign, View};
use crate::session::{Session, unknown};
use crate::tensors_detail::Fresh;
use crate::tensors_job::failed;
use crate::tensors_load::{selection, sliced_stream, slices};
use deepring_tensors::binding::{Budget, Groups};
use deepring_tensors::{Slice, StreamOptions, Tensors};
use napi::Env;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::mem;
use std::sync::{Arc, Mutex};

/// A stream of an environment.
#[derive(Clone)]
pub struct Stream {
    tensors: Tensors,
    state: Arc<Mutex<Streaming>>,
}

enum Streaming {
    /// Nothing was read.
    Asked(Ask),
    Open(Groups, Budget),
    /// A job has the groups.
    Reading(Option<Budget>),
}

struct Ask {
    indices: Option<Vec<u32>>,
    slices: Vec<(usize, Slice)>,
    options: StreamOptions,
}

impl Stream {
    fn take(&self) -> Streaming {
        let mut state = lock(&self.state);
        let budget = if let Streaming::Open(_, budget) = &*state { Some(budget.clone()) } else { None };
        mem::replace(&mut *state, Streaming::Reading(budget))
    }

    fn budget(&self) -> Option<Budget> {
        match &*lock(&self.state) {
            Streaming::Open(_, budget) => Some(budget.clone()),
            Streaming::Reading(budget) => budget.clone(),
            Streaming::Asked(_) => None,
        }
    }

    /// Plans at the first call, which can take long for many tensors.
    async fn next(&self) -> deepring_tensors::Result<Option<Detail>> {
        let (mut groups, budget) = match self.take() {
            Streaming::Asked(Ask { indices, slices, options }) => {
                let table = self.tensors.table();
                let options = sliced_stream(table, &slices, options);
                let groups = Groups::new(&self.tensors, &selection(table, indices), &options)?;
                let budget = groups.budget();
                (groups, budget)
            }
            Streaming::Open(groups, budget) => (groups, budget),
            // The facade asks for one group at a time, and for none after an error.
            Streaming::Reading(_) => return Ok(None),
        };
        let next = groups.next().await?;
        *lock(&self.state) = Streaming::Open(groups, budget);
        Ok(next.map(|group| Detail::Fresh(Box::new(Fresh::Group(group)))))
    }
}

#[napi]
impl Session {
    // ---- streams ----

    #[napi]
    pub fn open_stream(
        &self,
        table: u32,
        indices: Option<Uint32ArraySlice<'_>>,
        slice_numbers: Float64ArraySlice<'_>,
        memory: f64,
        in_order: bool,
        verify: Option<bool>,
    ) -> Result<u32> {
        let tensors = self.state.open_tensors(table)?;
        let options = StreamOptions::new().memory(memory as u64).in_order(in_order);
        let options = verify.into_iter().fold(options, StreamOptions::verify);
        let ask = Ask { indices: indices.map(|indices| indices.to_vec()), slices: slices(&slice_numbers), options };
        let stream = Stream { tensors, state: Arc::new(Mutex::new(Streaming::Asked(ask))) };
        let number = self.state.number();
        self.state.tensors.streams.borrow_mut().insert(number, stream);
        Ok(number)
    }

    /// Reads the next group. The record's detail is a `StreamGroup`; there is none at the end.
    #[napi]
    pub fn next_group(&self, env: &Env, id: f64, stream: u32) -> Result<()> {
        let stream = self.stream(stream)?;
        let landing = self.landing(env, id)?;
        self.start_plain(&stream.tensors.engine().clone(), landing, async move { stream.next().await.map_err(failed) });
        Ok(())
    }

    /// Copies the bytes of a tensor of a stream into memory of its own, which takes its share of the budget. The record's
    /// detail is the number of the memory.
    #[napi]
    pub fn keep_tensor(&self, env: &Env, id: f64, stream: u32, view: View, name: String) -> Result<()> {
        let stream = self.stream(stream)?;
        let landing = self.landing(env, id)?;
        let bytes = Foreign::of(&view, &landing);
        let engine = stream.tensors.engine().clone();
        self.start_plain(&engine.clone(), landing, async move {
            let kept = || -> deepring_tensors::Result<_> {
                // A group was yielded, so there is a budget.
                let permit = stream.budget().map(|budget| budget.take(view.len, &name)).transpose()?;
                let mut own = engine.pooled_buffer(view.len as usize)?;
                // SAFETY: the group's memory, which the lease in `bytes` holds. The program that writes to a tensor while it is
                // being kept gets either bytes, like one that writes to memory of a transfer.
                unsafe { bytes.copy_to(&mut own) };
                Ok(permit.map(|permit| Detail::Fresh(Box::new(Fresh::Memory(own, permit)))))
            };
            kept().map_err(failed)
        });
        Ok(())
    }

    /// Cancels what is being read ahead.
    #[napi]
    pub fn close_stream(&self, stream: u32) {
        let removed = self.state.tensors.streams.borrow_mut().remove(&stream);
        drop(removed);
    }

    fn stream(&self, number: u32) -> Result<Stream> {
        self.state.tensors.streams.borrow().get(&number).cloned().ok_or_else(|| unknown("stream", number))
    }
}
