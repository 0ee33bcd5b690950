//! Files and numbers beyond 4 GiB, and very many tensors.
//!
//! What moves all of its bytes takes minutes of debug build and gigabytes of a drive, so it is ignored by default:
//! `cargo test --release -p deepring-tensors --test swap -- --ignored large`.

use crate::harness::{directory, engine, raw_file};
use crate::model::{MIB, assert_idle, assert_version, content, put, store, tensor};
use deepring_tensors::swap::{SwapOptions, SwapStore};
use deepring_tensors::{DType, Declared, Error, Safetensors, Source};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Neither fits 32 bits.
const LARGE: u64 = 5 << 30;

/// More than a page.
const SMALL: usize = 5000;

/// A store that was closed with a tensor of 5 GiB of zeros and one behind it: written by hand, and without the space.
fn sparse(path: &Path) {
    std::fs::create_dir(path).expect("a directory");
    let data = File::create(path.join("data")).expect("the data");
    data.set_len(LARGE + 8192).expect("a length");
    data.write_all_at(&content("behind", SMALL, 1), LARGE).expect("written");
    let fields = format!(
        "{{\"format\":\"deepring-swap\",\"version\":1,\"capacity\":{},\"tensors\":[\n\
         [\"large\",\"U8\",[{LARGE}],0,null],\n[\"behind\",\"U8\",[{SMALL}],{LARGE},null]]",
        LARGE + 8192
    );
    let sealed = format!("{fields},\"crc32c\":\"{:08x}\"}}\n", deepring::crc32c(fields.as_bytes()));
    std::fs::write(path.join("index"), sealed).expect("the index");
}

#[track_caller]
fn assert_needs(error: Error, bytes: u64) {
    match error {
        Error::Budget { needed, budget, .. } => assert_eq!((needed, budget), (bytes, 8 * MIB as u64)),
        other => panic!("{other}"),
    }
}

#[test]
fn places_beyond_4_gib_are_read_written_and_given_again() {
    let (place, engine) = (directory(), engine());
    for durable in [false, true] {
        let path = place.path().join(durable.to_string());
        sparse(&path);
        let options = || SwapOptions::new(8 * MIB as u64).durable(durable);
        let first = store(&engine, &path, options());
        assert_eq!(first.info("large").map(|info| info.len), Some(LARGE));
        assert_needs(first.get("large").wait().expect_err("it cannot fit"), LARGE);
        assert_needs(first.get_mut("large").wait().expect_err("it cannot fit"), LARGE);
        assert_version(&first, "behind", SMALL, 1);
        put(&first, "behind", SMALL, 2);
        put(&first, "new", 3 * SMALL, 1);
        for name in ["behind", "new"] {
            first.evict(name).wait().expect("written");
        }
        assert_version(&first, "behind", SMALL, 2);
        assert_version(&first, "new", 3 * SMALL, 1);
        assert!(first.stats().capacity > LARGE + 8192, "it has grown behind 5 GiB");
        first.flush().wait().expect("flushed");
        first.remove("large").wait().expect("removed");
        first.flush().wait().expect("flushed");
        let capacity = first.stats().capacity;
        // Where there were 5 GiB there is room again.
        for nth in 0..8 {
            put(&first, &format!("t{nth}"), MIB, nth);
        }
        first.close().wait().expect("closed");
        let second = SwapStore::open(&engine, &path, options()).wait().expect("a store");
        assert_eq!((second.stats().capacity, second.names().len()), (capacity, 10));
        for nth in 0..8 {
            assert_version(&second, &format!("t{nth}"), MIB, nth);
        }
        assert_version(&second, "behind", SMALL, 2);
        assert_version(&second, "new", 3 * SMALL, 1);
        assert_idle(&second);
        second.close().wait().expect("closed");
    }
}

#[test]
fn a_model_with_a_tensor_of_5_gib_is_served_without_it() {
    let (place, engine) = (directory(), engine());
    let path = place.path().join("model.safetensors");
    let end = LARGE + SMALL as u64;
    let header = format!(
        "{{\"large\":{{\"dtype\":\"U8\",\"shape\":[{LARGE}],\"data_offsets\":[0,{LARGE}]}},\
         \"behind\":{{\"dtype\":\"U8\",\"shape\":[{SMALL}],\"data_offsets\":[{LARGE},{end}]}}}}"
    );
    raw_file(&path, &header, &[]);
    let data = File::options().write(true).open(&path).expect("the file");
    data.write_all_at(&content("behind", SMALL, 1), 8 + header.len() as u64 + LARGE).expect("written");
    let store = SwapStore::over(&Safetensors::open(&engine, &path).wait().expect("a model"), 8 * MIB as u64);
    store.plan(["large", "behind"], true);
    for _ in 0..3 {
        assert_needs(store.get("large").wait().expect_err("it cannot fit"), LARGE);
        assert_version(&store, "behind", SMALL, 1);
    }
    assert_idle(&store);
}

#[test]
#[ignore = "moves 15 GiB, and takes 11 GiB of memory and 5 of a drive"]
fn a_tensor_of_5_gib_goes_to_the_drive_and_comes_back() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, &place.path().join("store"), SwapOptions::new(LARGE).checksum(true));
    // Of prime length, so that no power of two repeats it.
    let pattern = content("large", 65_521, 1);
    let data: Vec<u8> = pattern.iter().copied().cycle().take(LARGE as usize).collect();
    let declared = Declared { name: "large".into(), dtype: DType::U8, shape: vec![LARGE] };
    let data = store.put(Source { declared, data }).wait().expect("accepted");
    store.evict("large").wait().expect("written");
    assert!(store.get("large").wait().expect("read").bytes() == data);
    store.evict("large").wait().expect("evicted");
    let into = store.get_into("large", vec![0; LARGE as usize]).wait().expect("read");
    assert!(into == data);
    assert_idle(&store);
    assert_eq!(store.stats().used_max, LARGE);
}

#[test]
#[ignore = "takes 4 GiB of a drive, and a minute"]
fn a_million_small_tensors_come_back() {
    const TENSORS: u64 = 1_000_000;
    let (place, engine) = (directory(), engine());
    let path = place.path().join("store");
    let options = || SwapOptions::new(64 * MIB as u64).capacity(TENSORS * 4096);
    let first = store(&engine, &path, options());
    for nth in 0..TENSORS {
        first.put(tensor(&format!("t{nth}"), 128, nth)).wait().expect("accepted");
    }
    first.close().wait().expect("closed");
    let index = std::fs::metadata(path.join("index")).expect("the index").len();
    assert!(index < 100_000_000, "{index}");
    let second = store(&engine, &path, options());
    assert_eq!(second.names().len() as u64, TENSORS);
    for nth in (0..TENSORS).step_by(97) {
        assert_version(&second, &format!("t{nth}"), 128, nth);
    }
    assert_idle(&second);
}
