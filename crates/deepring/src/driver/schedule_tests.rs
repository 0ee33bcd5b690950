//! The rows of the table, and properties against simulated devices.

use super::super::flows::{MAKING_ROOM_MAX, Source, WAITING_MAX};
use super::*;
use crate::driver::model::{Demand, OPERATION, judge_shares, serve};
use crate::plan::Direction;
use crate::slots::Slots;
use proptest::prelude::*;

const LARGE: u64 = 4 << 20;
const SMALL: u64 = 4096;

fn keys<const N: usize>() -> [Key; N] {
    let mut slots = Slots::new();
    std::array::from_fn(|_| slots.insert(()))
}

fn flow_of(class: Priority, bytes: u64, file: u64) -> FlowKey {
    FlowKey::new(class, Direction::Read, bytes, Source::File(file))
}

fn flow(bytes: u64, file: u64) -> FlowKey {
    flow_of(Priority::Throughput, bytes, file)
}

fn price(bytes: u64) -> Price {
    Price { bytes, total: bytes + OPERATION }
}

/// The key of the next request, whose result is this one.
fn serve_next(schedule: &mut Schedule<u32>, round: &mut Round, issued: Issued) -> Option<Key> {
    let Next::Begun(place, key) = schedule.next(round, true)? else { panic!("all have begun") };
    schedule.report(round, place, key, issued);
    Some(key)
}

// ---- the rows of the table ----

#[test]
fn a_request_stays_in_front_of_its_flow_until_its_quantum_is_used() {
    let [first, second] = keys();
    let mut schedule = Schedule::<u32>::new();
    schedule.ready(flow(LARGE, 1), first);
    schedule.ready(flow(LARGE, 1), second);
    let mut round = Round::default();
    for _ in 0..REQUEST_QUANTUM / LARGE {
        assert_eq!(serve_next(&mut schedule, &mut round, Issued::More(price(LARGE))), Some(first));
    }
    assert_eq!(serve_next(&mut schedule, &mut round, Issued::More(price(LARGE))), Some(second));
}

#[test]
fn a_request_that_left_is_gone_and_the_next_has_a_whole_quantum() {
    let [first, second, third] = keys();
    let mut schedule = Schedule::<u32>::new();
    for key in [first, second, third] {
        schedule.ready(flow(LARGE, 1), key);
    }
    let mut round = Round::default();
    let spent = Price { bytes: REQUEST_QUANTUM - 1, total: LARGE };
    assert_eq!(serve_next(&mut schedule, &mut round, Issued::More(spent)), Some(first));
    assert_eq!(serve_next(&mut schedule, &mut round, Issued::Left(price(1))), Some(first));
    assert_eq!(serve_next(&mut schedule, &mut round, Issued::More(spent)), Some(second));
    assert_eq!(serve_next(&mut schedule, &mut round, Issued::More(price(1))), Some(second));
}

#[test]
fn files_take_turns_by_what_they_cost() {
    let [first, second] = keys();
    let mut schedule = Schedule::<u32>::new();
    schedule.ready(flow(LARGE, 1), first);
    schedule.ready(flow(LARGE, 2), second);
    let order: Vec<_> =
        (0..8).map(|_| serve_next(&mut schedule, &mut Round::default(), Issued::More(price(LARGE))).expect("one")).collect();
    assert_eq!(order, [first, second, first, second, first, second, first, second]);
}

#[test]
fn a_small_request_that_comes_goes_next() {
    let [large, other, small] = keys();
    let mut schedule = Schedule::<u32>::new();
    schedule.ready(flow(LARGE, 1), large);
    schedule.ready(flow(LARGE, 2), other);
    serve_next(&mut schedule, &mut Round::default(), Issued::More(price(LARGE)));
    schedule.ready(flow(SMALL, 1), small);
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Left(price(SMALL))), Some(small));
}

#[test]
fn one_that_found_the_device_full_keeps_its_turn_and_is_passed_only_so_much() {
    let [large, small] = keys();
    let mut schedule = Schedule::<u32>::new();
    schedule.ready(flow(LARGE, 1), large);
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Full), Some(large));
    let mut passed = 0;
    for file in 0.. {
        schedule.ready(flow(SMALL, 2 + file), small);
        let mut round = Round::default();
        let Some(Next::Begun(place, key)) = schedule.next(&round, true) else { panic!("there is work") };
        if key == large {
            schedule.report(&mut round, place, key, Issued::Full);
            assert_eq!(schedule.next(&round, true), None, "what comes free is kept for it");
            break;
        }
        schedule.report(&mut round, place, key, Issued::Left(price(SMALL)));
        passed += price(SMALL).total;
    }
    assert!(passed <= PASS_MAX + price(SMALL).total, "{passed}");
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Left(price(LARGE))), Some(large));
}

#[test]
fn a_reservation_ends_with_the_request() {
    let [large, small] = keys();
    let mut schedule = Schedule::<u32>::new();
    schedule.ready(flow(LARGE, 1), large);
    serve_next(&mut schedule, &mut Round::default(), Issued::Full);
    schedule.passed = PASS_MAX;
    schedule.remove(flow(LARGE, 1), large);
    schedule.ready(flow(SMALL, 2), small);
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Left(price(SMALL))), Some(small));
}

#[test]
fn what_is_kept_for_one_whose_turn_is_in_the_next_round_is_not_kept_for_ever() {
    let [large, other, small] = keys();
    let mut schedule = Schedule::<u32>::new();
    schedule.ready(flow(LARGE, 1), large);
    schedule.ready(flow(LARGE, 2), other);
    // The first has had its turn, and the second finds the device full.
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::More(price(LARGE))), Some(large));
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Full), Some(other));
    // All is kept for it; a small one waits, and it is canceled.
    schedule.passed = PASS_MAX;
    schedule.ready(flow(SMALL, 3), small);
    schedule.remove(flow(LARGE, 2), other);
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Left(price(LARGE))), Some(large));
    assert_eq!(serve_next(&mut schedule, &mut Round::default(), Issued::Left(price(SMALL))), Some(small));
}

#[test]
fn begun_requests_go_on_where_no_further_one_can_begin() {
    let [begun] = keys();
    let mut schedule = Schedule::new();
    for file in 0..50 {
        schedule.enqueue(flow(LARGE, file), 7);
    }
    schedule.ready(flow(LARGE, 50), begun);
    let mut round = Round::default();
    let Some(Next::Begun(place, key)) = schedule.next(&round, false) else { panic!("one has begun") };
    assert_eq!(key, begun);
    schedule.report(&mut round, place, key, Issued::Left(price(LARGE)));
    assert_eq!(schedule.next(&Round::default(), false), None);
    assert!(matches!(schedule.next(&Round::default(), true), Some(Next::Fresh(_, 7))));
}

#[test]
fn a_file_whose_requests_wait_lets_no_more_begin() {
    for (what, max) in [(Hold::Range, WAITING_MAX), (Hold::Room, MAKING_ROOM_MAX)] {
        let (mut schedule, mut slots) = (Schedule::new(), Slots::new());
        (0..5000).for_each(|number| schedule.enqueue(flow(SMALL, 1), number));
        let mut begin = |schedule: &mut Schedule<u32>| {
            let mut round = Round::default();
            let Next::Fresh(place, number) = schedule.next(&round, true)? else { panic!("none has begun") };
            schedule.report(&mut round, place, slots.insert(()), Issued::Left(Price::NOTHING));
            Some(number)
        };
        let count = std::iter::from_fn(|| begin(&mut schedule).inspect(|_| schedule.hold(flow(SMALL, 1), what))).count();
        assert_eq!(count, max as usize);
        schedule.enqueue(flow(SMALL, 2), 7);
        assert_eq!((begin(&mut schedule), begin(&mut schedule)), (Some(7), None));
        schedule.release(flow(SMALL, 1), what);
        assert_eq!(begin(&mut schedule), Some(max), "in their order");
    }
}

#[test]
fn parties_that_come_back_share_a_device_and_those_that_follow_do_not() {
    let contention = |flows: &[FlowKey]| {
        let (mut schedule, [key]) = (Schedule::<u32>::new(), keys());
        for flow in flows {
            schedule.ready(*flow, key);
            serve_next(&mut schedule, &mut Round::default(), Issued::Left(price(SMALL)));
        }
        schedule.take_contention()
    };
    let (a, b, c) = (flow(LARGE, 1), flow(LARGE, 2), flow(LARGE, 3));
    assert_eq!(contention(&[a, a, b, b, c]), Contention::Alone);
    assert_eq!(contention(&[a, b, a]), Contention::Shared);
    assert_eq!(contention(&[a, FlowKey { write: true, ..a }, a]), Contention::Alone);
    assert_eq!(contention(&[a, flow(SMALL, 1), a]), Contention::Shared);
    assert_eq!(contention(&[a, flow_of(Priority::Latency, SMALL, 1), a]), Contention::Latency);
    let urgent = |file| flow_of(Priority::Latency, LARGE, file);
    assert_eq!(contention(&[urgent(1), urgent(2), urgent(1)]), Contention::Shared, "as if nothing were marked");
}

// ---- properties, against simulated devices ----

fn sizes() -> impl Strategy<Value = u64> {
    prop_oneof![Just(SMALL), Just(16 << 10), Just(64 << 10), Just(256 << 10), Just(1 << 20), Just(LARGE)]
}

fn demands() -> impl Strategy<Value = Vec<Demand>> {
    let one = |class: Priority| proptest::option::of((sizes(), 1u64..6).prop_map(move |(bytes, flows)| Demand { class, bytes, flows }));
    (one(Priority::Latency), one(Priority::Throughput), one(Priority::Background), one(Priority::Throughput))
        .prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect::<Vec<_>>())
        .prop_filter("somebody asks", |demands| !demands.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// At any depth and in whichever order blocks complete, each class has its share.
    #[test]
    fn no_class_starves(demands in demands(), window in prop_oneof![Just(1u64), Just(LARGE), Just(64 << 20)], newest_first in any::<bool>()) {
        prop_assert_eq!(judge_shares(&demands, window, newest_first), Ok(()));
    }

    /// Flows of one class have equal parts of the device, whatever the size of their requests.
    #[test]
    fn flows_have_equal_parts(sizes in proptest::collection::vec(sizes(), 2..6), window in prop_oneof![Just(LARGE), Just(64 << 20)], class in 0usize..3) {
        const TOTAL: u64 = 2 << 30;
        let class = Priority::ALL[class];
        let demands: Vec<_> = sizes.iter().map(|bytes| Demand { class, bytes: *bytes, flows: 1 }).collect();
        let fair = TOTAL / demands.len() as u64;
        for (demand, (cost, most)) in demands.iter().zip(serve(&demands, window, false, TOTAL)) {
            prop_assert!(cost.abs_diff(fair) <= fair / 8 + 2 * LARGE, "{demand:?} had {cost} of {fair}");
            // Those before it in a round, each with what it may have issued too much.
            prop_assert!(most <= sizes.len() as u64 * 3 * LARGE, "{demand:?} waited for {most}");
        }
    }

    /// A program that marks everything as urgent, or as nothing, is served as if it had marked nothing.
    #[test]
    fn one_class_is_as_good_as_another(sizes in proptest::collection::vec(sizes(), 1..5), class in 0usize..3) {
        let served = |class| serve(&sizes.iter().map(|bytes| Demand { class, bytes: *bytes, flows: 2 }).collect::<Vec<_>>(), LARGE, false, 1 << 28);
        prop_assert_eq!(served(Priority::ALL[class]), served(Priority::Throughput));
    }

    /// Whatever happens, every request comes out once or is swept, and those of a flow in their order.
    #[test]
    fn every_request_begins_in_its_order(steps in proptest::collection::vec((0u8..8, 0u64..5, any::<bool>()), 1..400)) {
        let (mut schedule, mut slots) = (Schedule::new(), Slots::new());
        let mut next = 0u32;
        let mut left = std::collections::BTreeMap::<u64, VecDeque<u32>>::new();
        for (step, file, fits) in steps {
            match step {
                0..4 => {
                    schedule.enqueue(flow(if file % 2 == 0 { LARGE } else { SMALL }, file), next);
                    left.entry(file).or_default().push_back(next);
                    next += 1;
                }
                4 => {
                    for place in schedule.places() {
                        let (key, mut fresh) = schedule.lend(place).expect("a flow");
                        fresh.retain(|number| u64::from(*number) % 5 != file);
                        schedule.give_back(key, fresh);
                    }
                    for queue in left.values_mut() {
                        queue.retain(|number| u64::from(*number) % 5 != file);
                    }
                }
                _ => {
                    let mut round = Round::default();
                    match schedule.next(&round, true) {
                        None => prop_assert!(left.values().all(VecDeque::is_empty)),
                        Some(Next::Begun(place, key)) => schedule.report(&mut round, place, key, Issued::Left(price(SMALL))),
                        Some(Next::Fresh(place, number)) => {
                            let queue = left.values_mut().find(|queue| queue.front() == Some(&number));
                            prop_assert!(queue.is_some(), "{} is not the first of its file", number);
                            queue.and_then(VecDeque::pop_front);
                            let issued = if fits { Issued::Left(price(SMALL)) } else { Issued::More(price(SMALL)) };
                            schedule.report(&mut round, place, slots.insert(()), issued);
                        }
                    }
                }
            }
        }
    }
}
