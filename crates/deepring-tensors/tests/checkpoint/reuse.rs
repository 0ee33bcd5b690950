//! Bytes of older generations that are taken over.

use crate::disks::Mounted;
use crate::harness::{directory, engine, names_in, source};
use crate::model::{check, generation, mixed, store};
use deepring_tensors::checkpoint::{BeginOptions, JoinOptions, PutOptions, Reference, Reused};
use deepring_tensors::{DType, Declared, Error, Source};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn a_group_gets_second_names_and_a_tensor_is_copied() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let (frozen, trained) = (mixed("frozen"), mixed("trained"));
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    writer.put_all(frozen.clone(), "frozen").wait().expect("put");
    writer.put_all(trained.clone(), "main").wait().expect("put");
    writer.commit().wait().expect("a commit");

    let writer = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().expect("a writer");
    let group = writer.reference_group("frozen").wait().expect("taken over");
    let path = generation(place.path(), 1).join("data-00000-frozen-00000.safetensors");
    assert_eq!((group.linked, group.copied), (std::fs::metadata(&path).expect("the file").len(), 0));
    let mut copied = 0;
    for tensor in &trained {
        let taken = writer.reference(tensor.declared.name.clone()).wait().expect("taken over");
        assert_eq!(taken.linked + taken.cloned + taken.copied, tensor.data.len() as u64);
        copied += tensor.data.len() as u64;
    }
    let made = writer.commit().wait().expect("a commit");
    assert_eq!((made.reused.linked, made.reused.cloned + made.reused.copied), (group.linked, copied));
    let at = generation(place.path(), 2);
    check(&engine, &at, &[frozen.clone(), trained.clone()].concat());
    let linked = std::fs::metadata(at.join("data-00000-frozen-00000.safetensors")).expect("the file");
    assert_eq!((linked.ino(), linked.nlink()), (std::fs::metadata(&path).expect("the file").ino(), 2));

    // Once more, from a generation that has taken over itself; the first one goes.
    let writer = store.begin(BeginOptions::new().reference(Reference::Generation(2))).wait().expect("a writer");
    writer.reference_group("frozen").wait().expect("taken over");
    writer.reference(trained[8].declared.name.clone()).wait().expect("taken over");
    writer.commit().wait().expect("a commit");
    store.remove(1).wait().expect("removed");
    store.remove(2).wait().expect("removed");
    let mut expected = frozen;
    expected.push(trained[8].clone());
    check(&engine, &generation(place.path(), 3), &expected);
}

#[test]
fn what_is_not_there_cannot_be_taken_over() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let empty = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().expect("a writer");
    let missing = |error: Error| assert_eq!(error.code(), "ERR_DEEPRING_NOT_FOUND", "{error}");
    missing(empty.reference("x").wait().expect_err("no generation"));
    missing(empty.reference_group("main").wait().expect_err("no generation"));
    empty.put(source("x", DType::U8, &[5]), PutOptions::new()).wait().expect("put");
    empty.commit().wait().expect("a commit");
    missing(store.begin(BeginOptions::new().reference(Reference::Generation(9))).wait().expect_err("no generation"));
    let writer = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().expect("a writer");
    missing(writer.reference("y").wait().expect_err("no tensor"));
    missing(writer.reference_group("frozen").wait().expect_err("no group"));
    writer.reference("x").wait().expect("taken over");
    assert!(matches!(writer.reference("x").wait(), Err(Error::Argument(_))), "twice");
    writer.commit().wait().expect("a commit");
}

#[test]
fn damage_is_found_when_bytes_are_copied() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    writer.put_all(vec![source("good", DType::U8, &[3000]), source("bad", DType::U8, &[2000])], "main").wait().expect("put");
    writer.commit().wait().expect("a commit");
    let path = generation(place.path(), 1).join("data-00000-main-00000.safetensors");
    let mut bytes = std::fs::read(&path).expect("the file");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let writer = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().expect("a writer");
    writer.reference("good").wait().expect("taken over");
    let error = writer.reference("bad").wait().expect_err("damaged");
    assert!(matches!(&error, Error::Checksum { tensor, .. } if tensor == "bad"), "{error}");
    assert!(writer.commit().wait().is_err(), "the checkpoint has failed");
    assert_eq!(store.list().wait().expect("a list"), [1]);
}

#[test]
fn pieces_are_taken_over_with_their_places() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let whole = source("w", DType::U8, &[4, 3]);
    let piece = |first: usize| {
        let declared = Declared { name: "w".into(), dtype: DType::U8, shape: vec![2, 3] };
        let data = whole.data[first * 3..(first + 2) * 3].to_vec();
        (Source { declared, data }, PutOptions::new().within([4, 3], [first as u64, 0]))
    };
    let first = store.begin(BeginOptions::new().writers(2)).wait().expect("a writer");
    let second = store.join(&first.token(), 1, JoinOptions::new()).wait().expect("joined");
    for (writer, (source, options)) in [(&first, piece(0)), (&second, piece(2))] {
        writer.put(source, options).wait().expect("put");
    }
    second.commit().wait().expect("its part");
    first.commit().wait().expect("a commit");
    for (number, by_group) in [(2, true), (3, false)] {
        let writer = store.begin(BeginOptions::new().reference(Reference::Latest).writers(2)).wait().expect("a writer");
        let other = store.join(&writer.token(), 1, JoinOptions::new()).wait().expect("joined");
        if by_group { writer.reference_group("main").wait() } else { other.reference("w").wait() }.expect("taken over");
        other.commit().wait().expect("its part");
        writer.commit().wait().expect("the pieces cover it");
        let found = crate::model::read(&engine, &generation(place.path(), number));
        let bytes: Vec<u8> = found["w"].iter().flat_map(|(_, _, bytes)| bytes.clone()).collect();
        assert_eq!(bytes, whole.data);
    }
}

/// Groups and tensors that a second generation takes over on a disk.
struct Taken {
    group: Reused,
    aligned: Reused,
    odd: Reused,
}

/// Takes over a group, a tensor that fills blocks, and one that does not, from a first generation, which `meanwhile` changes
/// before. Checks the bytes, also when the first one is gone.
fn take_over(place: &Path, meanwhile: impl FnOnce(&Path)) -> Taken {
    let engine = engine();
    let store = store(&engine, place);
    let frozen = vec![source("frozen.a", DType::F32, &[300, 1000]), source("frozen.b", DType::U8, &[77])];
    let single = [source("aligned", DType::U8, &[1 << 20]), source("odd", DType::U8, &[300_001])];
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    writer.put_all(frozen.clone(), "frozen").wait().expect("put");
    for tensor in &single {
        writer.put(tensor.clone(), PutOptions::new()).wait().expect("put");
    }
    writer.commit().wait().expect("a commit");
    meanwhile(&generation(place, 1));
    let writer = store.begin(BeginOptions::new().reference(Reference::Latest)).wait().expect("a writer");
    let group = writer.reference_group("frozen").wait().expect("taken over");
    let [aligned, odd]: [Reused; 2] =
        single.each_ref().map(|tensor| writer.reference(tensor.declared.name.clone()).wait().expect("taken over"));
    let made = writer.commit().wait().expect("a commit");
    let sum = |of: fn(&Reused) -> u64| [group, aligned, odd].iter().map(of).sum::<u64>();
    let expected = (sum(|reused| reused.linked), sum(|reused| reused.cloned), sum(|reused| reused.copied));
    assert_eq!((made.reused.linked, made.reused.cloned, made.reused.copied), expected, "the receipt of the commit");
    let all = [&frozen[..], &single].concat();
    check(&engine, &generation(place, 2), &all);
    // The files of the first one, not their bytes.
    for name in names_in(&generation(place, 1)) {
        std::fs::remove_file(generation(place, 1).join(name)).expect("a file");
    }
    check(&engine, &generation(place, 2), &all);
    let second = store.generation(2).wait().expect("a generation");
    assert!(second.verify(None).wait().expect("verified").is_whole());
    Taken { group, aligned, odd }
}

/// All bytes came in this way alone.
#[track_caller]
fn all(of: Reused, bytes: u64, way: fn(&Reused) -> u64) {
    let Reused { linked, cloned, copied, .. } = of;
    assert_eq!((way(&of), linked + cloned + copied), (bytes, bytes), "{of:?}");
}

/// What is taken over on a file system of this kind, whose tensors are cloned or copied.
fn on(kind: &str, way: fn(&Reused) -> u64) {
    let place = directory();
    let at = place.path().join(kind);
    let Some(_mounted) = Mounted::image(kind, &at) else { return };
    let Taken { group, aligned, odd } = take_over(&at, |_| {});
    assert!(group.linked > 1_200_000 && group.cloned + group.copied == 0, "{group:?}");
    all(aligned, 1 << 20, way);
    all(odd, 300_001, |reused| reused.copied);
}

#[test]
fn on_xfs_tensors_that_fill_blocks_are_cloned() {
    on("xfs", |reused| reused.cloned);
}

#[test]
fn on_btrfs_tensors_that_fill_blocks_are_cloned() {
    on("btrfs", |reused| reused.cloned);
}

#[test]
fn on_ext4_tensors_are_copied() {
    on("ext4", |reused| reused.copied);
}

#[test]
fn in_memory_files_are_linked_and_tensors_are_copied() {
    let place = directory();
    let Some(_mounted) = Mounted::memory(place.path(), "64m") else { return };
    let Taken { group, aligned, .. } = take_over(place.path(), |_| {});
    assert!(group.linked > 1_200_000 && group.cloned + group.copied == 0, "{group:?}");
    all(aligned, 1 << 20, |reused| reused.copied);
}

#[test]
fn a_file_with_as_many_names_as_it_can_have_is_copied() {
    /// What ext4 allows.
    const NAMES_MAX: u64 = 65_000;
    let place = directory();
    let at = place.path().join("ext4");
    let Some(_mounted) = Mounted::image("ext4", &at) else { return };
    let names = at.join("names");
    std::fs::create_dir(&names).expect("a directory");
    let Taken { group, .. } = take_over(&at, |first| {
        let file = first.join("data-00000-frozen-00000.safetensors");
        (1..NAMES_MAX).for_each(|nth| std::fs::hard_link(&file, names.join(nth.to_string())).expect("one more name"));
        let error = std::fs::hard_link(&file, names.join("last")).expect_err("too many");
        assert_eq!(error.kind(), std::io::ErrorKind::TooManyLinks, "{error}");
    });
    assert!(group.copied > 1_200_000 && group.linked + group.cloned == 0, "{group:?}");
}

#[test]
fn across_mounts_everything_is_copied() {
    let place = directory();
    let (aside, mut mounted) = (place.path().join("aside"), None);
    let taken = take_over(place.path(), |first| {
        // The first generation comes to a file system of its own, if that can be mounted.
        std::fs::rename(first, &aside).expect("moved");
        std::fs::create_dir(first).expect("a directory");
        mounted = Mounted::memory(first, "64m");
        for name in names_in(&aside) {
            std::fs::copy(aside.join(&name), first.join(&name)).expect("a copy");
        }
    });
    if mounted.is_some() {
        let Taken { group, aligned, odd } = taken;
        assert!(group.copied > 1_200_000 && group.linked + group.cloned == 0, "{group:?}");
        all(aligned, 1 << 20, |reused| reused.copied);
        all(odd, 300_001, |reused| reused.copied);
    }
}
