//! Stores with generations to send, and what is in them.

use crate::harness::{bytes, directory};
use deepring::Engine;
use deepring_tensors::checkpoint::{BeginOptions, Checkpoint, Checkpoints, JoinOptions, PutOptions, Reference, StoreOptions};
use deepring_tensors::{DType, Declared, Source};
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

/// A store in a directory of its own.
pub(crate) struct Local {
    pub(crate) place: TempDir,
    pub(crate) store: Checkpoints,
}

pub(crate) fn engine() -> Engine {
    Engine::builder().build().expect("an engine")
}

impl Local {
    pub(crate) fn new(engine: &Engine) -> Self {
        let place = directory();
        let store = open(engine, place.path());
        Self { place, store }
    }

    pub(crate) fn generation(&self, number: u64) -> Checkpoint {
        self.store.generation(number).wait().expect("a generation")
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.store.list().wait().expect("a list")
    }

    /// Names of everything in its directory.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.place.path())
    }

    /// Every file of a generation.
    pub(crate) fn files(&self, number: u64) -> BTreeMap<String, Vec<u8>> {
        files(&self.place.path().join(format!("{number:012}")))
    }

    /// One generation: three tensors, in two files.
    pub(crate) fn small(engine: &Engine, salt: u64) -> Self {
        let this = Self::new(engine);
        let writer = this.store.begin(BeginOptions::new().step(7)).wait().expect("begun");
        for (name, len) in [("whole", 3 << 20), ("odd", 70_001), ("none", 0)] {
            writer.put(source(name, len, salt), PutOptions::new()).wait().expect("a tensor");
        }
        writer.set_meta(&format!("{{\"salt\":{salt}}}")).expect("JSON");
        assert_eq!(writer.commit().wait().expect("committed").files, 2);
        this
    }

    /// One generation: four files of four parts each.
    pub(crate) fn wide(engine: &Engine) -> Self {
        let this = Self::new(engine);
        let writer = this.store.begin(BeginOptions::new()).wait().expect("begun");
        for group in ["a", "b", "c", "d"] {
            writer.put(source(group, 4 << 20, 1), PutOptions::new().group(group)).wait().expect("a tensor");
        }
        assert_eq!(writer.commit().wait().expect("committed").files, 4);
        this
    }

    /// Two generations of two writers: a tensor that is split between them, a group that the second generation has from the
    /// first, files of many sizes.
    pub(crate) fn several(engine: &Engine) -> Self {
        let this = Self::new(engine);
        for step in 1..=2u64 {
            let options = BeginOptions::new().step(step).writers(2).reference(Reference::Latest);
            let first = this.store.begin(options).wait().expect("begun");
            let second = this.store.join(&first.token(), 1, JoinOptions::new()).wait().expect("joined");
            for (number, writer) in (0u64..).zip([&first, &second]) {
                let rows = PutOptions::new().within([4, 300_000], [2 * number, 0]);
                let declared = Declared { name: "split".into(), dtype: DType::U8, shape: vec![2, 300_000] };
                writer.put(Source { declared, data: bytes(600_000 * number, 600_000, step) }, rows).wait().expect("a piece");
                for (nth, len) in [0, 1, 4096, (1 << 20) + 5].into_iter().enumerate() {
                    writer.put(source(&format!("own.{number}.{nth}"), len, step), PutOptions::new()).wait().expect("a tensor");
                }
            }
            if step == 1 {
                first.put(source("frozen", 2_500_000, 0), PutOptions::new().group("frozen")).wait().expect("a tensor");
            } else {
                let reused = first.reference_group("frozen").wait().expect("the group");
                assert!(reused.linked > 2_500_000, "{reused:?}");
            }
            second.commit().wait().expect("its part");
            first.commit().wait().expect("committed");
        }
        this
    }
}

pub(crate) fn open(engine: &Engine, directory: &Path) -> Checkpoints {
    Checkpoints::open(engine, directory, StoreOptions::new()).wait().expect("a store")
}

fn source(name: &str, len: usize, salt: u64) -> Source<Vec<u8>> {
    let declared = Declared { name: name.into(), dtype: DType::U8, shape: vec![len as u64] };
    Source { declared, data: bytes(name.len() as u64, len, salt) }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

pub(crate) fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    // A lock goes when the commit ends that has made it.
    let read = |name: String| match std::fs::read(directory.join(&name)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && name.starts_with("lock-") => None,
        read => Some((name, read.expect("a file"))),
    };
    names(directory).into_iter().filter_map(read).collect()
}

/// Whether two stores have the same generation, which is whole.
#[track_caller]
pub(crate) fn assert_same_generation(found: &Local, expected: &Local, number: u64) {
    let (files, originals) = (found.files(number), expected.files(number));
    assert_eq!(files.keys().collect::<Vec<_>>(), originals.keys().collect::<Vec<_>>());
    for (name, bytes) in &files {
        crate::harness::assert_same(bytes, &originals[name], name);
    }
    let (found, expected) = (found.generation(number), expected.generation(number));
    assert!(found.verify(None).wait().expect("verified").is_whole());
    let [loaded, original] = [&found, &expected].map(|checkpoint| checkpoint.load(&checkpoint.table().all()).wait().expect("loaded"));
    assert_eq!((loaded.len(), found.step(), found.meta()), (original.len(), expected.step(), expected.meta()));
    for name in expected.table().names() {
        let [loaded, original] = [&loaded, &original].map(|tensors| tensors.get(name).expect("the tensor"));
        assert!(loaded.bytes() == original.bytes(), "the bytes of {name}");
    }
}
