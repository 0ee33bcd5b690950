//! Promise: **exact**, between processes. Processes that write different bytes of one file lose
//! none, while it grows or not, on file systems with open-file-description locks. A lock that stays
//! in the way ends in an error that names its owner; where there are no locks, `process_locks` says
//! so. Processes that replace one file, or are killed meanwhile, leave it whole.

#[path = "../harness/mod.rs"]
mod harness;
mod locked;
mod replacing;
mod writers;

use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Tell a child process that it plays a part in a test, and where.
const PART: &str = "DEEPRING_TEST_PART";
const PLACE: &str = "DEEPRING_TEST_PLACE";

/// The part that this process plays in the test, if it is a child of one, and the file to use.
fn part() -> Option<(String, String)> {
    Some((std::env::var(PART).ok()?, std::env::var(PLACE).expect("a place")))
}

/// Starts this test again, in a process that plays a part in it.
fn start(part: &str, place: &Path, stdout: Stdio) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args([&harness::test_name(), "--exact", "--nocapture", "--test-threads=1"]);
    command.env(PART, part).env(PLACE, place).stdin(Stdio::null()).stdout(stdout);
    command.spawn().expect("a child process")
}

/// Waits for processes that must succeed.
fn finish(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().expect("a child process").success());
    }
}
