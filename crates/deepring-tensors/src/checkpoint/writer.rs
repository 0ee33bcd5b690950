//! [`CheckpointWriter`]: a generation in progress, or one writer's part of it.

use super::agree::{self, Listed};
use super::collect;
use super::commit::{Commit, Step};
use super::data::Data;
use super::files::Within;
use super::manifest::{self, Manifest, ManifestPart};
use super::names::{Entry, GENERATIONS_MAX, INDEX, MANIFEST, Member, Origin, WRITERS_MAX, is_group};
use super::options::{BeginOptions, JoinOptions, PutOptions, Reference};
use super::part::{PART_BYTES_MAX, Part};
use super::planted::PlantedBug;
use super::reuse::{Older, Reused};
use super::scan;
use super::staging::Staging;
use super::temporary::{Begun, Missing, Place, Small, Temporary, Unnamed, begin, join, missing};
use super::token::Token;
use crate::error::{Error, Fault, Reason, Result, quoted};
use crate::job::Job;
use crate::open::{OpenOptions, Safetensors};
use crate::progress::{OnProgress, Progress};
use crate::save::Source;
use crate::shards::index_text;
use deepring::{Buffer, File, IoBuf, Task};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Between two looks for the parts of other writers: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A look comes after this share of the time that was waited before.
const PAUSE_SHARE: u32 = 16;

/// What a commit has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// Bytes of the data files of this writer, with those that were taken over.
    pub bytes: u64,
    /// How many data files this writer has.
    pub files: u32,
    /// What this writer has taken over.
    pub reused: Reused,
}

/// A generation in progress. Nothing is visible before the [commit](CheckpointWriter::commit) of the first writer; if that is
/// dropped, all that was written is removed.
///
/// The calls can come from any number of threads. If one fails at the drive, or its job is dropped before it has ended, the
/// checkpoint has failed, and so do the calls that follow.
///
/// ```
/// use deepring_tensors::checkpoint::{BeginOptions, Checkpoints, PutOptions, StoreOptions};
/// use deepring_tensors::{DType, Declared, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// let engine = deepring::Engine::builder().build()?;
/// let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// let writer = store.begin(BeginOptions::new().step(7)).wait()?;
/// let declared = |name: &str| Declared { name: name.into(), dtype: DType::U8, shape: vec![4] };
/// writer.put(Source { declared: declared("a"), data: vec![1, 2, 3, 4] }, PutOptions::new()).wait()?;
/// writer.put_all(vec![Source { declared: declared("b"), data: vec![5, 6, 7, 8] }], "frozen").wait()?;
/// writer.set_meta(r#"{"loss":0.5}"#)?;
/// assert_eq!(writer.commit().wait()?.number, 1);
///
/// let reference = deepring_tensors::checkpoint::Reference::Latest;
/// let writer = store.begin(BeginOptions::new().step(8).reference(reference)).wait()?;
/// writer.put(Source { declared: declared("a"), data: vec![2, 3, 4, 5] }, PutOptions::new()).wait()?;
/// let reused = writer.reference_group("frozen").wait()?;
/// assert!(reused.linked + reused.cloned + reused.copied > 4);
/// assert_eq!(writer.commit().wait()?.number, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct CheckpointWriter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Arc<Place>,
    token: Token,
    writer: u32,
    step: Option<u64>,
    previous: Option<u64>,
    patience: Duration,
    meta: Mutex<String>,
    reused: Mutex<Reused>,
    older: Option<Arc<Older>>,
    data: Arc<Data>,
    commit: Commit,
    temporary: Arc<Temporary>,
}

impl CheckpointWriter {
    /// Begins a generation.
    pub(super) async fn begin(place: Arc<Place>, options: BeginOptions) -> Result<Self> {
        // Here, and not on a blocking thread: a planted bug is the calling thread's.
        let commit = Commit::new(true);
        if !(1..=WRITERS_MAX).contains(&options.writers) {
            return Err(Error::Argument(format!("there are {} writers, not 1 to {WRITERS_MAX}", options.writers)));
        }
        if options.step.is_some_and(|step| step >= GENERATIONS_MAX) {
            return Err(Error::Argument("the step is not below 2^53".into()));
        }
        let older = match options.reference {
            Some(reference) => Older::open(&place, reference).await?,
            None => None,
        };
        let (store, reference) = (place.directory.clone(), older.as_ref().map(|older| older.number()));
        let begun = place.engine.run_blocking(move || begin(&store, options.writers, reference)).await??;
        Self::new(place, begun, older, options.own, commit, &options)
    }

    /// Joins a generation in progress.
    pub(super) async fn join(place: Arc<Place>, token: Token, writer: u32, options: JoinOptions) -> Result<Self> {
        let commit = Commit::new(false);
        if writer == 0 || writer >= token.writers {
            return Err(Error::Argument(format!("writer {writer} is not one of those that join, 1 to {}", token.writers - 1)));
        }
        // Before it has joined: a failure leaves nothing that would be in the way of another try.
        let older = match token.reference {
            Some(number) => Older::open(&place, Reference::Generation(number)).await?,
            None => None,
        };
        let store = place.directory.clone();
        let begun = place.engine.run_blocking(move || join(&store, token, writer)).await??;
        Self::new(place, begun, older, options, commit, &BeginOptions::new())
    }

    fn new(
        place: Arc<Place>,
        begun: Begun,
        older: Option<Arc<Older>>,
        own: JoinOptions,
        commit: Commit,
        options: &BeginOptions,
    ) -> Result<Self> {
        let Begun { token, writer, directory, lock, previous } = begun;
        let temporary = Arc::new(Temporary {
            place: Arc::clone(&place),
            entry: Entry::Temporary(token.number, token.id),
            directory,
            lock: Mutex::new(Some(lock)),
            is_first: writer == 0,
            is_published: AtomicBool::new(false),
        });
        let staging = Staging::new(&place.engine, &place.idle, own.staging)?;
        let origin = Origin { id: token.id, writer };
        let durable = commit.flushes(PlantedBug::ForgetsDataSync);
        let data = Data::new(&temporary, origin, own.direct, durable, staging);
        let (step, patience) = (options.step, options.patience);
        let (meta, reused) = (Mutex::new("null".into()), Mutex::default());
        let inner = Inner { place, token, writer, step, previous, patience, meta, reused, older, data, commit, temporary };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The number that the generation will have.
    pub fn number(&self) -> u64 {
        self.inner.token.number
    }

    /// What others need to join.
    pub fn token(&self) -> Token {
        self.inner.token
    }

    /// Writes a tensor, or a piece of one. The job ends when its memory is the caller's again, which it returns: written, or
    /// copied while staging lasts, which small tensors always are.
    ///
    /// The job fails with [`Error::Argument`] if the name was put before, unless both are pieces, the data do not fit the
    /// shape, or a piece leaves its tensor; with [`Error::Io`].
    pub fn put<B: IoBuf>(&self, source: Source<B>, options: PutOptions) -> Job<Result<B>> {
        let inner = Arc::clone(&self.inner);
        Job::new(async move {
            check_group(&options.group)?;
            inner.data.put(source, options.within, &options.group).await
        })
    }

    /// Writes many tensors at once, into one file of the group with an exact layout. Faster than one call for each: all of
    /// them are at the drive at once. Returns their memory, in their order.
    ///
    /// The job fails as that of [`CheckpointWriter::put`].
    pub fn put_all<B: IoBuf>(&self, sources: Vec<Source<B>>, group: impl Into<String>) -> Job<Result<Vec<B>>> {
        let (inner, group) = (Arc::clone(&self.inner), group.into());
        Job::new(async move {
            check_group(&group)?;
            inner.data.put_all(sources, &group).await
        })
    }

    /// Puts a tensor whose bytes another file has too, from a position on: they are shared where the file system can.
    pub(crate) async fn put_from(&self, source: Source<Buffer>, from: &File, position: u64) -> Result<()> {
        let inner = &self.inner;
        inner.add(inner.data.put_from(source, &PutOptions::new().group, from, position).await?);
        Ok(())
    }

    /// Takes over a tensor of the [reference](super::BeginOptions::reference), with all of its pieces. That it did not change is the
    /// caller's word.
    ///
    /// The job fails with [`Error::NotFound`] if the reference does not have it, or there is none; with [`Error::Checksum`] if
    /// bytes that are copied are damaged; and as that of [`CheckpointWriter::put`].
    pub fn reference(&self, name: impl Into<String>) -> Job<Result<Reused>> {
        let (inner, name) = (Arc::clone(&self.inner), name.into());
        Job::new(async move {
            let older = inner.older.as_ref().ok_or_else(|| Error::NotFound { tensor: name.clone() })?;
            inner.data.check()?;
            let reused = older.take_tensor(&inner.data, &name).await?;
            inner.add(reused);
            Ok(reused)
        })
    }

    /// Takes over all tensors that the reference has in a group, of all its writers. Where the file system allows it, files
    /// get a second name, and nothing is read or written.
    ///
    /// The job fails with [`Error::NotFound`] with the name of the group, and as that of [`CheckpointWriter::reference`].
    pub fn reference_group(&self, group: impl Into<String>) -> Job<Result<Reused>> {
        let (inner, group) = (Arc::clone(&self.inner), group.into());
        Job::new(async move {
            let older = inner.older.as_ref().ok_or_else(|| Error::NotFound { tensor: group.clone() })?;
            inner.data.check()?;
            let reused = older.take_group(&inner.data, &inner.temporary.directory, &group).await?;
            inner.add(reused);
            Ok(reused)
        })
    }

    /// JSON that the program keeps with the generation, of at most 16 MiB; `null` by default. That of the first writer counts.
    ///
    /// # Errors
    /// [`Error::Argument`] if it is longer, or is not JSON.
    pub fn set_meta(&self, json: &str) -> Result<()> {
        *self.inner.meta.lock().unwrap_or_else(PoisonError::into_inner) = manifest::meta(json)?;
        Ok(())
    }

    /// Of the first writer: waits until all parts are there, and makes the generation visible, as a whole. Then it is durable.
    /// What is not to be kept any more is removed. Of a writer that has joined: makes its part durable.
    ///
    /// Dropping the job gives up, unless the generation is visible by then.
    ///
    /// The job fails with [`Error::Argument`] if other calls have not ended; with [`Error::Incomplete`] if writers have ended
    /// without their part; with [`Error::Conflict`] if the tensors of the writers do not agree, pieces leave a hole or
    /// overlap, or another process has made a generation of this number; with [`Error::Format`] if a part is not what it
    /// should be; with [`Error::Io`]. After a failure nothing is visible and nothing is left, unless only the last flush of
    /// the store has failed (`fsync`): then the generation is there, and a power cut can take it away.
    pub fn commit(self) -> Job<Result<Generation>> {
        Job::new(async move { self.prepare().await?.commit().await })
    }

    /// All steps of the commit before the moment.
    pub(crate) async fn prepare(self) -> Result<Prepared> {
        let Ok(inner) = Arc::try_unwrap(self.inner) else {
            return Err(Error::Argument("a call has not ended".into()));
        };
        match inner.prepare().await {
            Ok(committing) => Ok(Prepared { inner, committing }),
            Err(error) => Err(inner.abort_for(error).await),
        }
    }

    /// For a call, which must end before the commit.
    pub(crate) fn share(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }

    /// Reports the bytes of tensors that are written from now on, of this many.
    pub(crate) fn report(&self, on_progress: Option<OnProgress>, total: u64) {
        self.inner.data.report(Progress::new(on_progress, total));
    }

    /// Gives up. Of the first writer: removes all that was written, of all writers, and waits for that.
    ///
    /// The job fails with [`Error::Argument`] if other calls have not ended; with [`Error::Io`] if something cannot be removed.
    pub fn abort(self) -> Job<Result<()>> {
        Job::new(async move {
            match Arc::try_unwrap(self.inner) {
                Ok(inner) => inner.abort().await,
                Err(_) => Err(Error::Argument("a call has not ended".into())),
            }
        })
    }
}

/// A generation that is written and not visible yet. Dropping it removes it. Of a writer that has joined: its part is durable.
#[derive(Debug)]
pub(crate) struct Prepared {
    inner: Inner,
    committing: Committing,
}

impl Prepared {
    /// The rest of the commit.
    pub(crate) async fn commit(self) -> Result<Generation> {
        let Self { inner, mut committing } = self;
        match inner.publish(&mut committing).await {
            Ok(generation) => Ok(generation),
            Err(error) => Err(inner.abort_for(error).await),
        }
    }

    /// As [`CheckpointWriter::abort`].
    pub(crate) async fn abandon(self) -> Result<()> {
        self.inner.abort().await
    }
}

fn check_group(group: &str) -> Result<()> {
    if is_group(group) {
        return Ok(());
    }
    Err(Error::Argument(format!("{} is not a group: 1 to 64 of a-z, 0-9, _ and -", quoted(group))))
}

/// A commit in progress.
#[derive(Debug)]
struct Committing {
    part: Part,
    parts: Parts,
    /// The file of the part, once it is written; empty when it has its name.
    part_file: Option<Vec<Unnamed>>,
    /// The same of the index and the manifest, which get their names in this order.
    last_files: Option<Vec<Unnamed>>,
}

impl Committing {
    /// Removes what has no name.
    async fn abandon(&mut self) {
        for file in self.part_file.take().into_iter().chain(self.last_files.take()).flatten() {
            file.abandon().await;
        }
    }
}

/// Gives files their names, one after the other.
async fn name_all(files: &mut Option<Vec<Unnamed>>) -> Result<()> {
    // What is not reached is removed with the directory.
    for file in files.as_mut().map(std::mem::take).unwrap_or_default() {
        file.name().await?;
    }
    Ok(())
}

/// Begins to flush files.
fn flush_all(files: Option<&[Unnamed]>) -> impl Iterator<Item = Task<()>> {
    files.unwrap_or_default().iter().filter_map(Unnamed::flush)
}

/// Begins flushes, and waits for all of them.
async fn flushed(flushes: impl IntoIterator<Item = Task<()>>) -> Result<()> {
    let flushes: Vec<_> = flushes.into_iter().collect();
    let mut result = Ok(());
    for flush in flushes {
        result = result.and(flush.await);
    }
    Ok(result?)
}

/// What the first writer knows of all parts.
#[derive(Debug, Default)]
struct Parts {
    manifest: Vec<ManifestPart>,
    listed: Vec<Listed>,
    is_whole: bool,
}

impl Inner {
    fn add(&self, reused: Reused) {
        self.reused.lock().unwrap_or_else(PoisonError::into_inner).add(reused);
    }

    async fn prepare(&self) -> Result<Committing> {
        self.data.complete().await?;
        let mut committing = Committing { part: self.data.part(), parts: Parts::default(), part_file: None, last_files: None };
        self.take(self.commit.before_moment(), &mut committing).await?;
        Ok(committing)
    }

    async fn publish(&self, committing: &mut Committing) -> Result<Generation> {
        let Self { place, token, temporary, .. } = self;
        self.take(self.commit.rest(), committing).await?;
        self.data.end_report();
        if temporary.is_first {
            let (store, keep, flushes) = (place.directory.clone(), place.keep, self.commit.flushes(PlantedBug::ForgetsRetiredSync));
            // What is left goes the next time; the generation is there.
            let _ = place.engine.run_blocking(move || collect::collect(&store, keep, flushes)).await;
        }
        let reused = *self.reused.lock().unwrap_or_else(PoisonError::into_inner);
        let files = &committing.part.files;
        let bytes = files.iter().map(|file| file.bytes).sum();
        Ok(Generation { number: token.number, bytes, files: files.len() as u32, reused })
    }

    /// Takes some steps of the commit, one after the other.
    async fn take(&self, steps: &[Step], committing: &mut Committing) -> Result<()> {
        for &step in steps {
            if let Err(error) = self.step(step, committing).await {
                committing.abandon().await;
                return Err(error);
            }
        }
        Ok(())
    }

    async fn step(&self, step: Step, committing: &mut Committing) -> Result<()> {
        match step {
            Step::SyncData => {
                // What is known by now is written and flushed beside the data.
                let mut flushes = self.data.flush();
                if let Err(error) = self.write_early(committing).await {
                    let _ = flushed(flushes).await;
                    return Err(error);
                }
                flushes.extend(flush_all(committing.part_file.as_deref()));
                flushes.extend(flush_all(committing.last_files.as_deref()));
                flushed(flushes).await?;
                self.data.name().await
            }
            Step::WritePart => {
                if committing.part_file.is_none() {
                    self.write_part(committing).await?;
                    flushed(flush_all(committing.part_file.as_deref())).await?;
                }
                name_all(&mut committing.part_file).await
            }
            Step::AwaitParts => {
                if committing.last_files.is_none() {
                    committing.parts = self.all_parts().await?;
                }
                Ok(())
            }
            Step::WriteManifest => {
                if committing.last_files.is_none() {
                    let files = self.last_texts(std::mem::take(&mut committing.parts)).await?;
                    committing.last_files = Some(Unnamed::write_all(&self.place.engine, files).await?);
                    flushed(flush_all(committing.last_files.as_deref())).await?;
                }
                name_all(&mut committing.last_files).await
            }
            Step::SyncTemporary | Step::Publish | Step::SyncStore | Step::Unlock => self.temporary.make(step).await,
        }
    }

    /// Writes the part, and the files of the last step if there is no other writer to be waited for.
    async fn write_early(&self, committing: &mut Committing) -> Result<()> {
        if self.token.writers > 1 || committing.part_file.is_some() {
            return self.write_part(committing).await;
        }
        let part = self.part_text(&committing.part)?;
        let manifest = vec![ManifestPart::new(self.writer, &part.1)];
        let parts = self.checked(Parts { manifest, listed: self.data.listed(), is_whole: false }).await?;
        let mut files = self.last_texts(parts).await?;
        files.insert(0, part);
        let mut written = Unnamed::write_all(&self.place.engine, files).await?;
        committing.last_files = Some(written.split_off(1));
        committing.part_file = Some(written);
        Ok(())
    }

    /// The part of this writer, unless it was written before.
    async fn write_part(&self, committing: &mut Committing) -> Result<()> {
        if committing.part_file.is_none() {
            let part = self.part_text(&committing.part)?;
            committing.part_file = Some(Unnamed::write_all(&self.place.engine, vec![part]).await?);
        }
        Ok(())
    }

    fn part_text(&self, part: &Part) -> Result<Small> {
        let path = self.temporary.path().join(Member::Part(self.writer).to_string());
        Ok((path, part.text()?.into_bytes(), self.commit.flushes(PlantedBug::ForgetsPartSync)))
    }

    /// Checks that all parts are one generation.
    async fn checked(&self, all: Parts) -> Result<Parts> {
        let number = self.token.number;
        let check = move || agree::check(number, &all.listed).map(|is_whole| Parts { is_whole, ..all });
        self.place.engine.run_blocking(check).await?
    }

    /// Waits for the parts of all writers, and checks that they are one generation.
    async fn all_parts(&self) -> Result<Parts> {
        let Self { token, place, temporary, patience, .. } = self;
        let began = Instant::now();
        loop {
            let (store, directory) = (place.directory.clone(), temporary.directory.clone());
            let waited = began.elapsed();
            let (has_patience, pause) = (waited < *patience, (waited / PAUSE_SHARE).clamp(PAUSE_MIN, PAUSE_MAX));
            let writers = token.writers;
            let look = move || {
                let Missing { writers, ended } = missing(&store, &directory, writers, has_patience)?;
                if !writers.is_empty() && ended.is_empty() {
                    std::thread::sleep(pause);
                }
                Ok::<_, Error>((writers, ended))
            };
            let (missing, ended) = place.engine.run_blocking(look).await??;
            if !ended.is_empty() {
                return Err(Error::Incomplete { generation: token.number, writers: ended });
            }
            if missing.is_empty() {
                break;
            }
        }
        let mut all = Parts::default();
        for writer in 0..token.writers {
            let (directory, id) = (temporary.directory.clone(), token.id);
            let read_part = move || {
                let name = Member::Part(writer).to_string();
                let at = |fault: Fault| fault.at(&directory.path().join(&name));
                let bytes = scan::read(&directory, &name, PART_BYTES_MAX, Reason::Part)?;
                let part = Part::parse(&bytes).map_err(at)?;
                if (part.id, part.writer) != (id, writer) {
                    return Err(at(Fault::new(Reason::Identity, "it is of another writer, or another attempt")));
                }
                Ok((ManifestPart::new(writer, &bytes), part))
            };
            let (listed, part) = place.engine.run_blocking(read_part).await??;
            all.manifest.push(listed);
            if writer == self.writer {
                all.listed.append(&mut self.data.listed());
            } else {
                for number in 0..part.files.len() {
                    self.list(&part, number, &mut all.listed).await?;
                }
            }
        }
        self.checked(all).await
    }

    /// Adds the tensors in a data file of another writer, as its own header has them.
    async fn list(&self, part: &Part, number: usize, listed: &mut Vec<Listed>) -> Result<()> {
        let file = &part.files[number];
        let path = self.temporary.directory.path().join(&file.name);
        let model = Safetensors::open_files(&self.place.engine, vec![path.clone()], OpenOptions::new()).await?;
        let size = model.tensors().inner.files[0].stat().await?.size;
        if size != file.bytes {
            return Err(Fault::new(Reason::Truncated, format!("the file has {size} bytes, and the part lists {}", file.bytes)).at(&path));
        }
        if model.metadata().get("deepring") != Some(file.origin.to_string().as_str()) {
            return Err(Fault::new(Reason::Identity, "the header is not that of the file that the part lists").at(&path));
        }
        file.places(part.chunk, model.table().iter().map(|info| info.len)).map_err(|fault| fault.at(&path))?;
        let pieces = part.split.iter().filter_map(|tensor| {
            let piece = tensor.pieces.iter().find(|piece| piece.file as usize == number)?;
            Some((tensor.name.as_str(), Within { shape: tensor.shape.clone(), start: piece.start.clone() }))
        });
        let mut pieces: HashMap<&str, Within> = pieces.collect();
        listed.extend(model.table().iter().map(|info| Listed {
            name: info.name.to_owned(),
            dtype: info.dtype,
            shape: info.shape.clone(),
            bytes: info.len,
            within: pieces.remove(info.name),
            writer: part.writer,
            file: file.name.clone(),
        }));
        Ok(())
    }

    /// The manifest, and before it the index, if a model without split tensors can be read by it.
    async fn last_texts(&self, parts: Parts) -> Result<Vec<Small>> {
        let Self { token, place, step, previous, commit, .. } = self;
        let path = self.temporary.path();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        let meta = self.meta.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Parts { manifest: parts, listed, is_whole } = parts;
        let manifest = Manifest { id: token.id, generation: token.number, step: *step, created_ms: now, previous: *previous, parts, meta };
        let durable = [PlantedBug::ForgetsIndexSync, PlantedBug::ForgetsManifestSync].map(|bug| commit.flushes(bug));
        let texts = move || {
            let mut files = Vec::with_capacity(2);
            if is_whole && !listed.is_empty() {
                let total = listed.iter().map(|tensor| tensor.bytes).sum();
                let index = index_text(total, listed.iter().map(|tensor| (tensor.name.as_str(), tensor.file.as_str())));
                files.push((path.join(INDEX), index, durable[0]));
            }
            files.push((path.join(MANIFEST), manifest.text().into_bytes(), durable[1]));
            files
        };
        Ok(place.engine.run_blocking(texts).await?)
    }

    /// Gives up, for this error.
    async fn abort_for(self, error: Error) -> Error {
        // The caller gets the error that made this necessary.
        let _ = self.abort().await;
        error
    }

    async fn abort(self) -> Result<()> {
        let Self { data, temporary, place, .. } = self;
        // Whatever comes of the files: their directory goes.
        let abandoned = data.abandon().await;
        drop(data);
        place.engine.run_blocking(temporary.end()).await??;
        abandoned
    }
}
