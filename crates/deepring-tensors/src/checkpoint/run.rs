//! [`Run`]: tensors of a file that are copied, one behind the other, into blocks of memory.

use super::block::Filling;
use super::data::Data;
use deepring::{Buffer, IoBuf, Replacement};
use std::sync::Arc;

/// Tensors of a file that are copied into blocks, which are written as they are full.
pub(super) struct Run<'d> {
    data: &'d Data,
    file: usize,
    replacement: Arc<Replacement>,
    filling: Filling,
}

impl<'d> Run<'d> {
    pub(super) fn new(data: &'d Data, file: usize, replacement: Arc<Replacement>, spare: Vec<Buffer>) -> Self {
        Self { data, file, replacement, filling: Filling { block: None, spare } }
    }

    pub(super) fn copy<B: IoBuf>(&mut self, tensor: usize, position: u64, data: &B) {
        let Self { data: owner, file, replacement, filling } = self;
        filling.copy(tensor, position, data, |block| owner.lock().write_block(*file, replacement, block));
    }

    pub(super) fn end(self) {
        let mut state = self.data.lock();
        if let Some(block) = self.filling.block {
            state.write_block(self.file, &self.replacement, block);
        }
        drop(state);
        for block in self.filling.spare {
            self.data.staging.give(block);
        }
    }
}
