//! Writes that fail behind the program: the group says so, and no other one does.

use crate::child::{argument, spawn_limited};
use crate::harness::{directory, engine};
use crate::model::{compute_lease, memory, open};
use deepring_tensors::DType;
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper, Write};
use std::path::Path;

const TEST: &str = "fails::a_write_that_fails_is_an_error_of_its_group_until_that_is_initialized";

/// 2.5 MiB, in units of 512 bytes: half of the parameters of the second group, and nothing of the third.
const LIMIT: &str = "-f 5120";

fn options() -> OptimizerOptions {
    let group = |name: &str| Group::new(name, 1 << 20).dtype(DType::U8).gradient(DType::U8);
    let groups = vec![group("first"), group("limit"), group("last")];
    OptimizerOptions::new(groups.clone()).depth(Depth::Groups(1)).memory(memory(&groups, 1))
}

/// In a process whose files cannot be larger.
fn as_child(place: &Path) {
    let swapper = open(&engine(), place, options());
    let failed = |error: deepring_tensors::Error, group: &str| {
        assert_eq!((error.code().as_str(), error.tensor()), ("EFBIG", Some(group)), "{error}");
    };
    let mut step = swapper.step().expect("a step");
    for name in ["first", "limit", "last"] {
        let mut lease = step.wait_next().expect("a group").expect("read");
        assert_eq!(lease.name(), name);
        compute_lease(&mut lease);
        lease.close(Write::All).expect("closed");
    }
    assert!(step.wait_next().is_none());
    drop(step);
    // Again and again, and from every call that needs the group.
    for _ in 0..2 {
        failed(swapper.flush().wait().expect_err("failed"), "limit");
        let mut step = swapper.step().expect("a step");
        step.wait_next().expect("a group").expect("read").close(Write::All).expect("closed");
        failed(step.wait_next().expect("an error").expect_err("failed"), "limit");
        assert!(step.wait_next().is_none());
    }
    failed(swapper.put_gradient("last", 0, vec![1u8; 5]).wait().expect_err("failed"), "last");
    failed(swapper.initialize("last", [("param", vec![1u8; 1 << 20])]).wait().expect_err("failed"), "last");
    // What it can write, it can use.
    swapper.put_gradient("first", 0, vec![1u8; 1 << 20]).wait().expect("a gradient");
    swapper.step_over(["first"]).expect("a step").wait_next().expect("a group").expect("read").close(Write::All).expect("closed");
}

#[test]
fn a_write_that_fails_is_an_error_of_its_group_until_that_is_initialized() {
    if let Some(arguments) = argument(TEST) {
        return as_child(Path::new(&arguments[0]));
    }
    let place = directory();
    open(&engine(), place.path(), options()).close().wait().expect("closed");
    let child = spawn_limited(TEST, &[place.path().to_str().expect("UTF-8")], LIMIT);
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let torn = OptimizerSwapper::open(&engine(), place.path(), options()).wait().expect_err("it has written in place");
    assert_eq!(torn.code(), "ERR_DEEPRING_TORN");
}
