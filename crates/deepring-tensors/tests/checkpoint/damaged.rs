//! Generations that are damaged: each is refused with what is wrong and where, and passed over in favor of an older one.

use crate::harness::{directory, engine, names_in, source};
use crate::model::{generation, is_clean, sealed, store};
use crate::reading::saved;
use deepring::Engine;
use deepring_tensors::checkpoint::{BeginOptions, Check, CheckpointOptions, Checkpoints, PutOptions};
use deepring_tensors::{DType, Declared, Error, LoadOptions, Reason, Slice, Source, StreamOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A whole tensor of three chunks and a bit, and one in two pieces of rows, of two chunks each.
fn write(store: &Checkpoints) -> u64 {
    let writer = store.begin(BeginOptions::new()).wait().expect("a writer");
    writer.put(source("whole", DType::U8, &[(3 << 20) + 100]), PutOptions::new()).wait().expect("put");
    let Source { data, .. } = source("split", DType::F32, &[1024, 1024]);
    for (nth, half) in data.chunks(2 << 20).enumerate() {
        let declared = Declared { name: "split".into(), dtype: DType::F32, shape: vec![512, 1024] };
        let options = PutOptions::new().within([1024, 1024], [512 * nth as u64, 0]);
        writer.put(Source { declared, data: half.to_vec() }, options).wait().expect("put");
    }
    writer.commit().wait().expect("a commit").number
}

/// Two generations, of which the second is to be damaged.
fn two(place: &Path, engine: &Engine) -> (Checkpoints, PathBuf) {
    let store = store(engine, place);
    assert_eq!((write(&store), write(&store)), (1, 2));
    let second = generation(place, 2);
    (store, second)
}

/// Changes the bytes of a file, looks, and changes them back.
fn with(path: &Path, change: impl FnOnce(&mut Vec<u8>), look: impl FnOnce()) {
    let good = std::fs::read(path).expect("a file");
    let mut bad = good.clone();
    change(&mut bad);
    std::fs::write(path, &bad).expect("damaged");
    look();
    std::fs::write(path, &good).expect("mended");
}

/// The second generation is refused for this reason, which names the file, and passed over.
fn refused(store: &Checkpoints, file: &Path, reasons: &[Reason]) {
    let is_right = |error: &Error| matches!(error, Error::Format { reason, path, .. } if reasons.contains(reason) && path == file);
    let error = store.generation(2).wait().expect_err("damaged");
    assert!(is_right(&error), "{reasons:?} of {}: {error}", file.display());
    let latest = store.latest(Check::Sizes).wait().expect("a look");
    assert_eq!(latest.checkpoint.map(|checkpoint| checkpoint.number()), Some(1));
    assert_eq!(latest.skipped.iter().map(|skipped| skipped.generation).collect::<Vec<_>>(), [2]);
    assert!(is_right(&latest.skipped[0].reason));
}

fn replaced(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).expect("text");
    assert!(text.contains(from), "{text}");
    *bytes = sealed(&text.replacen(from, to, 1));
}

#[test]
fn a_manifest_or_part_that_was_changed_cut_or_is_anothers_is_refused() {
    let (place, engine) = (directory(), engine());
    let (store, second) = two(place.path(), &engine);
    let first = generation(place.path(), 1);
    for (name, wrong) in [("manifest.json", Reason::Manifest), ("part-00000.json", Reason::Part)] {
        let path = second.join(name);
        let len = std::fs::metadata(&path).expect("a file").len() as usize;
        for at in [0, 1, 20, len / 2, len - 12, len - 1] {
            with(&path, |bytes| bytes[at] ^= 1, || refused(&store, &path, &[wrong]));
            with(&path, |bytes| bytes.truncate(at), || refused(&store, &path, &[wrong]));
        }
        let version = |bytes: &mut Vec<u8>| replaced(bytes, "\"version\":1", "\"version\":2");
        with(&path, version, || refused(&store, &path, &[Reason::Version, wrong]));
        let other = std::fs::read(first.join(name)).expect("a file");
        with(&path, |bytes| *bytes = other, || refused(&store, &path, &[Reason::Identity, wrong]));
        let large = |bytes: &mut Vec<u8>| bytes.resize(100 << 20, b' ');
        with(&path, large, || refused(&store, &path, &[Reason::TooLarge, wrong]));
        let hidden = second.join("hidden");
        std::fs::rename(&path, &hidden).expect("hidden");
        refused(&store, &path, &[wrong]);
        std::fs::rename(&hidden, &path).expect("back");
    }
    // Versions are looked at before anything else that a part could have wrong.
    let path = second.join("manifest.json");
    let version = |bytes: &mut Vec<u8>| replaced(bytes, "\"version\":1", "\"version\":2");
    with(&path, version, || refused(&store, &path, &[Reason::Version]));
    // A part of the same generation that the manifest does not sum.
    let path = second.join("part-00000.json");
    with(&path, |bytes| replaced(bytes, "\"crcs\":\"", "\"crcs\": \""), || refused(&store, &path, &[Reason::Identity, Reason::Part]));
    assert_eq!(store.generation(2).wait().expect("all is mended").number(), 2);
    // The directory of another number.
    std::fs::rename(&second, generation(place.path(), 3)).expect("renamed");
    let error = store.generation(3).wait().expect_err("its manifest is of 2");
    assert!(matches!(error, Error::Format { reason: Reason::Identity, .. }), "{error}");
}

fn data_files(of: &Path) -> Vec<PathBuf> {
    names_in(of).into_iter().filter(|name| name.ends_with(".safetensors")).map(|name| of.join(name)).collect()
}

#[test]
fn a_data_file_that_is_missing_short_or_of_another_generation_is_refused_by_name() {
    let (place, engine) = (directory(), engine());
    let (store, second) = two(place.path(), &engine);
    for path in data_files(&second) {
        let hidden = second.join("hidden");
        std::fs::rename(&path, &hidden).expect("hidden");
        refused(&store, &path, &[Reason::Part]);
        std::fs::rename(&hidden, &path).expect("back");
        let short = |len: usize| move |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - len);
        with(&path, short(1), || refused(&store, &path, &[Reason::Truncated]));
        with(&path, |bytes| bytes.truncate(7), || refused(&store, &path, &[Reason::TooShort]));
        with(&path, |bytes| bytes.push(0), || refused(&store, &path, &[Reason::Trailing]));
        // The same name, size and shapes; another generation.
        let other = std::fs::read(generation(place.path(), 1).join(path.file_name().expect("a name"))).expect("a file");
        with(&path, |bytes| *bytes = other, || refused(&store, &path, &[Reason::Identity]));
        // In the spaces behind the text, where nothing else would notice it.
        let in_header = |bytes: &mut Vec<u8>| {
            let len = u64::from_le_bytes(bytes[..8].try_into().expect("eight")) as usize;
            bytes[8 + len - 1] = b'\n';
        };
        with(&path, in_header, || refused(&store, &path, &[Reason::Part]));
    }
    // Two files of a generation in each other's place.
    let files = data_files(&second);
    let [one, two] = &files[..2] else { panic!("two files") };
    let other = std::fs::read(two).expect("a file");
    with(one, |bytes| *bytes = other, || refused(&store, one, &[Reason::Truncated, Reason::Part]));
    assert!(store.generation(2).wait().expect("all is mended").verify(None).wait().expect("verified").is_whole());
}

/// Flips a bit of a file.
fn flip(path: &Path, position: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).expect("a byte");
    file.write_all_at(&[byte[0] ^ 4], position).expect("a bit");
}

#[test]
fn a_flipped_bit_names_tensor_file_and_chunk_and_loads_of_it_fail() {
    let (place, engine) = (directory(), engine());
    let (store, second) = two(place.path(), &engine);
    let checkpoint = store.generation(2).wait().expect("a generation");
    let mib = 1u64 << 20;
    let whole = checkpoint.table().info(checkpoint.table().find("whole").expect("there"));
    let (whole_path, whole_position) = (whole.path.to_owned(), whole.position);
    // Its last piece: each begins its file, behind the header.
    let (piece_path, piece_position) = data_files(&second)
        .into_iter()
        .filter(|path| *path != whole_path)
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a file");
            let position = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight"));
            (path, position)
        })
        .next_back()
        .expect("a piece");
    let all = checkpoint.table().all();
    let places = [
        ("whole", &whole_path, whole_position, mib, whole_position + 5),
        ("whole", &whole_path, whole_position + 3 * mib, 100, whole_position + 3 * mib + 99),
        ("split", &piece_path, piece_position + mib, mib, piece_position + 2 * mib - 1),
    ];
    for (name, path, position, len, at) in places {
        flip(path, at);
        let found = checkpoint.verify(None).wait().expect("readable");
        let [damage] = &found.damaged[..] else { panic!("one damage: {found:?}") };
        assert_eq!((damage.tensor.as_deref(), &damage.path, damage.position, damage.len), (Some(name), path, position, len));
        assert_eq!((found.verified, found.is_whole()), (1, false));
        let is_it = |error: &Error| matches!(error, Error::Checksum { tensor, path: found, position: p, .. } if tensor == name && found == path && *p == position);
        // Without being asked.
        let error = checkpoint.load(&all).wait().expect_err("damaged");
        assert!(is_it(&error), "{error}");
        let mut stream = checkpoint.stream(&all, &StreamOptions::new()).expect("a stream");
        let error = std::iter::from_fn(|| stream.wait_next()).find_map(Result::err).expect("damaged");
        assert!(is_it(&error), "{error}");
        checkpoint.load_with(&all, LoadOptions::new().verify(false)).wait().expect("not looked at");
        // It opens, and is passed over by who asks for all.
        assert_eq!(store.latest(Check::Sizes).wait().expect("a look").checkpoint.map(|checkpoint| checkpoint.number()), Some(2));
        let latest = store.latest(Check::All).wait().expect("a look");
        assert_eq!(latest.checkpoint.map(|checkpoint| checkpoint.number()), Some(1));
        assert!(is_it(&latest.skipped[0].reason));
        // Nothing of a copy stays.
        let backup = place.path().join("backup");
        let error = checkpoint.copy_to(&backup, None).wait().expect_err("damaged");
        assert!(is_it(&error) && is_clean(&backup) && !generation(&backup, 2).exists(), "{error}");
        flip(path, at);
    }
    assert!(checkpoint.verify(None).wait().expect("verified").is_whole());
    // Rows of which a chunk is only a part are not compared; those that are whole chunks are.
    flip(&piece_path, piece_position + mib + 9);
    let rows = |rows: std::ops::Range<u64>| checkpoint.tensor("split", Some(Slice::new([Some(rows)]))).wait();
    rows(700..800).expect("a part of each of two chunks");
    rows(0..768).expect("whole chunks");
    let error = rows(700..1024).expect_err("its last chunk is whole");
    assert_eq!(error.tensor(), Some("split"));
    flip(&piece_path, piece_position + mib + 9);
    // A header that changes while the generation is open.
    flip(&piece_path, piece_position - 1);
    let found = checkpoint.verify(None).wait().expect("readable");
    assert_eq!(found.damaged.iter().map(|damage| (damage.tensor.clone(), damage.path.clone())).collect::<Vec<_>>(), [(None, piece_path)]);
}

#[test]
fn a_directory_without_a_manifest_is_no_generation() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    saved(&store, vec![source("x", DType::U8, &[9])], CheckpointOptions::new());
    let empty = generation(place.path(), 2);
    std::fs::create_dir(&empty).expect("a directory");
    let error = store.generation(2).wait().expect_err("no manifest");
    assert!(matches!(&error, Error::Format { reason: Reason::Manifest, path, .. } if *path == empty.join("manifest.json")), "{error}");
    assert_eq!(store.latest(Check::All).wait().expect("a look").checkpoint.map(|checkpoint| checkpoint.number()), Some(1));
}
