//! Odd names and bad paths.

use crate::harness::directory;
use crate::places::{at, built, cached, files, get, listed, put, put_when, stores};
use deepring::Engine;
use deepring_object_store::{BuildError, DeepringStore};
use object_store_014::path::Path as Location;
use object_store_014::{Error, ObjectStore, ObjectStoreExt, PutMode};
use pollster::block_on;
use std::os::unix::ffi::OsStrExt;

#[test]
fn odd_names_come_back_as_they_were_put() {
    let long = "x".repeat(255);
    let names = [
        "a",
        ".hidden",
        "with space/and more .txt",
        "🙀/😀.parquet",
        "100%/%48%45",
        "a%2Fb",
        "-rf",
        "~",
        "c:\\x",
        "quote'\"`$(x)",
        "a#b",
        "##",
        "x#1x",
        "dir#1/x",
        &long,
    ];
    for (place, store) in stores() {
        for name in names {
            put(&store, name, name.as_bytes().to_vec());
            assert_eq!(get(&store, name).expect(name), name.as_bytes());
            assert_eq!(std::fs::read(place.path().join(name)).expect("the file has the name itself"), name.as_bytes());
        }
        let mut expected: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        expected.sort_unstable();
        assert_eq!(listed(&store, ""), expected);
        for name in names {
            block_on(store.delete(&at(name))).expect(name);
        }
        assert_eq!(files(place.path()), [""; 0]);
    }
}

#[test]
fn names_that_no_object_can_have_are_errors_and_make_nothing() {
    for (place, store) in stores() {
        let too_long = "x".repeat(256);
        for name in ["x#1", "dir/x#0123", ".deepring-1-1#0", ""] {
            let error = put_when(&store, name, b"x", PutMode::Overwrite).expect_err(name);
            assert!(matches!(error, Error::Generic { .. }), "{name}: {error}");
        }
        let error = put_when(&store, &too_long, b"x", PutMode::Overwrite).expect_err("too long");
        assert!(error.to_string().contains("ENAMETOOLONG"), "{error}");
        for name in ["", &too_long, &format!("{too_long}/x"), "missing"] {
            let error = get(&store, name).expect_err(name);
            assert!(matches!(error, Error::NotFound { .. }), "{name}: {error}");
            let error = block_on(store.head(&at(name))).expect_err(name);
            assert!(matches!(error, Error::NotFound { .. }), "{name}: {error}");
        }
        // `object_store` lets no path out of the store.
        assert!(Location::parse("a/../../b").is_err());
        put(&store, Location::from("../b").as_ref(), "x");
        assert_eq!(files(place.path()), ["%2E%2E/b"]);
        assert!(!place.path().parent().expect("above").join("b").exists());
    }
}

#[test]
fn directories_and_what_is_below_a_file_are_no_objects() {
    for (place, store) in stores() {
        put(&store, "dir/object", "x");
        for name in ["dir", "dir/object/below", "dir/object/far/below"] {
            for error in [
                get(&store, name).expect_err(name),
                block_on(store.head(&at(name))).expect_err(name),
                block_on(store.delete(&at(name))).expect_err(name),
                block_on(store.copy(&at(name), &at("copy"))).expect_err(name),
                block_on(store.rename(&at(name), &at("copy"))).expect_err(name),
            ] {
                assert!(matches!(error, Error::NotFound { .. }), "{name}: {error}");
            }
            for mode in [PutMode::Overwrite, PutMode::Create] {
                let error = put_when(&store, name, b"y", mode.clone()).expect_err(name);
                assert!(!matches!(error, Error::NotFound { .. }), "{name}: {error}");
            }
            let prefix = at(name);
            assert!(name == "dir" || block_on(store.list_with_delimiter(Some(&prefix))).expect("a list").objects.is_empty());
        }
        assert_eq!(files(place.path()), ["dir/object"]);
        // A pipe would keep a reader for ever.
        let pipe = std::process::Command::new("mkfifo").arg(place.path().join("pipe")).status().expect("mkfifo");
        assert!(pipe.success());
        assert!(matches!(get(&store, "pipe"), Err(Error::NotFound { .. })));
        assert_eq!(listed(&store, ""), ["dir/object"]);
    }
}

#[test]
fn a_prefix_must_be_a_directory_and_settings_must_be_possible() {
    let (place, engine) = (directory(), Engine::builder().build().expect("an engine"));
    std::fs::write(place.path().join("file"), b"x").expect("a file");
    let build = |name: &str| DeepringStore::builder(&engine).prefix(place.path().join(name)).build();
    for (name, code) in [("file", "ENOTDIR"), ("missing", "ENOENT"), ("file/below", "ENOTDIR")] {
        let Err(BuildError::Prefix(error)) = build(name) else { panic!("{name} is a prefix") };
        assert_eq!(error.code(), code);
    }
    let builder = DeepringStore::builder(&engine).prefix(place.path());
    for builder in [
        builder.clone().chunk(0),
        builder.clone().read_ahead(0),
        builder.clone().read_ahead(1025),
        builder.clone().coalesce(0, 0),
        builder.clone().coalesce(1 << 40, 1),
        builder.clone().whole_max(u64::MAX),
    ] {
        let Err(BuildError::Setting { setting, value, allowed }) = builder.build() else { panic!("it is possible") };
        assert!(!setting.is_empty() && !allowed.is_empty(), "{value}");
    }
    drop(built(builder));
}

#[test]
fn a_prefix_counts_from_the_working_directory_of_its_time_and_is_made_again_if_it_goes() {
    let (place, engine) = (directory(), Engine::builder().build().expect("an engine"));
    let store = cached(&engine, &place.path().join("."));
    put(&store, "a", "x");
    let gone = place.path().join("gone");
    std::fs::create_dir(&gone).expect("a directory");
    let store = cached(&engine, &gone);
    std::fs::remove_dir(&gone).expect("it goes");
    assert_eq!(listed(&store, ""), [""; 0]);
    assert!(matches!(get(&store, "b"), Err(Error::NotFound { .. })));
    put(&store, "b", "y");
    assert_eq!(files(place.path()), ["a", "gone/b"]);
}

#[test]
fn a_file_that_no_path_can_name_is_an_error_of_the_listing_and_hides_nothing() {
    use futures_util::StreamExt;
    for (place, store) in stores() {
        put(&store, "a", "x");
        put(&store, "z", "x");
        let name = std::ffi::OsStr::from_bytes(b"m\xff");
        std::fs::write(place.path().join(name), b"x").expect("a file");
        let found: Vec<_> = block_on(store.list(None).collect());
        let named: Vec<_> = found.iter().flatten().map(|meta| meta.location.to_string()).collect();
        assert_eq!((named, found.len()), (vec!["a".to_owned(), "z".to_owned()], 3));
        assert!(found.iter().any(|found| found.as_ref().is_err_and(|error| error.to_string().contains("UTF-8"))));
    }
}
