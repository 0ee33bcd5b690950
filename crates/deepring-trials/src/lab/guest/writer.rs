//! Commits generations, one stream per thread, until the power is cut.

use super::super::content::{Content, SLOT_BYTES};
use super::super::ledger::FILES_KEPT;
use super::super::protocol::{LeftOut, Report, Stream, Writing};
use super::objects::Objects;
use super::port::Port;
use super::saver::Saver;
use super::verifier::{folder, slots};
use crate::harness::Rng;
use deepring::{Direct, Engine, File, OpenOptions, Piece};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A generation is written in up to this many requests at the same time.
const REQUESTS_MAX: u64 = 12;

const READ_WRITE: OpenOptions = OpenOptions::new().read(true).write(true);

struct Writer {
    engine: Engine,
    port: Arc<Port>,
    stream: Stream,
    content: Content,
    left_out: LeftOut,
    rng: Rng,
}

/// Starts the streams.
pub(super) fn write(port: &Arc<Port>, writing: &Writing) -> Result<(), String> {
    let engine = Engine::builder().backend(writing.backend).build().map_err(|error| error.to_string())?;
    if engine.info().backend != writing.backend {
        return Err(format!("{:?} was requested, {:?} runs: {:?}", writing.backend, engine.info().backend, engine.info().reason));
    }
    port.send(&Report::Writing);
    for (&stream, &first) in &writing.first {
        if Stream::VERSIONS.contains(&stream) {
            Saver::start(&engine, port, writing, stream, first)?;
            continue;
        }
        let mut writer = Writer {
            engine: engine.clone(),
            port: Arc::clone(port),
            stream,
            content: Content::new(writing.seed, stream),
            left_out: writing.left_out,
            rng: Rng::seeded(writing.seed ^ first),
        };
        std::thread::spawn(move || {
            let Err(error) = writer.commit_from(first);
            writer.port.send(&Report::Broken(format!("{stream}: {error}")));
        });
    }
    Ok(())
}

pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Writer {
    fn commit_from(&mut self, first: u64) -> Result<std::convert::Infallible, Failure> {
        self.prepare()?;
        let is_object = Stream::PUTS.contains(&self.stream);
        let objects = is_object.then(|| Objects::open(&self.engine, &folder(self.stream), self.left_out)).transpose()?;
        let mut generation = first;
        loop {
            if let Some(objects) = &objects {
                let (name, content) = (self.name(generation), self.content.make(generation));
                objects.put(&name, content, self.stream == Stream::Create, &mut self.rng)?;
            } else if self.stream.is_in_place() {
                self.overwrite(generation)?;
            } else {
                self.publish(generation)?;
            }
            self.port.send(&Report::Acknowledged(self.stream, generation));
            if self.stream.is_kept() {
                self.remove_old()?;
            }
            generation += 1;
        }
    }

    /// Makes the directory or the preallocated file, durable before the first generation, and
    /// removes what the last cut interrupted.
    fn prepare(&self) -> Result<(), Failure> {
        if self.stream == Stream::Raw {
            return Ok(());
        }
        let folder = folder(self.stream);
        fs::create_dir_all(&folder)?;
        if self.stream == Stream::Slot {
            let (path, start) = slots(self.stream);
            let bytes = start + 2 * SLOT_BYTES;
            // It is longer if the last cut came between a write at its end and the trim to its
            // length.
            if fs::metadata(&path).map_or(0, |metadata| metadata.len()) < bytes {
                let options = READ_WRITE.create(true).sync_directory(true);
                let file = self.engine.open(&path, options)?;
                file.write_at(vec![0u8; bytes as usize], 0).wait().result?;
                file.sync_all().wait()?;
            }
        } else {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|end| end == "part") {
                    fs::remove_file(path)?;
                }
            }
        }
        sync_directory(&folder)?;
        sync_directory(Path::new(super::DATA))
    }

    /// The name of the file of a generation.
    fn name(&self, generation: u64) -> String {
        format!("generation-{}", if self.stream.is_kept() { generation } else { 0 })
    }

    /// Write aside, sync, rename, sync the directory.
    fn publish(&mut self, generation: u64) -> Result<(), Failure> {
        let folder = folder(self.stream);
        let (aside, path) = (folder.join(format!("{generation}.part")), folder.join(self.name(generation)));
        let content = self.content.make(generation);
        let file = if self.rng.once_in(3) {
            // Written by path, and so through the engine's own descriptor; synced through another.
            self.engine.write_file(&aside, content).wait().result?;
            self.engine.open(&aside, READ_WRITE)?
        } else {
            // One in four through the page cache, which must be written back as well.
            let direct = if self.rng.once_in(4) { Direct::Never } else { Direct::Prefer };
            let file = self.engine.open(&aside, READ_WRITE.create(true).direct(direct))?;
            self.scatter(&file, &content, 0)?;
            file
        };
        if self.left_out != LeftOut::Sync {
            file.sync_all().wait()?;
        }
        file.close().wait()?;
        fs::rename(aside, path)?;
        if matches!(self.left_out, LeftOut::Nothing | LeftOut::Order) { sync_directory(&folder) } else { Ok(()) }
    }

    /// Overwrite the slot whose turn it is, sync the data.
    fn overwrite(&mut self, generation: u64) -> Result<(), Failure> {
        let (path, start) = slots(self.stream);
        let file = self.engine.open(path, READ_WRITE)?;
        self.scatter(&file, &self.content.make(generation), start + generation % 2 * SLOT_BYTES)?;
        if self.left_out != LeftOut::Sync {
            file.sync_data().wait()?;
        }
        file.close().wait()?;
        Ok(())
    }

    /// Writes the content in many ranges of one request, or in several requests at once, cut anywhere, from both kinds of
    /// memory.
    fn scatter(&mut self, file: &File, content: &[u8], at: u64) -> Result<(), Failure> {
        let len = content.len() as u64;
        let mut cuts: Vec<_> = (0..self.rng.below(REQUESTS_MAX)).map(|_| self.rng.below(len + 1)).collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        let mut ranges: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        self.rng.shuffle(&mut ranges);
        if self.rng.once_in(3) {
            let piece = |&(from, to): &(u64, u64)| Piece::new(at + from, from as usize, (to - from) as usize);
            let pieces: Vec<_> = ranges.iter().map(piece).collect();
            file.write_gather(content.to_vec(), &pieces).wait().result?;
            return Ok(());
        }
        let (mut from_vectors, mut from_buffers) = (Vec::new(), Vec::new());
        for (from, to) in ranges {
            let part = &content[from as usize..to as usize];
            if self.rng.once_in(2) {
                from_vectors.push(file.write_at(part.to_vec(), at + from));
            } else {
                let mut buffer = self.engine.pooled_buffer(part.len())?;
                buffer.copy_from_slice(part);
                from_buffers.push(file.write_at(buffer, at + from));
            }
        }
        for op in from_vectors {
            op.wait().result?;
        }
        for op in from_buffers {
            op.wait().result?;
        }
        Ok(())
    }

    fn remove_old(&self) -> Result<(), Failure> {
        let mut generations = Vec::new();
        let folder = folder(self.stream);
        for entry in fs::read_dir(&folder)? {
            let name = entry?.file_name();
            generations.extend(name.to_str().and_then(|name| name.strip_prefix("generation-")?.parse::<u64>().ok()));
        }
        generations.sort_unstable();
        let old = generations.len().saturating_sub(FILES_KEPT);
        for generation in &generations[..old] {
            fs::remove_file(folder.join(format!("generation-{generation}")))?;
        }
        Ok(())
    }
}

pub(super) fn sync_directory(folder: &Path) -> Result<(), Failure> {
    Ok(fs::File::open(folder)?.sync_all()?)
}
