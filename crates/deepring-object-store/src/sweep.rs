//! [`Swept`]: what crashes have left, removed.

use crate::names;
use crate::store::DeepringStore;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What [`DeepringStore::sweep`] has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Swept {
    /// Files in progress that nothing works on any more.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl DeepringStore {
    /// Removes the files that puts and uploads have left which a crash or `kill -9` interrupted, below the whole prefix: those
    /// called `.deepring-*#0` that were last written to longer ago than `older_than`. They are never listed, and cost space
    /// alone.
    ///
    /// An upload of any process that takes its time between two parts looks the same: choose a time that none takes, a day for
    /// example. Links are not followed, and files of `LocalFileSystem` are left alone.
    ///
    /// # Errors
    /// That of the first file or directory that could not be read or removed, with its path; the others are swept all the same.
    ///
    /// ```
    /// # let place = tempfile::tempdir().unwrap();
    /// # let path = place.path();
    /// let engine = deepring::Engine::builder().build()?;
    /// let store = deepring_object_store::DeepringStore::builder(&engine).prefix(path).build()?;
    /// std::fs::write(path.join(".deepring-4711-0#0"), [7; 1000])?; // as a process that died leaves it
    /// let day = std::time::Duration::from_secs(86_400);
    /// assert_eq!(pollster::block_on(store.sweep(day))?.files, 0);
    /// let swept = pollster::block_on(store.sweep(std::time::Duration::ZERO))?;
    /// assert_eq!((swept.files, swept.bytes), (1, 1000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn sweep(&self, older_than: Duration) -> io::Result<Swept> {
        let prefix = self.prefix().to_owned();
        let task = self.engine().run_blocking(move || sweep(prefix, older_than));
        task.await?
    }
}

/// Blocks.
fn sweep(prefix: PathBuf, older_than: Duration) -> io::Result<Swept> {
    let (mut swept, mut failure) = (Swept::default(), None);
    let mut directories = vec![prefix];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) => {
                note(&mut failure, &directory, &error);
                continue;
            }
        };
        for entry in entries {
            let result = entry.and_then(|entry| {
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() && entry.file_name().to_str().is_some_and(names::is_ours) {
                    remove(&entry.path(), older_than, &mut swept)?;
                }
                Ok(())
            });
            if let Err(error) = result {
                note(&mut failure, &directory, &error);
            }
        }
    }
    failure.map_or(Ok(swept), Err)
}

fn remove(path: &Path, older_than: Duration, swept: &mut Swept) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let age = SystemTime::now().duration_since(found.modified()?).unwrap_or_default();
    if age >= older_than {
        fs::remove_file(path)?;
        swept.files += 1;
        swept.bytes += found.len();
    }
    Ok(())
}

/// Keeps the first error. What is gone meanwhile is none.
fn note(failure: &mut Option<io::Error>, path: &Path, error: &io::Error) {
    if error.kind() != io::ErrorKind::NotFound {
        failure.get_or_insert_with(|| io::Error::new(error.kind(), format!("{}: {error}", path.display())));
    }
}
