//! Gradients: pieces of any size, in any order, once.

use crate::harness::{Rng, bytes, directory, engine};
use crate::model::{memory, open};
use deepring_tensors::swap::{Depth, Group, GroupLease, OptimizerOptions, OptimizerSwapper, Write};
use deepring_tensors::{DType, Error};

/// The gradient that the next lease of a group has.
fn lease(swapper: &OptimizerSwapper, group: &str) -> GroupLease {
    let mut step = swapper.step_over([group]).expect("a step");
    step.wait_next().expect("a group").expect("read")
}

fn gradient(swapper: &OptimizerSwapper, group: &str) -> Vec<u8> {
    lease(swapper, group).parts().gradient.expect("a gradient").to_vec()
}

fn group(numel: u64, dtype: DType) -> Group {
    Group::new("g", numel).gradient(dtype)
}

/// With 10 MiB of gradient and memory for one block beside the group, or for a fraction of it.
#[test]
fn pieces_of_odd_sizes_in_any_order_come_to_their_places() {
    let (engine, mut rng) = (engine(), Rng::new());
    let numel = (10 << 20) + 77;
    for (dtype, pieces, extra) in [(DType::U8, 400, 0), (DType::BF16, 60, 8 << 20), (DType::U8, 3, 0)] {
        let place = directory();
        let groups = vec![group(numel, dtype), Group::new("other", 5).gradient(DType::F32)];
        let memory = memory(&groups, 1) + extra;
        let swapper = open(&engine, place.path(), OptimizerOptions::new(groups).memory(memory));
        let size = u64::from(dtype.bits() / 8);
        for round in 0..2 {
            let expected = bytes((numel * size) as usize, round);
            let mut cuts: Vec<u64> = (0..pieces).map(|_| rng.below(numel)).chain([0, numel]).collect();
            cuts.sort_unstable();
            let mut pieces: Vec<(u64, u64)> = cuts.windows(2).map(|cut| (cut[0], cut[1])).collect();
            rng.shuffle(&mut pieces);
            for (start, end) in pieces {
                let piece = expected[(start * size) as usize..(end * size) as usize].to_vec();
                swapper.put_gradient("g", start, piece).wait().expect("a piece");
            }
            if round == 1 {
                swapper.flush_gradients().wait().expect("written");
                assert_eq!(swapper.stats().used, 0);
            }
            let mut lease = lease(&swapper, "g");
            assert!(lease.parts().gradient.expect("a gradient") == expected, "{dtype}, round {round}");
            lease.close(Write::All).expect("closed");
        }
        assert!(gradient(&swapper, "g").iter().all(|byte| *byte == 0), "it was used");
        assert!(swapper.stats().used_max <= memory);
    }
}

#[test]
fn what_does_not_come_is_zero() {
    let (engine, place, mut rng) = (engine(), directory(), Rng::new());
    let (numel, memory) = (5 << 20, 32 << 20);
    let swapper = open(&engine, place.path(), OptimizerOptions::new(vec![group(numel, DType::U8)]).memory(memory));
    for round in 0..6 {
        let mut expected = vec![0; numel as usize];
        let mut at = rng.below(20_000);
        while at < numel {
            let end = numel.min(at + 1 + rng.below(900_000));
            let piece = bytes((end - at) as usize, round);
            expected[at as usize..end as usize].copy_from_slice(&piece);
            swapper.put_gradient("g", at, piece).wait().expect("a piece");
            at = end + rng.below(900_000);
        }
        let mut lease = lease(&swapper, "g");
        assert!(lease.parts().gradient.expect("a gradient") == expected, "round {round}");
        lease.close(Write::All).expect("closed");
    }
}

#[test]
fn a_byte_that_comes_twice_is_refused() {
    let (engine, place) = (engine(), directory());
    let groups = vec![group(2000, DType::F32), Group::new("kept", 2000).gradient(DType::F32).resident(true)];
    let swapper = open(&engine, place.path(), OptimizerOptions::new(groups).memory(1 << 20));
    for name in ["g", "kept"] {
        let put = |start: u64, elements: usize| swapper.put_gradient(name, start, vec![1u8; elements * 4]).wait();
        put(100, 100).expect("a piece");
        for (start, elements, found) in [(100, 100, 400..800), (199, 1, 796..800), (0, 101, 400..404), (0, 2000, 400..800)] {
            match put(start, elements).expect_err("overlap") {
                Error::Overlap { tensor, start, end } => assert_eq!((tensor, start..end), (format!("{name}.gradient"), found)),
                other => panic!("{other}"),
            }
        }
        put(200, 1).expect("beside it");
        put(150, 0).expect("nothing at all");
        swapper.flush_gradients().wait().expect("written");
        assert_eq!(put(200, 1).expect_err("overlap").code(), "ERR_DEEPRING_OVERLAP");
        let expected = |at: usize| u8::from((400..804).contains(&at));
        assert!(gradient(&swapper, name).iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        assert_eq!(put(200, 1).expect_err("a lease that wrote nothing has not used it").code(), "ERR_DEEPRING_OVERLAP");
        lease(&swapper, name).close(Write::Parts(Vec::new())).expect("closed");
        put(200, 1).expect("the next gradient");
    }
}

#[test]
fn a_piece_beyond_its_group_is_refused() {
    let (engine, place) = (engine(), directory());
    let groups = vec![group(10, DType::F32), Group::new("none", 10)];
    let swapper = open(&engine, place.path(), OptimizerOptions::new(groups).memory(1 << 20));
    let put = |name: &str, start: u64, bytes: usize| swapper.put_gradient(name, start, vec![1u8; bytes]).wait().map(drop);
    let code = |name: &str, start: u64, bytes: usize| put(name, start, bytes).expect_err("refused").code();
    for (start, bytes) in [(0, 44), (9, 8), (10, 4), (u64::MAX, 4), (u64::MAX / 4, 4), (u64::MAX / 32, 4)] {
        assert_eq!(code("g", start, bytes), "ERR_DEEPRING_OUT_OF_RANGE", "{start}, {bytes}");
    }
    match put("g", 9, 8).expect_err("refused") {
        Error::OutOfRange { tensor, start, end, len } => assert_eq!((tensor.as_str(), start, end, len), ("g.gradient", 36, 44, 40)),
        other => panic!("{other}"),
    }
    assert_eq!(code("g", 0, 6), "ERR_DEEPRING_INVALID");
    assert_eq!(code("none", 0, 4), "ERR_DEEPRING_INVALID");
    assert_eq!(code("nobody", 0, 4), "ERR_DEEPRING_NOT_FOUND");
    put("g", 10, 0).expect("nothing at all");
    put("g", 0, 40).expect("all of it");
}

#[test]
fn a_gradient_can_be_changed_and_kept() {
    let (engine, place) = (engine(), directory());
    let groups = vec![group(3000, DType::BF16), Group::new("kept", 3000).gradient(DType::BF16).resident(true)];
    let swapper = open(&engine, place.path(), OptimizerOptions::new(groups).memory(1 << 20));
    for name in ["g", "kept"] {
        swapper.put_gradient(name, 5, vec![6u8; 100]).wait().expect("a piece");
        let mut lease = lease(&swapper, name);
        for byte in lease.parts().gradient.expect("a gradient") {
            *byte += 1;
        }
        lease.parts().param.fill(9);
        lease.close(Write::Parts(vec!["gradient".into()])).expect("closed");
        let expected = |at: usize| if (10..110).contains(&at) { 7 } else { 1 };
        assert!(gradient(&swapper, name).iter().enumerate().all(|(at, byte)| *byte == expected(at)));
        assert_eq!(swapper.put_gradient(name, 2000, vec![1u8; 2]).wait().expect_err("overlap").code(), "ERR_DEEPRING_OVERLAP");
        let mut lease = crate::gradients::lease(&swapper, name);
        assert!(lease.parts().param.iter().all(|byte| *byte == 0), "it was not written");
    }
}

/// Leases have all memory but what one block needs, and pieces come all the same.
#[test]
fn pieces_come_while_a_step_goes_on() {
    let (engine, place, mut rng) = (engine(), directory(), Rng::new());
    let groups: Vec<Group> = (0..6).map(|nth| Group::new(format!("g{nth}"), 300_000).gradient(DType::F32)).collect();
    let options = OptimizerOptions::new(groups.clone()).depth(Depth::Groups(1)).memory(memory(&groups, 1));
    let swapper = open(&engine, place.path(), options);
    let mut step = swapper.step().expect("a step");
    for nth in 0..6u64 {
        let lease = step.wait_next().expect("a group").expect("read");
        if nth > 0 {
            let name = format!("g{}", nth - 1);
            let gradient = bytes(1_200_000, nth);
            let cut = 4 * (1 + rng.below(299_999) as usize);
            swapper.put_gradient(&name, 0, gradient[..cut].to_vec()).wait().expect("a piece");
            swapper.put_gradient(&name, cut as u64 / 4, gradient[cut..].to_vec()).wait().expect("a piece");
        }
        lease.close(Write::All).expect("closed");
    }
    drop(step);
    for nth in 1..6 {
        assert!(gradient(&swapper, &format!("g{}", nth - 1)) == bytes(1_200_000, nth));
    }
}
