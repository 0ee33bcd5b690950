//! A group of transfers between its owner, who closes it, and the threads that settle its members.

use super::{explore, noticed};
use crate::binding::{Group, Outcome};
use crate::error::{Error, ErrorKind};
use crate::planted::PlantedBug;
use crate::sync::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn settled_while_closed() {
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    let group = Group::new(move |failures| {
        assert_eq!(failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 1]);
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let settling = [0, 1].map(|index| {
        let member = group.join(index, None);
        thread::spawn(move || {
            let error = Error::new(ErrorKind::Eof, "read");
            member.settle(Outcome { result: Err(error), memory_lost: false });
        })
    });
    group.close();
    for thread in settling {
        thread.join().expect("no panic");
    }
    assert_eq!(ended.load(Ordering::Relaxed), 1, "ended once");
}

#[test]
fn a_group_ends_once_with_all_failures_in_whatever_order_its_members_settle() {
    explore(None, settled_while_closed);
}

#[test]
fn a_group_that_counts_in_two_steps_is_noticed() {
    noticed(PlantedBug::CountsInTwoSteps, "ended once", None, settled_while_closed);
}
