//! The predecessor's loop over the kernel's old asynchronous I/O, rewritten from its description.
//!
//! One operation (bytes of memory, a file, a position) is cut into blocks. **Windowed**, its
//! constructor's default: submit as many blocks as the queue holds, wait for all of them, repeat.
//! The queue fills and drains completely each time. **Overlapped**: submit as many as there is room
//! for, wait for at least one, refill the places of those that ended. Both submit in one call, or
//! block by block.
//!
//! Kinder than the original: results are read (a failed block is an error, not speed), and a
//! partial submission is continued.

use std::os::fd::RawFd;

use crate::aio::{Block, Context, Direction, Event};

/// How a worker drives its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) block_bytes: usize,
    pub(crate) queue_depth: usize,
    pub(crate) overlapped: bool,
    pub(crate) single_submit: bool,
}

/// The part of one operation that one worker moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) direction: Direction,
    pub(crate) file: RawFd,
    pub(crate) address: usize,
    pub(crate) bytes: usize,
    pub(crate) position: u64,
}

/// A context with the tables of blocks and events it reuses.
pub(crate) struct Queue {
    context: Context,
    shape: Shape,
    blocks: Vec<Block>,
    pointers: Vec<*mut Block>,
    events: Vec<Event>,
}

// SAFETY: `pointers` is scratch memory of one `submit` call and points into `blocks`, which moves
// along; nothing else shares the queue.
unsafe impl Send for Queue {}

impl Queue {
    pub(crate) fn new(shape: Shape) -> Result<Self, String> {
        Ok(Self {
            context: Context::new(shape.queue_depth)?,
            shape,
            blocks: vec![Block::idle(); shape.queue_depth],
            pointers: Vec::with_capacity(shape.queue_depth),
            events: vec![Event::default(); shape.queue_depth],
        })
    }

    /// Moves a slice.
    ///
    /// # Safety
    /// The slice's memory must stay mapped and unused by others until this returns.
    pub(crate) unsafe fn run(&mut self, slice: Slice) -> Result<(), String> {
        let mut moved = 0;
        let mut pending = 0;
        loop {
            let room = self.shape.queue_depth - pending;
            let mut staged = 0;
            while staged < room && moved < slice.bytes {
                let bytes = self.shape.block_bytes.min(slice.bytes - moved);
                // SAFETY: the block lies inside the slice, which the caller's promise covers.
                self.blocks[staged] =
                    unsafe { Block::transfer(slice.direction, slice.file, slice.address + moved, bytes, slice.position + moved as u64) };
                moved += bytes;
                staged += 1;
            }
            self.submit(staged)?;
            pending += staged;
            if pending == 0 {
                return Ok(());
            }
            let least = if self.shape.overlapped { 1 } else { pending };
            pending -= self.context.reap(least, &mut self.events[..pending])?;
        }
    }

    fn submit(&mut self, staged: usize) -> Result<(), String> {
        let blocks = &mut self.blocks[..staged];
        if self.shape.single_submit {
            return blocks.chunks_mut(1).try_for_each(|block| self.context.submit(block, &mut self.pointers));
        }
        self.context.submit(blocks, &mut self.pointers)
    }
}
