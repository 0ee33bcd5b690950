//! The checker is given what it must reject.

use super::tally::Broken;
use super::{FILE, INDEX, Rng, Saves, Seen, Stream, Tally};
use deepring::Engine;
use std::path::Path;
use tempfile::TempDir;

const SEED: u64 = 23;

struct Place {
    folder: TempDir,
    engine: Engine,
    rng: Rng,
}

impl Place {
    fn new() -> Self {
        Self { folder: crate::harness::directory(), engine: Engine::builder().build().expect("an engine"), rng: Rng::seeded(SEED) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn saves(&self, stream: Stream) -> Saves {
        Saves::new(SEED, stream, self.path())
    }

    fn save(&mut self, stream: Stream, version: u64) {
        self.saves(stream).save(&self.engine, version, &mut self.rng, None).expect("a save");
    }

    fn look(&self, stream: Stream) -> Seen {
        self.saves(stream).look(&self.engine)
    }

    fn assert_wrong(&self, stream: Stream, what: &str) {
        let seen = self.look(stream);
        let wrong = seen.wrong.as_deref().unwrap_or_else(|| panic!("{seen:?} is not wrong: {what}"));
        assert!(wrong.contains(what), "{wrong}, not {what}");
    }

    /// Directories of generations, the oldest first.
    fn generations(&self) -> Vec<std::path::PathBuf> {
        let paths = std::fs::read_dir(self.path()).expect("the folder").map(|entry| entry.expect("an entry").path());
        let mut generations: Vec<_> = paths.filter(|path| path.is_dir()).collect();
        generations.sort();
        generations
    }

    /// Files of the index, with their bytes.
    fn shards(&self) -> Vec<(String, Vec<u8>)> {
        let names = std::fs::read_dir(self.path()).expect("the folder").map(|entry| entry.expect("an entry").file_name());
        let names = names.map(|name| name.into_string().expect("UTF-8")).filter(|name| name.starts_with("model-"));
        names.map(|name| (name.clone(), std::fs::read(self.path().join(&name)).expect("a file"))).collect()
    }
}

#[test]
fn every_version_is_found_whole_and_leaves_nothing_beside_it() {
    for stream in Stream::SAVES {
        let mut place = Place::new();
        assert_eq!(place.look(stream), Seen { stream, version: None, leftovers: 0, wrong: None });
        for version in 1..40 {
            place.save(stream, version);
            assert_eq!(place.look(stream), Seen { stream, version: Some(version), leftovers: 0, wrong: None });
        }
    }
}

#[test]
fn versions_differ_in_names_shapes_and_bytes() {
    let place = Place::new();
    for number in 1..100 {
        let (one, other) = (place.saves(Stream::Model).version(number), place.saves(Stream::Model).version(number + 1));
        assert_ne!(one.declared, other.declared);
        let all = one.bytes();
        assert_eq!(one.tensors().iter().flat_map(|tensor| tensor.data.clone()).collect::<Vec<_>>(), all);
        assert!(all.len() < 8 || !other.bytes().starts_with(&all), "version {number}");
    }
}

#[test]
fn a_model_that_is_not_one_whole_version_is_wrong() {
    let mut place = Place::new();
    place.save(Stream::Model, 4);
    let path = place.path().join(FILE);
    let whole = std::fs::read(&path).expect("the file");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("the file");

    let mut changed = whole.clone();
    *changed.last_mut().expect("a byte") ^= 1;
    write(&changed);
    place.assert_wrong(Stream::Model, "version 4: ");
    // In the padding of the header, which no tensor has.
    let mut changed = whole.clone();
    let padding = u64::from_le_bytes(*whole.first_chunk().expect("a length")) as usize + 7;
    changed[padding] = b'\t';
    write(&changed);
    place.assert_wrong(Stream::Model, "version 4 has other checksums");
    write(&whole[..whole.len() - 1]);
    place.assert_wrong(Stream::Model, "it cannot be opened");
    write(&vec![0; whole.len()]);
    place.assert_wrong(Stream::Model, "it cannot be opened");
    write(b"");
    place.assert_wrong(Stream::Model, "it cannot be opened");
    write(&whole);
    assert_eq!(place.look(Stream::Model).version, Some(4));
    std::fs::write(place.path().join("model.safetensors.old"), b"").expect("a file");
    place.assert_wrong(Stream::Model, "is beside it");
}

#[test]
fn a_mixture_of_two_models_is_wrong() {
    let mut place = Place::new();
    // A version in several files.
    let number = (1..100).find(|&number| {
        place.save(Stream::Shards, number);
        place.shards().len() > 2
    });
    let number = number.expect("a version");
    let before = place.shards();
    for shard in &before {
        let path = place.path().join(&shard.0);
        for bytes in [&b""[..], &vec![0; shard.1.len()], &before.iter().find(|other| *other != shard).expect("another").1] {
            std::fs::write(&path, bytes).expect("the file");
            place.assert_wrong(Stream::Shards, "");
        }
        std::fs::remove_file(&path).expect("the file");
        place.assert_wrong(Stream::Shards, "it cannot be opened");
        std::fs::write(&path, &shard.1).expect("the file");
    }
    // What no index names is left over, and is not the model.
    std::fs::write(place.path().join("model-00001-of-00002.safetensors"), b"half").expect("a file");
    std::fs::write(place.path().join(format!(".{INDEX}.1-1.tmp")), b"half").expect("a file");
    assert_eq!(place.look(Stream::Shards), Seen { stream: Stream::Shards, version: Some(number), leftovers: 2, wrong: None });
    place.saves(Stream::Shards).tidy(&place.engine).expect("tidied");
    assert_eq!(place.look(Stream::Shards).leftovers, 0);
    std::fs::remove_file(place.path().join(INDEX)).expect("the index");
    assert_eq!(place.look(Stream::Shards), Seen { stream: Stream::Shards, version: None, leftovers: before.len() as u64, wrong: None });
}

#[test]
fn only_the_last_acknowledged_version_and_the_one_begun_can_be_there() {
    let seen = |version| Seen { stream: Stream::Model, version, leftovers: 1, wrong: None };
    let mut tally = Tally::default();
    assert_eq!(tally.judge(&seen(None)), Ok(()));
    tally.begin(tally.next());
    assert_eq!(tally.clone().judge(&seen(None)), Ok(()));
    assert_eq!(tally.clone().judge(&seen(Some(1))), Ok(()));
    for version in 1..=7 {
        tally.acknowledge(version);
    }
    tally.begin(8);
    let judge = |version| tally.clone().judge(&seen(version));
    assert_eq!((judge(Some(7)), judge(Some(8))), (Ok(()), Ok(())));
    assert!(matches!(judge(None), Err(Broken::Lost(_))));
    assert!(matches!(judge(Some(6)), Err(Broken::Lost(_))));
    assert!(matches!(judge(Some(9)), Err(Broken::Mixed(_))));
    assert!(matches!(tally.clone().judge(&Seen { wrong: Some("half".into()), ..seen(None) }), Err(Broken::Mixed(_))));
    assert_eq!((tally.acknowledged(), tally.leftovers(), tally.next()), (7, 1, 9));
    // What was found has to stay.
    assert_eq!(tally.judge(&seen(Some(8))), Ok(()));
    assert!(matches!(tally.judge(&seen(Some(7))), Err(Broken::Lost(_))));
    // What was begun and did not come is gone for good.
    tally.begin(9);
    assert_eq!(tally.judge(&seen(Some(8))), Ok(()));
    tally.begin(10);
    assert!(matches!(tally.judge(&seen(Some(9))), Err(Broken::Mixed(_))));
}

#[test]
fn every_generation_is_found_whole_with_the_one_before() {
    for stream in Stream::CHECKPOINTS {
        let mut place = Place::new();
        assert_eq!(place.look(stream), Seen { stream, version: None, leftovers: 0, wrong: None });
        for version in 1..25 {
            place.save(stream, version);
            assert_eq!(place.look(stream), Seen { stream, version: Some(version), leftovers: 0, wrong: None });
        }
        assert_eq!(place.generations().len(), 2);
    }
}

#[test]
fn a_generation_that_is_not_whole_is_wrong_also_the_one_before() {
    for stream in Stream::CHECKPOINTS {
        let mut place = Place::new();
        (1..=3).for_each(|version| place.save(stream, version));
        for generation in place.generations() {
            for file in std::fs::read_dir(&generation).expect("a generation") {
                let path = file.expect("a file").path();
                let whole = std::fs::read(&path).expect("the file");
                let mut changed = whole.clone();
                *changed.last_mut().expect("a byte") ^= 0x44;
                for bytes in [&changed[..], &whole[..whole.len() / 2], &vec![0; whole.len()]] {
                    std::fs::write(&path, bytes).expect("the file");
                    let seen = place.look(stream);
                    assert!(seen.wrong.is_some(), "{}: {seen:?}", path.display());
                }
                std::fs::write(&path, &whole).expect("the file");
            }
        }
        assert_eq!(place.look(stream).version, Some(3));
    }
}

#[test]
fn a_generation_that_is_missing_or_in_anothers_place_is_wrong() {
    let stream = Stream::Checkpoint;
    let mut place = Place::new();
    (1..=3).for_each(|version| place.save(stream, version));
    let [before, newest] = &place.generations()[..] else { panic!("two generations") };
    let aside = place.folder.path().join("aside");
    let moved = |from: &Path, to: &Path| std::fs::rename(from, to).expect("a rename");
    moved(before, &aside);
    place.assert_wrong(stream, "aside is beside");
    let elsewhere = crate::harness::directory();
    let aside_elsewhere = elsewhere.path().join("aside");
    moved(&aside, &aside_elsewhere);
    place.assert_wrong(stream, "which is not there");
    moved(newest, before);
    place.assert_wrong(stream, "cannot be opened");
    moved(before, newest);
    moved(&aside_elsewhere, before);
    for name in [".trash-000000000001", ".tmp-000000000004"] {
        let left = place.path().join(format!("{name}-00112233445566778899aabbccddeeff"));
        std::fs::create_dir(&left).expect("a directory");
        std::fs::write(left.join("lock-00000"), b"").expect("a file");
    }
    assert_eq!(place.look(stream), Seen { stream, version: Some(3), leftovers: 2, wrong: None });
    place.saves(stream).tidy(&place.engine).expect("tidied");
    assert_eq!(place.look(stream), Seen { stream, version: Some(3), leftovers: 0, wrong: None });
}
