//! Steps: groups one after the other, ahead and behind.

use crate::harness::{Rng, directory, engine};
use crate::model::{Model, bytes_of, compute_lease, groups, memory, open, options, step};
use deepring_tensors::Error;
use deepring_tensors::swap::{Depth, Group, OptimizerOptions, OptimizerSwapper, Write};

#[test]
fn training_is_the_same_as_in_memory_at_every_depth() {
    let (engine, mut rng) = (engine(), Rng::new());
    for depth in 1..=4 {
        for durable in [false, true] {
            let place = directory();
            let swapper = open(&engine, place.path(), options(depth).durable(durable));
            assert_eq!(swapper.stats().depth, depth);
            let mut model = Model::new(groups());
            model.initialize(&swapper);
            for _ in 0..3 {
                model.put_gradients(&swapper, &mut rng, 9000);
                step(&swapper);
                model.step();
                if rng.once_in(2) {
                    swapper.flush().wait().expect("flushed");
                }
            }
            model.check(&swapper);
            swapper.close().wait().expect("closed");
            model.check(&open(&engine, place.path(), options(depth).durable(durable)));
        }
    }
}

#[test]
fn states_that_were_never_written_are_neither_read_nor_stored() {
    let (engine, place) = (engine(), directory());
    let group = Group::new("a", 10_240).states(["m", "v"]);
    let options = || OptimizerOptions::new(vec![group.clone()]).memory(1 << 20);
    let swapper = open(&engine, place.path(), options());
    let mut model = Model::new(vec![group.clone()]);
    model.initialize(&swapper);
    let param = 40_960;
    assert_eq!((swapper.stats().read, swapper.stats().written), (0, param));
    step(&swapper);
    model.step();
    swapper.flush().wait().expect("flushed");
    assert_eq!((swapper.stats().read, swapper.stats().written), (param, 4 * param));
    swapper.reset("a", ["m"]).expect("reset");
    model.parts[0][1].fill(0);
    model.check(&swapper);
    assert_eq!((swapper.stats().read, swapper.stats().written), (3 * param, 4 * param));
    swapper.close().wait().expect("closed");
    let swapper = open(&engine, place.path(), options());
    model.check(&swapper);
    assert_eq!(swapper.stats().read, 2 * param, "that it is all zeros was not forgotten");
}

#[test]
fn a_step_that_ends_early_leaves_what_was_not_closed() {
    let (engine, place, mut rng) = (engine(), directory(), Rng::new());
    let swapper = open(&engine, place.path(), options(2));
    let mut model = Model::new(groups());
    model.initialize(&swapper);
    model.put_gradients(&swapper, &mut rng, 30_000);
    // The body of the loop fails at the fourth group.
    let mut begun = swapper.step().expect("a step");
    for nth in 0..3 {
        let mut lease = begun.wait_next().expect("a group").expect("read");
        compute_lease(&mut lease);
        lease.close(Write::All).expect("closed");
        model.compute(nth);
    }
    let mut failing = begun.wait_next().expect("a group").expect("read");
    compute_lease(&mut failing);
    drop(failing);
    let mut last = begun.wait_next().expect("a group").expect("read");
    compute_lease(&mut last);
    last.close(Write::Nothing).expect("closed");
    drop(begun);
    // Their gradients are there still, and used by the rest of the step.
    let rest: Vec<String> = model.groups[3..].iter().map(|group| group.name.clone()).collect();
    let mut again = swapper.step_over(rest.iter().map(String::as_str)).expect("a step");
    for nth in 3..model.groups.len() {
        let mut lease = again.wait_next().expect("a group").expect("read");
        assert!(model.is_same(nth, &mut lease), "{}", lease.name());
        compute_lease(&mut lease);
        lease.close(Write::All).expect("closed");
        model.compute(nth);
    }
    drop(again);
    model.steps += 1;
    model.check(&swapper);
}

#[test]
fn only_one_step_is_open_and_its_groups_are_busy() {
    let (engine, place) = (engine(), directory());
    let swapper = open(&engine, place.path(), options(1));
    let mut begun = swapper.step().expect("a step");
    let busy = |error: Error| assert_eq!(error.code(), "ERR_DEEPRING_BUSY", "{error}");
    busy(swapper.step().expect_err("busy"));
    busy(swapper.flush().wait().expect_err("busy"));
    busy(swapper.put_gradient("head", 0, vec![0u8; 4]).wait().expect_err("busy"));
    busy(swapper.initialize("head", [("param", vec![0u8; 160_000])]).wait().expect_err("busy"));
    busy(swapper.reset("head", ["exp_avg"]).expect_err("busy"));
    let lease = begun.wait_next().expect("a group").expect("read");
    drop(begun);
    busy(swapper.step().expect_err("busy"));
    lease.close(Write::All).expect("closed");
    // What a step has passed is free.
    let mut begun = swapper.step().expect("a step");
    begun.wait_next().expect("a group").expect("read").close(Write::All).expect("closed");
    swapper.put_gradient("embedding", 0, vec![0u8; 4]).wait().expect("a piece");
    drop(begun);
    swapper.close().wait().expect("closed");
}

#[test]
fn parts_can_be_written_alone() {
    let (engine, mut rng) = (engine(), Rng::new());
    for durable in [false, true] {
        let place = directory();
        let swapper = open(&engine, place.path(), options(1).durable(durable));
        let mut model = Model::new(groups());
        model.initialize(&swapper);
        for _ in 0..4 {
            let mut begun = swapper.step().expect("a step");
            for nth in 0..model.groups.len() {
                let mut lease = begun.wait_next().expect("a group").expect("read");
                let before = model.parts[nth].clone();
                compute_lease(&mut lease);
                compute_in(&mut model, nth);
                let mut names = Vec::new();
                let states = model.groups[nth].states.clone();
                for (part, name) in std::iter::once("param".to_owned()).chain(states).enumerate() {
                    if rng.once_in(2) {
                        names.push(name);
                    } else {
                        model.parts[nth][part].clone_from(&before[part]);
                    }
                }
                lease.close(Write::Parts(names)).expect("closed");
            }
            drop(begun);
            if rng.once_in(2) {
                swapper.flush().wait().expect("flushed");
            }
            model.check(&swapper);
        }
        swapper.close().wait().expect("closed");
        model.check(&open(&engine, place.path(), options(1).durable(durable)));
    }
}

/// Without gradients.
fn compute_in(model: &mut Model, nth: usize) {
    let gradient = model.groups[nth].gradient.take();
    let zeros = gradient.is_some() && model.groups[nth].numel > 0;
    crate::model::compute_with(model, nth, zeros.then_some(&[0]));
    model.groups[nth].gradient = gradient;
}

#[test]
fn the_depth_needs_its_memory_when_it_is_opened() {
    let (engine, place) = (engine(), directory());
    let needed = memory(&groups(), 2);
    let open = |options: OptimizerOptions| OptimizerSwapper::open(&engine, place.path(), options).wait();
    match open(options(2).memory(needed - 1)).expect_err("too little") {
        Error::Budget { needed: found, budget, tensor } => {
            assert_eq!((found, budget, tensor.as_deref()), (needed, needed - 1, Some("head")));
        }
        other => panic!("{other}"),
    }
    assert_eq!(std::fs::read_dir(place.path()).expect("a directory").count(), 0, "something was made");
    let depth = |memory| open(options(1).depth(Depth::Auto).memory(memory)).map(|swapper| swapper.stats().depth);
    assert_eq!(depth(needed).expect("opened"), 2);
    assert_eq!(depth(needed - 1).expect("opened"), 1);
    assert_eq!(depth(1 << 30).expect("opened"), 4);
    assert_eq!(depth(memory(&groups(), 1) - 1).expect_err("too little").code(), "ERR_DEEPRING_BUDGET");
    assert_eq!(open(options(1).depth(Depth::Groups(0))).expect_err("no depth").code(), "ERR_DEEPRING_INVALID");
}

#[test]
fn leases_that_are_kept_take_memory_until_there_is_none() {
    let (engine, place) = (engine(), directory());
    let groups: Vec<Group> = (0..9).map(|nth| Group::new(format!("g{nth}"), 10_000)).collect();
    let options = OptimizerOptions::new(groups.clone()).depth(Depth::Groups(1)).memory(memory(&groups, 1));
    let swapper = open(&engine, place.path(), options);
    let mut begun = swapper.step().expect("a step");
    let kept: Vec<_> = (0..3).map(|_| begun.wait_next().expect("a group").expect("read")).collect();
    assert_eq!(swapper.stats().used, 3 * bytes_of(&groups[0]));
    assert_eq!(begun.wait_next().expect("an error").expect_err("no memory").code(), "ERR_DEEPRING_BUDGET");
    assert!(begun.wait_next().is_none());
    drop((begun, kept));
    let mut begun = swapper.step().expect("a step");
    let mut count = 0;
    while let Some(lease) = begun.wait_next() {
        lease.expect("read").close(Write::All).expect("closed");
        count += 1;
    }
    assert_eq!(count, 9);
    drop(begun);
    swapper.flush().wait().expect("flushed");
    assert_eq!(swapper.stats().used, 0);
}

#[test]
fn an_order_has_groups_that_are_there_each_once() {
    let (engine, place) = (engine(), directory());
    let swapper = open(&engine, place.path(), options(1));
    assert_eq!(swapper.step_over(["nobody"]).expect_err("unknown").code(), "ERR_DEEPRING_NOT_FOUND");
    assert_eq!(swapper.step_over(["head", "norm", "head"]).expect_err("twice").code(), "ERR_DEEPRING_INVALID");
    assert!(swapper.step_over([]).expect("a step").wait_next().is_none());
    let mut begun = swapper.step_over(["head", "norm"]).expect("a step");
    let names: Vec<String> = std::iter::from_fn(|| begun.wait_next()).map(|lease| lease.expect("read").name().to_owned()).collect();
    assert_eq!(names, ["head", "norm"]);
}

/// A task that waits for its next group is dropped again and again: nothing is lost.
#[test]
fn a_wait_for_the_next_group_can_be_given_up() {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let (engine, place) = (engine(), directory());
    let swapper = open(&engine, place.path(), options(2));
    let mut model = Model::new(groups());
    model.initialize(&swapper);
    for _ in 0..2 {
        let mut begun = swapper.step().expect("a step");
        loop {
            let polled = {
                let mut next = pin!(begun.next());
                next.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            };
            match polled {
                Poll::Pending => std::thread::yield_now(),
                Poll::Ready(None) => break,
                Poll::Ready(Some(lease)) => {
                    let mut lease = lease.expect("read");
                    compute_lease(&mut lease);
                    lease.close(Write::All).expect("closed");
                }
            }
        }
        (0..model.groups.len()).for_each(|nth| compute_in(&mut model, nth));
    }
    model.check(&swapper);
}
