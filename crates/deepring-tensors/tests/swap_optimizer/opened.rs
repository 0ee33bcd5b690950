//! Opening: what is found again, and what is refused.

use crate::child::{argument, spawn};
use crate::disks::Mounted;
use crate::harness::{directory, engine, names_in};
use crate::model::{Model, compute_with, groups, open, options, step};
use deepring::Engine;
use deepring_tensors::swap::{Group, OptimizerOptions, OptimizerSwapper, Write};
use deepring_tensors::{DType, Error, Reason};
use std::fs::OpenOptions;
use std::path::Path;

fn refused(engine: &Engine, place: &Path, options: OptimizerOptions) -> Error {
    OptimizerSwapper::open(engine, place, options).wait().expect_err("refused")
}

#[test]
fn a_swapper_has_one_owner_in_all_processes() {
    let (engine, place) = (engine(), directory());
    let swapper = open(&engine, place.path(), options(1));
    let clone = swapper.clone();
    assert_eq!(refused(&engine, place.path(), options(1)).code(), "ERR_DEEPRING_BUSY");
    drop(swapper);
    assert_eq!(refused(&engine, place.path(), options(1)).code(), "ERR_DEEPRING_BUSY");
    clone.close().wait().expect("closed");
    let swapper = open(&engine, place.path(), options(1));
    let clone = swapper.clone();
    swapper.close().wait().expect("closed");
    assert_eq!(clone.step().expect_err("closed").code(), "ERR_DEEPRING_INVALID");
    assert_eq!(clone.put_gradient("head", 0, vec![0u8; 4]).wait().expect_err("closed").code(), "ERR_DEEPRING_INVALID");
    // Closed means that another can open it, whoever still has a clone.
    open(&engine, place.path(), options(1)).close().wait().expect("closed");
    drop(clone);
    assert_eq!(names_in(place.path()), ["data", "index", "lock"]);
}

#[test]
fn a_swapper_stays_where_it_was_opened_and_removes_what_a_killed_flush_has_left() {
    const TEST: &str = "opened::a_swapper_stays_where_it_was_opened_and_removes_what_a_killed_flush_has_left";
    let model = Model::new(groups());
    if let Some(arguments) = argument(TEST) {
        std::env::set_current_dir(&arguments[0]).expect("a directory");
        let swapper = open(&engine(), Path::new("swap"), options(1).create(true));
        std::env::set_current_dir("/").expect("a directory");
        model.initialize(&swapper);
        swapper.close().wait().expect("closed");
        std::process::exit(0);
    }
    let (engine, place) = (engine(), directory());
    let path = place.path().join("swap");
    std::fs::create_dir(&path).expect("created");
    std::fs::write(path.join(".index.77-0.tmp"), "half of one").expect("written");
    let ended = spawn(TEST, &[place.path().to_str().expect("UTF-8")]).wait().expect("ended");
    assert!(ended.success());
    assert_eq!(names_in(&path), ["data", "index", "lock"]);
    model.check(&open(&engine, &path, options(1)));
}

#[test]
fn a_missing_directory_is_made_if_that_is_wanted() {
    let (engine, place) = (engine(), directory());
    let path = place.path().join("a/b");
    assert_eq!(refused(&engine, &path, options(1)).code(), "ENOENT");
    open(&engine, &path, options(1).create(true)).close().wait().expect("closed");
    open(&engine, &path, options(1)).close().wait().expect("closed");
}

#[test]
fn only_a_step_that_was_not_flushed_leaves_a_swapper_torn() {
    let (engine, place) = (engine(), directory());
    let mut model = Model::new(groups());
    let swapper = open(&engine, place.path(), options(1));
    drop(swapper);
    let swapper = open(&engine, place.path(), options(1));
    Model::zeros(groups()).check(&swapper);
    model.initialize(&swapper);
    drop(swapper);
    let error = refused(&engine, place.path(), options(1));
    assert!(matches!(&error, Error::Torn { path } if path == place.path()), "{error}");
    let swapper = open(&engine, place.path(), options(1).create(true));
    Model::zeros(groups()).check(&swapper);
    model.initialize(&swapper);
    swapper.flush().wait().expect("flushed");
    swapper.reset("head", ["exp_avg"]).expect("reset");
    drop(swapper);
    let swapper = open(&engine, place.path(), options(1));
    model.check(&swapper);
    swapper.flush().wait().expect("flushed");
    let mut begun = swapper.step().expect("a step");
    begun.wait_next().expect("a group").expect("read").close(Write::All).expect("closed");
    drop((begun, swapper));
    assert_eq!(refused(&engine, place.path(), options(1)).code(), "ERR_DEEPRING_TORN");

    // What is durable is never torn: it is as of the last flush.
    let place = directory();
    let swapper = open(&engine, place.path(), options(1).durable(true));
    model.initialize(&swapper);
    swapper.flush().wait().expect("flushed");
    for _ in 0..3 {
        step(&swapper);
    }
    drop(swapper);
    let swapper = open(&engine, place.path(), options(1).durable(true));
    model.check(&swapper);
    step(&swapper);
    (0..8).for_each(|nth| compute_with(&mut model, nth, (nth != 3).then_some(&[0])));
    swapper.flush().wait().expect("flushed");
    step(&swapper);
    drop(swapper);
    model.check(&open(&engine, place.path(), options(1).durable(true)));
}

#[test]
fn other_groups_and_damage_are_refused() {
    let (engine, place) = (engine(), directory());
    open(&engine, place.path(), options(1)).close().wait().expect("closed");
    let reason = |options: OptimizerOptions| match refused(&engine, place.path(), options) {
        Error::Format { reason, .. } => reason,
        other => panic!("{other}"),
    };
    assert_eq!(reason(options(1).durable(true)), Reason::Index);
    let others = OptimizerOptions::new(vec![Group::new("other", 5).dtype(DType::F64)]).create(true);
    assert_eq!(reason(others), Reason::Index);

    let data = OpenOptions::new().write(true).open(place.path().join("data")).expect("the file");
    let len = data.metadata().expect("its length").len();
    data.set_len(len - 1).expect("cut");
    assert_eq!(reason(options(1)), Reason::Truncated);
    data.set_len(len).expect("whole again");
    open(&engine, place.path(), options(1)).close().wait().expect("closed");

    let path = place.path().join("index");
    let index = std::fs::read(&path).expect("the index");
    for at in (0..index.len()).step_by(7) {
        let mut damaged = index.clone();
        damaged[at] ^= 4;
        std::fs::write(&path, damaged).expect("written");
        assert!(matches!(reason(options(1)), Reason::Index | Reason::Version), "byte {at}");
        std::fs::write(&path, &index[..at]).expect("written");
        assert_eq!(reason(options(1)), Reason::Index, "cut at {at}");
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_open_is_an_error_with_the_group() {
    let (engine, place) = (engine(), directory());
    let swapper = open(&engine, place.path(), options(1).durable(true));
    Model::new(groups()).initialize(&swapper);
    swapper.flush().wait().expect("flushed");
    OpenOptions::new().write(true).open(place.path().join("data")).expect("the file").set_len(4096).expect("cut");
    let mut begun = swapper.step().expect("a step");
    let error = begun.wait_next().expect("an error").expect_err("cut");
    assert_eq!((error.code().as_str(), error.tensor()), ("ERR_DEEPRING_EOF", Some("embedding")), "{error}");
    assert!(begun.wait_next().is_none());
}

#[test]
fn a_full_disk_is_found_when_the_swapper_is_made() {
    let (engine, place) = (engine(), directory());
    let path = place.path().join("small");
    std::fs::create_dir(&path).expect("a directory");
    let Some(_mounted) = Mounted::memory(&path, "4m") else { return };
    let large = || OptimizerOptions::new(vec![Group::new("g", 2 << 20)]).memory(64 << 20);
    assert_eq!(refused(&engine, &path, large()).code(), "ENOSPC");
    let small = || OptimizerOptions::new(vec![Group::new("g", 1 << 18)]).memory(64 << 20);
    let mut model = Model::new(vec![Group::new("g", 1 << 18)]);
    let swapper = open(&engine, &path, small());
    model.initialize(&swapper);
    step(&swapper);
    model.step();
    swapper.close().wait().expect("closed");
    model.check(&open(&engine, &path, small()));
}
