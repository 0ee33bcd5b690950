//! [`Listing`]: the files of a generation and their checksums, apart from any directory.
//!
//! It is made of the texts of the manifest and of the parts, so it can come from anywhere. Each text is checked as when a
//! generation is opened.

use super::file_check::FileCheck;
use super::generation::DataFile;
use super::manifest::{MANIFEST_BYTES_MAX, Manifest};
use super::names::{Entry, INDEX, MANIFEST, Member};
use super::part::{Part, PartFile};
use crate::error::{Error, Result};
use crate::header::{HEADER_BYTES_MAX, LENGTH_BYTES};
use crate::open::header_len;
use std::path::{Path, PathBuf};

/// The files of a generation: the data files with the checksums of all their bytes, the parts, and the manifest.
///
/// It is what another place needs to take the generation over: see [`Checkpoints::receive`](super::Checkpoints::receive).
///
/// ```
/// use deepring_tensors::checkpoint::{CheckpointOptions, Checkpoints, Listing, StoreOptions};
/// # use deepring_tensors::{DType, Declared, Source};
/// # let directory = tempfile::tempdir().unwrap();
/// # let engine = deepring::Engine::builder().build()?;
/// # let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// # let declared = Declared { name: "bias".into(), dtype: DType::U8, shape: vec![3] };
/// # let save = store.save(vec![Source { declared, data: vec![1u8, 2, 3] }], CheckpointOptions::new().step(7));
/// # let number = save.wait()?.commit().wait()?.number;
/// let listing = store.generation(number).wait()?.listing().wait()?;
/// assert_eq!((listing.generation(), listing.step()), (number, Some(7)));
/// for file in listing.files() {
///     println!("{} has {} bytes", file.name, file.bytes);
/// }
/// let parts = listing.parts().map(|(_, text)| text.to_vec()).collect();
/// let again = Listing::new(number, listing.manifest().to_vec(), parts, "elsewhere")?;
/// assert_eq!(again.files(), listing.files());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Listing {
    pub(super) manifest: Manifest,
    pub(super) parts: Vec<Part>,
    manifest_text: Vec<u8>,
    part_texts: Vec<Vec<u8>>,
    files: Vec<ListedFile>,
    /// The part of each file, and its place in that.
    places: Vec<(usize, usize)>,
    index: Option<Vec<u8>>,
    place: PathBuf,
}

/// A file of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedFile {
    /// Its name in the directory of the generation.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

impl Listing {
    /// The name of the manifest.
    pub const MANIFEST: &'static str = MANIFEST;

    /// The name of the [index](Listing::index).
    pub const INDEX: &'static str = INDEX;

    /// The longest manifest.
    pub const MANIFEST_BYTES_MAX: u64 = MANIFEST_BYTES_MAX;

    /// The name of the directory of a generation.
    pub fn name_of(generation: u64) -> String {
        Entry::Generation(generation).to_string()
    }

    /// The generation whose directory has this name, if it is one.
    pub fn generation_of(name: &str) -> Option<u64> {
        Entry::parse(name).filter(|entry| matches!(entry, Entry::Generation(_))).map(Entry::number)
    }

    /// The parts that a manifest names, in their order. `place` is the directory of the generation, for errors.
    ///
    /// # Errors
    /// [`Error::Format`] if it is not the manifest of this generation.
    pub fn parts_of(generation: u64, manifest: &[u8], place: impl AsRef<Path>) -> Result<Vec<ListedFile>> {
        let manifest = Manifest::parse(manifest, generation).map_err(|fault| fault.at(&place.as_ref().join(MANIFEST)))?;
        Ok(manifest.parts.into_iter().map(|part| ListedFile { name: part.name, bytes: part.bytes }).collect())
    }

    /// The listing of a generation from the texts of its manifest and of all its parts, in the order of
    /// [`Listing::parts_of`]. `place` is the directory of the generation, for errors.
    ///
    /// # Errors
    /// [`Error::Format`] if a text is not the one that the manifest sums.
    pub fn new(generation: u64, manifest: Vec<u8>, parts: Vec<Vec<u8>>, place: impl AsRef<Path>) -> Result<Self> {
        let place = place.as_ref().to_owned();
        let (manifest_text, part_texts) = (manifest, parts);
        let manifest = Manifest::parse(&manifest_text, generation).map_err(|fault| fault.at(&place.join(MANIFEST)))?;
        if part_texts.len() != manifest.parts.len() {
            return Err(Error::Argument(format!("{} parts were given, and the manifest names {}", part_texts.len(), manifest.parts.len())));
        }
        let part = |(writer, text): (u32, &Vec<u8>)| {
            manifest.part(writer, text).map_err(|fault| fault.at(&place.join(Member::Part(writer).to_string())))
        };
        let parts: Vec<Part> = (0..).zip(&part_texts).map(part).collect::<Result<_>>()?;
        let (mut files, mut places) = (Vec::new(), Vec::new());
        for (number, part) in parts.iter().enumerate() {
            files.extend(part.files.iter().map(|file| ListedFile { name: file.name.clone(), bytes: file.bytes }));
            places.extend((0..part.files.len()).map(|file| (number, file)));
        }
        Ok(Self { manifest, parts, manifest_text, part_texts, files, places, index: None, place })
    }

    pub(super) fn with_index(self, index: Option<Vec<u8>>) -> Self {
        Self { index, ..self }
    }

    /// The number of the generation.
    pub fn generation(&self) -> u64 {
        self.manifest.generation
    }

    /// The step that it was saved at, if that was said.
    pub fn step(&self) -> Option<u64> {
        self.manifest.step
    }

    /// What tells its content from every other: 32 hexadecimal digits, drawn at random when it was begun. All copies of a
    /// generation have the same.
    pub fn id(&self) -> String {
        self.manifest.id.to_string()
    }

    /// The data files, of all writers.
    pub fn files(&self) -> &[ListedFile] {
        &self.files
    }

    /// Bytes of all data files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The text of the manifest.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest_text
    }

    /// The names and texts of the parts.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.manifest.parts.iter().zip(&self.part_texts).map(|(part, text)| (part.name.as_str(), text.as_slice()))
    }

    /// The text of the index by which transformers, vLLM and candle read the directory as it is. It follows from the headers of
    /// the data files, so it is known of a generation that is [open](super::Checkpoint::listing). `None` also if a tensor is
    /// split, or there is none.
    pub fn index(&self) -> Option<&[u8]> {
        self.index.as_deref()
    }

    /// How many bytes the header of a data file has, with what is in front of it, from the first eight bytes of the file.
    ///
    /// # Errors
    /// [`Error::Format`] if there are fewer, or the header cannot be so long.
    ///
    /// # Panics
    /// If there is no file of this index, like indexing.
    pub fn header_bytes(&self, file: usize, first: &[u8]) -> Result<u64> {
        let ListedFile { name, bytes } = &self.files[file];
        let first = &first[..(*bytes).min(first.len() as u64) as usize];
        let len = header_len(first, *bytes, HEADER_BYTES_MAX).map_err(|fault| fault.at(&self.place.join(name)))?;
        Ok(LENGTH_BYTES + len)
    }

    /// What checks the bytes of a data file, of which these are the [header](Listing::header_bytes).
    ///
    /// # Errors
    /// [`Error::Format`] if the header is not the one that the part sums.
    ///
    /// # Panics
    /// If there is no file of this index, like indexing.
    pub fn check(&self, file: usize, header: &[u8]) -> Result<FileCheck> {
        self.check_at(file, header, &self.place.join(&self.files[file].name))
    }

    /// The same of a file that is here.
    pub(super) fn check_at(&self, file: usize, header: &[u8], path: &Path) -> Result<FileCheck> {
        let (chunk, listed) = self.listed(file);
        FileCheck::new(&DataFile::new(listed), listed, chunk, header, path)
    }

    fn listed(&self, file: usize) -> (u64, &PartFile) {
        let (part, own) = self.places[file];
        (self.parts[part].chunk, &self.parts[part].files[own])
    }
}
