//! Checksums: no flipped bit stays unseen, and what states no checksums, or stale ones, opens all the same.

mod harness;

use deepring_tensors::{DType, LoadOptions, Safetensors, SaveOptions, Source, StreamOptions, Verification, save_sharded};
use harness::{Rng, saved, source};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

fn tensors() -> Vec<Source<Vec<u8>>> {
    vec![
        source("weight", DType::F32, &[20, 10]),
        source("bias", DType::F32, &[10]),
        source("empty", DType::U8, &[0]),
        source("odd", DType::U8, &[33]),
    ]
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_named() {
    let (directory, engine, mut rng) = (harness::directory(), harness::engine(), Rng::new());
    let path = saved(&engine, directory.path(), "model", &tensors(), SaveOptions::new().align(1024).checksums(true));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let whole = model.verify(None).wait().expect("verified");
    assert!(whole.is_whole());
    assert_eq!((whole.verified, whole.unverifiable), (4, 0));
    let places: Vec<_> = model.table().iter().map(|info| (info.name.to_owned(), info.position..info.position + info.len)).collect();
    let start = places.iter().map(|(_, place)| place.start).min().expect("tensors");
    let good = std::fs::read(&path).expect("the file");
    let json = good[8..start as usize].iter().rposition(|&byte| byte != b' ').expect("a header") as u64 + 8;
    assert!(json + 100 < start, "there is padding");
    let file = std::fs::File::options().write(true).open(&path).expect("the file");
    // Every byte of the file, one bit of it.
    for at in 0..good.len() as u64 {
        let bit = 1u8 << rng.below(8);
        file.write_all_at(&[good[at as usize] ^ bit], at).expect("damaged");
        let opened = Safetensors::open(&engine, &path).wait();
        let found = opened.ok().map(|model| (model.verify(None).wait().expect("readable"), model));
        file.write_all_at(&[good[at as usize]], at).expect("mended");
        // A header that is no header any more is noticed, too.
        let Some((found, model)) = found else {
            assert!(at < start, "data do not keep a file from opening");
            continue;
        };
        assert!(!found.is_whole(), "bit {bit:#x} of byte {at} stays unseen");
        let tensor = places.iter().find(|(_, place)| place.contains(&at));
        if tensor.is_none() && found.unverifiable > 0 {
            // The name or the form of the checksums themselves is damaged.
            assert!(at <= json && found.damaged.is_empty(), "{at}");
            continue;
        }
        // Of a header that moved a tensor, there is more damage; the first is that of the header.
        assert_eq!(found.damaged[0].tensor.as_deref(), tensor.map(|(name, _)| name.as_str()), "byte {at}");
        assert_eq!(found.damaged[0].path, path);
        if let Some((name, place)) = tensor {
            assert_eq!((found.damaged.len(), found.damaged[0].position, found.damaged[0].len), (1, place.start, place.end - place.start));
            assert_eq!(found.verified, 3);
            // The bytes are the good ones again; what was found is what they were.
            assert_ne!(found.damaged[0].actual, found.damaged[0].expected);
            assert_eq!(model.checksum(model.table().find(name).expect("there")), Some(found.damaged[0].expected));
        }
    }
    assert!(Safetensors::open(&engine, &path).wait().expect("a model").verify(None).wait().expect("verified").is_whole());
}

#[test]
fn loads_and_streams_that_verify_name_the_tensor() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = saved(&engine, directory.path(), "model", &tensors(), SaveOptions::new().checksums(true));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    let all = model.table().all();
    let load = || model.load_with(&all, LoadOptions::new().verify(true)).wait();
    assert_eq!(load().expect("whole").len(), 4);
    let position = model.table().info(model.table().find("bias").expect("there")).position;
    let file = std::fs::File::options().read(true).write(true).open(&path).expect("the file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, position + 7).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], position + 7).expect("damaged");
    let error = load().expect_err("damaged");
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_CHECKSUM", Some("bias")), "{error}");
    model.load(&all).wait().expect("not asked");
    let mut stream = model.stream(&all, &StreamOptions::new().verify(true)).expect("a stream");
    let error = loop {
        match stream.wait_next() {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("nothing was noticed"),
        }
    };
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_CHECKSUM", Some("bias")));
    assert!(stream.wait_next().is_none());
    let others = model.table().filter(|info| info.name != "bias");
    assert_eq!(model.load_with(&others, LoadOptions::new().verify(true)).wait().expect("whole").len(), 3);
}

#[test]
fn without_checksums_nothing_is_verified_and_nothing_is_called_whole() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let path = saved(&engine, directory.path(), "model", &tensors(), SaveOptions::new());
    let found = Safetensors::open(&engine, &path).wait().expect("a model").verify(None).wait().expect("nothing to do");
    assert_eq!((found.verified, found.unverifiable, found.damaged.len(), found.is_whole()), (0, 4, 0, false));

    // One of two files states them.
    save_sharded(&engine, directory.path(), tensors(), 500, SaveOptions::new().checksums(true)).wait().expect("saved");
    let model = Safetensors::open(&engine, directory.path()).wait().expect("a model");
    assert!(model.verify(None).wait().expect("verified").is_whole());
    let paths =
        vec![path, saved(&engine, directory.path(), "other", &[source("more", DType::U8, &[5])], SaveOptions::new().checksums(true))];
    let model = Safetensors::open_files(&engine, paths, deepring_tensors::OpenOptions::new()).wait().expect("a model");
    let found = model.verify(None).wait().expect("verified");
    assert_eq!((found.verified, found.unverifiable, found.damaged.len()), (1, 4, 0));
}

#[test]
fn stale_and_malformed_checksums_open_and_count_as_none() {
    let (directory, engine) = (harness::directory(), harness::engine());
    let with = saved(&engine, directory.path(), "with", &tensors(), SaveOptions::new().checksums(true));
    let model = Safetensors::open(&engine, &with).wait().expect("a model");
    let metadata: BTreeMap<String, String> = model.metadata().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let value = metadata["deepring.crc32c"].clone();
    let unverifiable = |value: &str, tensor_count: u64| {
        let path = directory.path().join("raw");
        let fields: Vec<String> = (0..tensor_count)
            .map(|nth| format!("\"{nth}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{nth},{}]}}", nth + 1))
            .collect();
        let header = format!("{{\"__metadata__\":{},{}}}", serde_json::json!({ "deepring.crc32c": value }), fields.join(","));
        harness::raw_file(&path, &header, &harness::bytes(tensor_count as usize, 1));
        let found = Safetensors::open(&engine, &path).wait().expect("a model").verify(None).wait().expect("verified");
        assert_eq!(found.unverifiable, tensor_count, "{value}: {found:?}");
        assert!(!found.is_whole());
    };
    // Of another file, by a program that copies metadata: as many tensors, or not.
    unverifiable(&value, 3);
    unverifiable(&value, 5);
    let (front, digits) = value.rsplit_once(';').expect("two parts");
    for wrong in [
        "",
        "1;",
        "1;;",
        "2;AAAA;00000000",
        "AAAAAAAA",
        "1;AAAAAAAAAAAAAAAAAAAAAA;0000000",
        "1;AAAAAAAAAAAAAAAAAAAAAA==;",
        "1;====;00000000",
    ] {
        unverifiable(wrong, 4);
    }
    unverifiable(&format!("{front};{}", digits.to_uppercase().replace(|char: char| char.is_ascii_digit(), "A")), 4);
    unverifiable(&format!("{front};+{}", &digits[1..]), 4);
    unverifiable(&value.replace("1;", "1; "), 4);
    // Saved again without checksums, none are copied; with them, they are those of the new file.
    let again = saved(&engine, directory.path(), "again", &tensors(), SaveOptions::new().metadata(metadata.clone()));
    assert_eq!(Safetensors::open(&engine, &again).wait().expect("a model").metadata().get("deepring.crc32c"), None);
    let other = [source("other", DType::U8, &[9]), source("more", DType::U8, &[3])];
    let sealed = saved(&engine, directory.path(), "sealed", &other, SaveOptions::new().checksums(true).metadata(metadata));
    assert!(Safetensors::open(&engine, &sealed).wait().expect("a model").verify(None).wait().expect("verified").is_whole());
}

#[test]
fn metadata_that_look_like_checksums_do_not_confuse_those_of_the_file() {
    let (directory, engine) = (harness::directory(), harness::engine());
    // What the place of the checksums has before they are known, and the key in a value, and as a tensor.
    let zeros = "1;AAAAAAAAAAAAAAAAAAAAAA==;00000000";
    let metadata = BTreeMap::from([
        ("a".to_owned(), zeros.to_owned()),
        ("b".to_owned(), format!("\"deepring.crc32c\":\"{zeros}\"")),
        ("z".to_owned(), zeros.to_owned()),
    ]);
    let mut tensors = tensors();
    tensors[3].declared.name = "deepring.crc32c".into();
    let path = saved(&engine, directory.path(), "model", &tensors, SaveOptions::new().checksums(true).metadata(metadata.clone()));
    let model = Safetensors::open(&engine, &path).wait().expect("a model");
    assert!(metadata.iter().all(|(key, value)| model.metadata().get(key) == Some(value.as_str())));
    let found = model.verify(None).wait().expect("verified");
    assert_eq!(found.damaged, Verification::default().damaged);
    assert!(found.is_whole());
}
