//! Many tensors that are known together: a file with an exact layout, or as many as they need.

use super::block::Bytes;
use super::capture::{Capture, Copied, blocks_of};
use super::data::{Data, Whole};
use super::files::{Class, DataFile, Extent, FILE_BYTES_MAX, metadata};
use super::part::CHUNK_BYTES;
use super::staging::STAGED_BYTES;
use crate::error::Result;
use crate::layout::{BLOCK_BYTES, Declared, Layout, Order, Rules, check_names};
use crate::save::{Source, Sums, begin_writes, chunks, split};
use crate::shards::shards_of;
use deepring::{Buffer, IoBuf};
use std::ops::Range;
use std::sync::Arc;

impl Data {
    /// Writes many tensors into one file, or as many as they need.
    pub(super) async fn put_all<B: IoBuf>(self: &Arc<Self>, tensors: Vec<Source<B>>, group: &str) -> Result<Vec<B>> {
        let (declared, data) = split(tensors)?;
        self.check()?;
        let files = shards_of(&declared, FILE_BYTES_MAX)?;
        let origin = self.origin;
        let plan = self.engine.run_blocking(move || {
            check_names(&declared)?;
            let metadata = metadata(origin, None);
            let rules = Rules { metadata: &metadata, align: BLOCK_BYTES, order: Order::Blocks, checksums: false };
            let plan = files.into_iter().map(|tensors| {
                let layout = Layout::new(&declared[tensors.clone()], rules)?;
                Ok((tensors, layout))
            });
            plan.collect::<Result<Vec<_>>>().map(|plan| (declared, plan))
        });
        let (declared, plan) = plan.await??;
        if declared.is_empty() {
            return Ok(data);
        }
        self.claim(&declared.iter().map(|tensor| (tensor.name.as_str(), false)).collect::<Vec<_>>())?;
        let whole = Whole::new(self, &declared[0].name);
        let put = self.put_files(&declared, data, plan, group).await;
        whole.end(put)
    }

    async fn put_files<B: IoBuf>(
        self: &Arc<Self>,
        declared: &[Declared],
        data: Vec<B>,
        plan: Vec<(Range<usize>, Layout)>,
        group: &str,
    ) -> Result<Vec<B>> {
        let mut data: Vec<Option<B>> = data.into_iter().map(Some).collect();
        for (tensors, layout) in plan {
            self.put_file(&declared[tensors.clone()], &mut data[tensors], layout, group).await?;
        }
        self.commit_early().await?;
        Ok(data.into_iter().flatten().collect())
    }

    /// Writes a file that has just these tensors.
    async fn put_file<B: IoBuf>(
        self: &Arc<Self>,
        declared: &[Declared],
        data: &mut [Option<B>],
        layout: Layout,
        group: &str,
    ) -> Result<()> {
        let number = self.begin_file(declared, &layout, group);
        let (staged, blocks) = self.staged_tensors(&layout);
        let all = layout.order.len();
        let copied = layout.order[..staged].iter().enumerate().filter_map(|(tensor, &index)| {
            let position = layout.positions[index as usize];
            data[index as usize].take().map(|data| Copied { tensor, position, data })
        });
        let capture = Capture::begin(self, number, copied.collect(), blocks);
        // The rest is at the drive while these are copied.
        let mut writes = Vec::new();
        if staged < all {
            writes = begin_writes(self.made(number).await?.file(), &layout, staged..all, data, Sums::Chunks(CHUNK_BYTES));
        }
        for (&index, buf) in layout.order.iter().zip(capture.end().await?) {
            data[index as usize] = Some(buf);
        }
        for write in writes {
            let written = write.end().await?;
            let parts = written.which.clone().flat_map(|tensor| {
                let len = layout.lens[layout.order[tensor] as usize];
                // A tensor without bytes has a checksum here.
                chunks(len.max(1), CHUNK_BYTES).map(move |(at, chunk)| Bytes { tensor, at, len: chunk.min(len) })
            });
            let parts: Vec<Bytes> = parts.collect();
            // The file's own count ends below.
            self.lock().files[number].writes += 1;
            self.written(number, &parts, &written.sums);
            for (&index, buf) in layout.order[written.which].iter().zip(written.data) {
                data[index as usize] = Some(buf);
            }
        }
        self.lock().files[number].writes -= 1;
        if staged < all { self.settle_file(number).await } else { Ok(()) }
    }

    /// Begins a file that has just these tensors.
    fn begin_file(&self, declared: &[Declared], layout: &Layout, group: &str) -> usize {
        let mut state = self.lock();
        let name = state.next_name(self.origin.writer, group);
        let mut file = DataFile::new(name, group.to_owned(), Class::Rest, layout.start());
        for &index in &layout.order {
            let (tensor, len) = (&declared[index as usize], layout.lens[index as usize]);
            file.declared.push(tensor.clone());
            file.extents.push(Extent { begin: layout.positions[index as usize], len, within: None, sums: Vec::new() });
        }
        // One write is that of the caller, which ends last.
        (file.size, file.end, file.is_full, file.writes) = (layout.size, layout.size, true, 1);
        file.header = Some(layout.header.clone());
        state.files.push(file);
        state.files.len() - 1
    }

    /// How many tensors of a layout are copied first, and blocks for them.
    fn staged_tensors(&self, layout: &Layout) -> (usize, Vec<Buffer>) {
        if !self.staging.is_asked() {
            return (0, Vec::new());
        }
        let room = (self.staging.free() * STAGED_BYTES) as u64;
        let end = |&index: &u32| layout.positions[index as usize] + layout.lens[index as usize] - layout.start();
        let count = layout.order.iter().take_while(|index| end(index) <= room).count();
        let bytes = layout.order[..count].last().map_or(0, end);
        // Another call can have taken them meanwhile.
        self.staging.take(blocks_of(layout.start(), bytes)).map_or((0, Vec::new()), |blocks| (count, blocks))
    }
}
