//! [`Checkpoints`]: a directory of generations.

use super::collect::{self, Collected};
use super::generation::{Check, Checkpoint, Opened};
use super::latest::{self, Latest};
use super::names::{Entry, PINS};
use super::options::{BeginOptions, CheckpointOptions, JoinOptions, StoreOptions};
use super::scan;
use super::temporary::Place;
use super::token::Token;
use super::writer::{CheckpointWriter, Generation};
use crate::error::{Error, Result};
use crate::job::Job;
use crate::save::Source;
use deepring::{Directory, Engine, IoBuf, ReplaceOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A store of checkpoints: a directory whose generations are each whole or absent, whatever happens to the process or the
/// machine. Clones share it. Any number of processes can use one at once, on one host or, with a file system that has locks,
/// on several.
///
/// ```
/// use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, StoreOptions};
/// use deepring_tensors::{DType, Declared, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("run-1");
/// let engine = deepring::Engine::builder().build()?;
/// let store = Checkpoints::open(&engine, &path, StoreOptions::new().create(true).keep_last(2)).wait()?;
/// let declared = Declared { name: "bias".into(), dtype: DType::F32, shape: vec![2] };
/// let tensors = vec![Source { declared, data: [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat() }];
/// let options = CheckpointOptions::new().step(7).meta(r#"{"loss":0.5}"#).staging(64 << 20);
/// let mut captured = store.save(tensors, options).wait()?;
/// let mut data = captured.take(); // it can change again, and the checkpoint does not
/// data[0].fill(0);
/// let generation = captured.commit().wait()?; // from here on it outlives a power failure
/// assert_eq!(store.list().wait()?, [generation.number]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    place: Arc<Place>,
    is_closed: Arc<AtomicBool>,
}

impl Checkpoints {
    /// Opens a store. Nothing is made but the directory, if that is asked for.
    ///
    /// The job fails with [`Error::Io`]: `ENOENT` if there is no directory, `ENOTDIR`, `EACCES`.
    pub fn open(engine: &Engine, directory: impl AsRef<Path>, options: StoreOptions) -> Job<Result<Self>> {
        let (engine, path) = (engine.clone(), directory.as_ref().to_owned());
        Job::new(async move {
            let open = move || {
                // The working directory can change later.
                let path = std::path::absolute(&path).unwrap_or(path);
                if options.create { scan::create(&path) } else { Ok(Directory::open(&path)?) }
            };
            let directory = engine.run_blocking(open).await??;
            let place = Arc::new(Place { engine, directory, keep: options.keep, idle: Arc::default() });
            Ok(Self { place, is_closed: Arc::default() })
        })
    }

    /// Begins a generation, as its first writer. Its number is larger than any before.
    ///
    /// The job fails with [`Error::NoGeneration`] if the reference is missing; with [`Error::Argument`]; with [`Error::Io`].
    pub fn begin(&self, options: BeginOptions) -> Job<Result<CheckpointWriter>> {
        let this = self.clone();
        Job::new(async move {
            this.check()?;
            CheckpointWriter::begin(this.place, options).await
        })
    }

    /// Joins a generation that another writer has begun, in this process or in another, as the writer of this number: one of
    /// 1 to one less than there are writers.
    ///
    /// The job fails with [`Error::NoGeneration`] if the generation is not in progress in this store; with
    /// [`Error::Conflict`] if the writer of this number has joined before; with [`Error::Argument`] for other numbers; with
    /// [`Error::Io`].
    pub fn join(&self, token: &Token, writer: u32, options: JoinOptions) -> Job<Result<CheckpointWriter>> {
        let (this, token) = (self.clone(), *token);
        Job::new(async move {
            this.check()?;
            CheckpointWriter::join(this.place, token, writer, options).await
        })
    }

    /// Writes all tensors of a generation. The job ends when their memory is the caller's again: as soon as all are copied, if
    /// [staging](CheckpointOptions::staging) has room for them.
    ///
    /// The memory must not change before. The job fails as those of [`Checkpoints::begin`] and [`CheckpointWriter::put`], and
    /// then nothing is left.
    pub fn save<B: IoBuf>(&self, tensors: Vec<Source<B>>, options: CheckpointOptions) -> Job<Result<Captured<B>>> {
        let this = self.clone();
        Job::new(async move {
            let CheckpointOptions { begin, group, meta, on_progress } = options;
            let writer = this.begin(begin).await?;
            writer.report(on_progress, tensors.iter().map(|tensor| tensor.data.len() as u64).sum());
            let meta = meta.map_or(Ok(()), |meta| writer.set_meta(&meta));
            let put = match meta {
                Ok(()) => writer.put_all(tensors, group).await,
                Err(error) => Err(error),
            };
            match put {
                Ok(data) => Ok(Captured { data, writer }),
                Err(error) => {
                    // The caller gets the error that made this necessary.
                    let _ = writer.abort().await;
                    Err(error)
                }
            }
        })
    }

    /// The numbers of all generations, in ascending order. Whether they are whole is not looked at.
    ///
    /// The job fails with [`Error::Io`].
    pub fn list(&self) -> Job<Result<Vec<u64>>> {
        self.blocking(|store, _| Ok(scan::look(store)?.generations))
    }

    /// Opens the generation of this number.
    ///
    /// The job fails with [`Error::NoGeneration`]; with [`Error::Format`] if the generation is damaged, or a newer release wrote
    /// it; with [`Error::Io`].
    pub fn generation(&self, generation: u64) -> Job<Result<Checkpoint>> {
        let this = self.clone();
        Job::new(async move {
            this.check()?;
            Ok(Opened::open(&this.place.engine, &this.place.directory, generation, Check::Sizes).await?.checkpoint)
        })
    }

    /// Opens the newest generation that is whole, as far as `check` says, and names those that it has passed over.
    ///
    /// Only damage is passed over. What else keeps a generation from being opened, such as missing descriptors or rights or a
    /// failing drive, fails the job with [`Error::Io`]: an older one would be taken for the newest.
    pub fn latest(&self, check: Check) -> Job<Result<Latest>> {
        let this = self.clone();
        Job::new(async move {
            this.check()?;
            let (opened, skipped) = latest::newest(&this.place.engine, &this.place.directory, check).await?;
            Ok(Latest { checkpoint: opened.map(|opened| opened.checkpoint), skipped })
        })
    }

    /// Keeps a generation until it is [unpinned](Checkpoints::unpin), in this process and after it.
    ///
    /// The job fails with [`Error::NoGeneration`]; with [`Error::Io`].
    pub fn pin(&self, generation: u64) -> Job<Result<()>> {
        let this = self.clone();
        Job::new(async move {
            this.check()?;
            let Place { engine, directory, .. } = &*this.place;
            let store = directory.clone();
            let look = move || {
                let held = collect::lock(&store)?;
                scan::open(&store, generation)?;
                match store.make_directory(PINS, 0o777) {
                    Ok(_) => store.sync()?,
                    Err(error) if error.code() == "EEXIST" => {}
                    Err(error) => return Err(error.into()),
                }
                Ok::<_, Error>(held)
            };
            let _held = engine.run_blocking(look).await??;
            let path = directory.path().join(PINS).join(Entry::Generation(generation).to_string());
            Ok(engine.replace(path, ReplaceOptions::new()).await?.commit().await?)
        })
    }

    /// Takes a pin away. That there is none is no error.
    ///
    /// The job fails with [`Error::Io`].
    pub fn unpin(&self, generation: u64) -> Job<Result<()>> {
        self.blocking(move |store, _| {
            let removed = store.open_directory(PINS).and_then(|pins| {
                pins.remove_file(Entry::Generation(generation).to_string())?;
                pins.sync()
            });
            match removed {
                Err(error) if !scan::is_missing(&error) => Err(error.into()),
                _ => Ok(()),
            }
        })
    }

    /// Whether a generation is pinned.
    ///
    /// The job fails with [`Error::Io`].
    pub fn is_pinned(&self, generation: u64) -> Job<Result<bool>> {
        self.blocking(move |store, _| Ok(scan::look(store)?.pins.contains(&generation)))
    }

    /// Removes a generation, whatever the store keeps.
    ///
    /// The job fails with [`Error::NoGeneration`]; with [`Error::Conflict`] if it is pinned or a reader has it open; with
    /// [`Error::Io`].
    pub fn remove(&self, generation: u64) -> Job<Result<()>> {
        self.blocking(move |store, _| collect::remove_generation(store, generation))
    }

    /// Removes generations that are not kept, and what writers have left that ended without a commit. Every commit does the
    /// same.
    ///
    /// The job fails with [`Error::Io`].
    pub fn collect(&self) -> Job<Result<Collected>> {
        self.blocking(|store, place| collect::collect(store, place.keep, true))
    }

    /// Gives back the memory for [copies](JoinOptions::staging) that the store keeps for its next save.
    pub fn trim(&self) {
        self.place.idle.clear();
    }

    /// Ends the use of the store, by this value and its clones: calls that follow are errors. Writers that have begun go on.
    pub fn close(self) -> Job<Result<()>> {
        Job::new(async move {
            self.is_closed.store(true, Ordering::Release);
            self.trim();
            Ok(())
        })
    }

    /// The place, as long as the store is not closed.
    pub(super) fn place(&self) -> Result<&Arc<Place>> {
        self.check().map(|()| &self.place)
    }

    fn check(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Error::Argument("the store is closed".into()));
        }
        Ok(())
    }

    /// Runs a job on a thread of the engine.
    fn blocking<T: Send + 'static>(&self, job: impl FnOnce(&Directory, &Place) -> Result<T> + Send + 'static) -> Job<Result<T>> {
        let this = self.clone();
        Job::new(async move {
            this.check()?;
            let place = Arc::clone(&this.place);
            this.place.engine.run_blocking(move || job(&place.directory, &place)).await?
        })
    }
}

/// A checkpoint whose tensors are written, or copied. It is not visible yet, and dropping it removes it.
#[derive(Debug)]
pub struct Captured<B> {
    data: Vec<B>,
    writer: CheckpointWriter,
}

impl<B> Captured<B> {
    /// The memory of the tensors, in their order: the caller's again.
    pub fn take(&mut self) -> Vec<B> {
        std::mem::take(&mut self.data)
    }

    /// The number that the generation will have.
    pub fn number(&self) -> u64 {
        self.writer.number()
    }

    /// As [`CheckpointWriter::commit`].
    pub fn commit(self) -> Job<Result<Generation>> {
        self.writer.commit()
    }

    /// As [`CheckpointWriter::abort`].
    pub fn abort(self) -> Job<Result<()>> {
        self.writer.abort()
    }
}
