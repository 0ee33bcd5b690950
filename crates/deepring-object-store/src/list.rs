//! Listings: the objects below a prefix, in batches that threads of the engine collect.
//!
//! A prefix is a directory, so it ends where a segment of the path ends. Links are followed, as everywhere in the store; one
//! that leads nowhere is no object, and one that leads back to a directory above it is not followed again. An object that is
//! put or deleted meanwhile can be listed or not. Of each directory that is being listed the names are in memory, and no
//! descriptor is open between two batches.

use crate::failure::{Failure, Kind, Use};
use crate::get::Meta;
use crate::names;
use crate::store::DeepringStore;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::vec;

/// Objects that one job collects: a few milliseconds of work.
const BATCH: usize = 1024;

/// Objects and prefixes in one directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) objects: Vec<Meta>,
    pub(crate) prefixes: Vec<String>,
}

/// A listing in progress.
struct Walk {
    /// From the prefix down.
    levels: Vec<Level>,
    /// Only paths behind this one are listed.
    offset: Option<String>,
}

/// A directory whose entries are being listed.
struct Level {
    path: PathBuf,
    location: String,
    entries: vec::IntoIter<Entry>,
}

struct Entry {
    name: OsString,
    kind: EntryKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EntryKind {
    File,
    Directory,
    Link,
    Other,
}

impl DeepringStore {
    /// All objects below a prefix, at any depth.
    pub(crate) fn walk(&self, prefix: &str, offset: Option<&str>) -> BoxStream<'static, Result<Meta, Failure>> {
        let (store, prefix, offset) = (self.clone(), prefix.to_owned(), offset.map(str::to_owned));
        let begin = move || async move {
            let path = names::directory_of(store.prefix(), &prefix)?;
            let file = path.clone();
            let levels = store.job(&path, move |_| Ok(Level::open(file, prefix)?.into_iter().collect())).await?;
            Ok::<_, Failure>((store, Walk { levels, offset }))
        };
        let batches = stream::once(begin()).flat_map(|begun| match begun {
            Err(failure) => stream::once(async move { vec![Err(failure)] }).boxed(),
            Ok((store, walk)) => stream::unfold(Some(walk), move |walk| next_batch(store.clone(), walk)).boxed(),
        });
        batches.flat_map(stream::iter).boxed()
    }

    /// The objects in a directory, and the prefixes of more.
    pub(crate) async fn list_level(&self, prefix: &str) -> Result<Listing, Failure> {
        let path = names::directory_of(self.prefix(), prefix)?;
        let (file, prefix) = (path.clone(), prefix.to_owned());
        self.job(&path, move |_| {
            let mut listing = Listing::default();
            let Some(mut level) = Level::open(file, prefix)? else { return Ok(listing) };
            while let Some(entry) = level.entries.next() {
                match level.look(&entry)? {
                    Seen::Object(meta) => listing.objects.push(meta),
                    Seen::Directory { location, .. } => listing.prefixes.push(location),
                    Seen::Nothing => {}
                }
            }
            Ok(listing)
        })
        .await
    }
}

type Batch = Vec<Result<Meta, Failure>>;

async fn next_batch(store: DeepringStore, walk: Option<Walk>) -> Option<(Batch, Option<Walk>)> {
    let mut walk = walk.filter(|walk| !walk.levels.is_empty())?;
    let path = walk.levels[0].path.clone();
    let collected = store.job(&path, move |_| Ok((walk.collect(), walk))).await;
    Some(match collected {
        Ok((batch, walk)) => (batch, Some(walk)),
        // The engine has ended.
        Err(failure) => (vec![Err(failure)], None),
    })
}

/// What an entry of a directory is.
enum Seen {
    Object(Meta),
    Directory { path: PathBuf, location: String, is_link: bool },
    Nothing,
}

impl Walk {
    /// Collects a batch. Blocks.
    fn collect(&mut self) -> Batch {
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(level) = self.levels.last_mut()
        {
            let Some(entry) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            if entry.kind == EntryKind::File && self.offset.as_deref().is_some_and(|offset| level.is_before(&entry, offset)) {
                continue;
            }
            match level.look(&entry) {
                Err(failure) => batch.push(Err(failure)),
                Ok(Seen::Nothing) => {}
                Ok(Seen::Object(meta)) if self.offset.as_ref().is_some_and(|offset| meta.location <= *offset) => {}
                Ok(Seen::Object(meta)) => batch.push(Ok(meta)),
                Ok(Seen::Directory { path, location, is_link }) => {
                    if is_link && self.leads_back(&path) {
                        continue;
                    }
                    match Level::open(path, location) {
                        Ok(level) => self.levels.extend(level),
                        Err(failure) => batch.push(Err(failure)),
                    }
                }
            }
        }
        batch
    }

    /// Whether a link leads to a directory that is being listed.
    fn leads_back(&self, path: &Path) -> bool {
        let numbers = |found: Metadata| (found.dev(), found.ino());
        let Ok(target) = fs::metadata(path).map(numbers) else { return true };
        self.levels.iter().any(|level| fs::metadata(&level.path).map(numbers).is_ok_and(|numbers| numbers == target))
    }
}

impl Level {
    /// Reads the names of a directory, and sorts them. `None` if there is none.
    fn open(path: PathBuf, location: String) -> Result<Option<Self>, Failure> {
        let entries = match read(&path) {
            Ok(entries) => entries,
            Err(error) => {
                let failure = Failure::of_io(error, &path, Use::Finds);
                return if failure.kind == Kind::NotFound { Ok(None) } else { Err(failure) };
            }
        };
        Ok(Some(Self { path, location, entries: entries.into_iter() }))
    }

    fn is_before(&self, entry: &Entry, offset: &str) -> bool {
        names::location_of(&self.location, &entry.name).is_some_and(|location| location.as_str() <= offset)
    }

    fn look(&self, entry: &Entry) -> Result<Seen, Failure> {
        if entry.kind == EntryKind::Other || entry.kind == EntryKind::File && entry.name.to_str().is_some_and(names::is_in_progress) {
            return Ok(Seen::Nothing);
        }
        let path = self.path.join(&entry.name);
        let Some(location) = names::location_of(&self.location, &entry.name) else {
            let why = "no path of an object store can have this name: it is not UTF-8, or has control characters";
            return Err(Failure::new(Kind::Other, &path, why));
        };
        if entry.kind == EntryKind::Directory {
            return Ok(Seen::Directory { path, location, is_link: false });
        }
        let found = match fs::metadata(&path) {
            Ok(found) => found,
            Err(error) => {
                let failure = Failure::of_io(error, &path, Use::Finds);
                // Deleted meanwhile, or a link that leads nowhere.
                return if failure.kind == Kind::NotFound { Ok(Seen::Nothing) } else { Err(failure) };
            }
        };
        Ok(if found.is_dir() {
            Seen::Directory { path, location, is_link: true }
        } else if found.is_file() && !entry.name.to_str().is_some_and(names::is_in_progress) {
            Seen::Object(Meta::of_metadata(location, &found))
        } else {
            Seen::Nothing
        })
    }
}

fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let entry = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        // Where the directory does not say, it is looked at as a link would be.
        let kind = entry.file_type().map_or(EntryKind::Link, |kind| match kind {
            kind if kind.is_file() => EntryKind::File,
            kind if kind.is_dir() => EntryKind::Directory,
            kind if kind.is_symlink() => EntryKind::Link,
            _ => EntryKind::Other,
        });
        Ok(Entry { name: entry.file_name(), kind })
    };
    let mut entries = fs::read_dir(path)?.map(entry).collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by(|one, two| one.name.cmp(&two.name));
    Ok(entries)
}
