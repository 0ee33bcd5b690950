//! [`Writer`]: a file whose tensors are written in any order, and in parts.

use crate::error::{Error, Result, quoted};
use crate::job::Job;
use crate::layout::{Declared, Layout};
use crate::save::{SaveOptions, SaveReceipt};
use deepring::{Engine, IoBuf, Replacement, WriteOptions, crc32c_combine};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that is being written: all tensors are declared first, and their bytes come in any order, whole or in parts, from
/// any number of threads. Nothing is visible under the name before [`Writer::finish`]; dropping the writer leaves what was
/// there before.
///
/// ```
/// use deepring_tensors::{DType, Declared, SaveOptions, Writer};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("model.safetensors");
/// let engine = deepring::Engine::builder().build()?;
/// let declared = |name: &str| Declared { name: name.into(), dtype: DType::U8, shape: vec![4] };
/// let writer = Writer::create(&engine, &path, vec![declared("a"), declared("b")], SaveOptions::new()).wait()?;
/// writer.write("b", vec![5, 6, 7, 8], 0).wait()?;
/// writer.write("a", vec![3, 4], 2).wait()?; // the second half of it
/// writer.write("a", vec![1, 2], 0).wait()?;
/// writer.finish().wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Writer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    replacement: Replacement,
    layout: Layout,
    names: HashMap<String, usize>,
    checksums: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Of each tensor: the parts that were handed over, by their beginnings.
    parts: Vec<BTreeMap<u64, Part>>,
    receipt: SaveReceipt,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    len: u64,
    /// Once it is written; without checksums, 0.
    checksum: Option<u32>,
}

impl Writer {
    /// Creates the file beside its target, with room for everything.
    ///
    /// The job fails with [`Error::Argument`] before anything is created, and with [`Error::Io`].
    pub fn create(engine: &Engine, path: impl AsRef<Path>, tensors: Vec<Declared>, options: SaveOptions) -> Job<Result<Self>> {
        let (engine, path) = (engine.clone(), path.as_ref().to_owned());
        Job::new(async move {
            let layout = options.layout(&tensors)?;
            let replacement = engine.replace(&path, options.replace(layout.size)).await?;
            let names = tensors.into_iter().enumerate().map(|(index, tensor)| (tensor.name, index)).collect();
            let parts = vec![BTreeMap::new(); layout.lens.len()];
            let receipt = SaveReceipt { bytes: layout.start(), files: 1, ..SaveReceipt::NONE };
            let state = Mutex::new(State { parts, receipt });
            Ok(Self { inner: Arc::new(Inner { replacement, layout, names, checksums: options.checksums, state }) })
        })
    }

    /// Writes bytes of a tensor, from its byte `start` on. The job returns the buffer.
    ///
    /// The job fails with [`Error::NotFound`]; with [`Error::Argument`] if the bytes leave the tensor, or others were given for
    /// some of them before; with [`Error::Io`]. After a failure at the drive, these bytes can be written again.
    pub fn write<B: IoBuf>(&self, name: &str, data: B, start: u64) -> Job<Result<B>> {
        let (inner, name) = (Arc::clone(&self.inner), name.to_owned());
        Job::new(async move {
            let (index, len) = (inner.claim(&name, data.len() as u64, start)?, data.len() as u64);
            let position = inner.layout.positions[index] + start;
            let claim = Claim { inner: &inner, index, start, len, done: false };
            let options = WriteOptions::new().checksum(inner.checksums);
            let written = inner.replacement.file().write_with(data, position, options).await;
            let (data, receipt) = written.ok().map_err(|error| Error::io(error, Some(&name)))?;
            claim.finish(&receipt);
            Ok(data)
        })
    }

    /// Writes the header, flushes the file, and gives it its name.
    ///
    /// The job fails with [`Error::Argument`] if bytes of a tensor were not written, or writes have not ended; and as that
    /// of [`save`](crate::save()). What was there before is there still, unless its kind is
    /// [`Uncertain`](deepring::ErrorKind::Uncertain).
    pub fn finish(self) -> Job<Result<SaveReceipt>> {
        Job::new(async move {
            let Ok(inner) = Arc::try_unwrap(self.inner) else {
                return Err(Error::Argument("a write has not ended".into()));
            };
            let Inner { replacement, layout, names, checksums, state } = inner;
            let State { parts, mut receipt } = state.into_inner().unwrap_or_else(PoisonError::into_inner);
            let mut sums = vec![0; parts.len()];
            for (name, index) in &names {
                sums[*index] = whole(name, &parts[*index], layout.lens[*index])?;
            }
            let in_order: Vec<u32> = layout.order.iter().map(|&index| sums[index as usize]).collect();
            let header = if checksums { layout.sealed(&in_order) } else { layout.header };
            let (_, part) = replacement.file().write_at(header, 0).await.ok()?;
            receipt.direct &= part.direct;
            replacement.commit().await?;
            Ok(receipt)
        })
    }

    /// Gives up: removes the new file, and waits for that.
    pub fn abort(self) -> Job<Result<()>> {
        Job::new(async move {
            match Arc::try_unwrap(self.inner) {
                Ok(inner) => Ok(inner.replacement.abandon().await?),
                Err(_) => Err(Error::Argument("a write has not ended".into())),
            }
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes of a tensor for a write.
    fn claim(&self, name: &str, len: u64, start: u64) -> Result<usize> {
        let index = *self.names.get(name).ok_or_else(|| Error::NotFound { tensor: name.to_owned() })?;
        let all = self.layout.lens[index];
        if start.checked_add(len).is_none_or(|end| end > all) {
            return Err(Error::Argument(format!("{len} bytes from {start} on leave the {all} of tensor {}", quoted(name))));
        }
        let parts = &mut self.lock().parts[index];
        let before = parts.range(..start + len).next_back();
        if len > 0 && before.is_some_and(|(&begin, part)| begin + part.len > start) {
            return Err(Error::Argument(format!("bytes of {start}..{} were given before, tensor {}", start + len, quoted(name))));
        }
        if len > 0 {
            parts.insert(start, Part { len, checksum: None });
        }
        Ok(index)
    }
}

/// Bytes that are being written. They are free again unless it is finished.
struct Claim<'i> {
    inner: &'i Inner,
    index: usize,
    start: u64,
    len: u64,
    done: bool,
}

impl Claim<'_> {
    fn finish(mut self, receipt: &deepring::Receipt) {
        let mut state = self.inner.lock();
        state.receipt.add(receipt);
        if let Some(part) = state.parts[self.index].get_mut(&self.start) {
            part.checksum = Some(receipt.checksum.unwrap_or(0));
        }
        drop(state);
        self.done = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.done && self.len > 0 {
            self.inner.lock().parts[self.index].remove(&self.start);
        }
    }
}

/// The checksum of a tensor whose parts are all written.
fn whole(name: &str, parts: &BTreeMap<u64, Part>, len: u64) -> Result<u32> {
    let (mut end, mut sum) = (0, 0);
    for (&start, part) in parts {
        let Some(checksum) = part.checksum.filter(|_| start == end) else { break };
        sum = crc32c_combine(sum, checksum, part.len);
        end += part.len;
    }
    if end < len {
        return Err(Error::Argument(format!("bytes from {end} on of {len} were not written, tensor {}", quoted(name))));
    }
    Ok(sum)
}
