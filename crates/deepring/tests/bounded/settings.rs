//! Settings and sizes that are refused.

use crate::harness::{assert_same, backends, builders, bytes, directory, engines};
use deepring::{Engine, ErrorKind, OpenOptions, Priority, ReadOptions, WindowMode, WriteOptions};

#[test]
fn settings_outside_their_range_are_refused() {
    let builder = Engine::builder;
    for refused in [
        builder().queue_depth(0),
        builder().queue_depth(65_537),
        builder().queue_depth(u32::MAX),
        builder().block_bytes(0),
        builder().block_bytes((1 << 30) + 1),
        builder().block_bytes(u64::MAX),
        builder().in_flight_bytes(0),
        builder().max_queued(0),
    ] {
        let error = refused.clone().build().expect_err("outside its range");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{refused:?}: {error}");
    }
    for backend in backends() {
        for accepted in [
            builder().queue_depth(65_536),
            builder().queue_depth(1),
            builder().block_bytes(1),
            builder().block_bytes(1 << 30),
            builder().in_flight_bytes(1),
            builder().in_flight_bytes(u64::MAX),
            builder().max_queued(u64::MAX),
        ] {
            drop(accepted.clone().backend(backend).build().unwrap_or_else(|error| panic!("{accepted:?}: {error}")));
        }
    }
}

#[test]
fn a_window_that_is_bounded_below_one_block_is_refused() {
    for mode in [WindowMode::Auto, WindowMode::Fixed] {
        let bounded = |bytes| Engine::builder().window(mode).block_bytes(1 << 20).in_flight_bytes(bytes).build();
        assert_eq!(bounded((1 << 20) - 1).expect_err("bounds that contradict").kind(), ErrorKind::Invalid);
        assert_eq!(bounded(1 << 20).expect("one block").info().window, mode);
    }
    assert_eq!("urgent".parse::<Priority>().expect_err("no class").kind(), ErrorKind::Invalid);
}

#[test]
fn what_was_found_is_reported_and_within_the_bounds() {
    let place = directory();
    let path = place.path().join("file");
    std::fs::write(&path, bytes(0, 8 << 20, 1)).expect("the file");
    for builder in builders() {
        for (mode, most) in [(WindowMode::Auto, 3 << 20), (WindowMode::Fixed, 5 << 20)] {
            let engine = builder.clone().window(mode).block_bytes(1 << 20).in_flight_bytes(most).queue_depth(7).build().expect("an engine");
            let first = engine.path_info(&path).expect("info").window;
            assert!(engine.stats().windows.is_empty(), "no device was used yet");
            for priority in Priority::ALL {
                let file = engine.open(&path, OpenOptions::new().read(true).write(true).priority(priority)).expect("the file");
                for other in Priority::ALL {
                    let (buf, _) =
                        file.read_with(vec![0; 8 << 20], 0, ReadOptions::new().exact(true).priority(other)).wait().ok().expect("a read");
                    assert_same(&buf, &bytes(0, 8 << 20, 1), "read with a class");
                    file.write_with(buf, 0, WriteOptions::new().priority(other)).wait().result.expect("a write");
                }
            }
            let stats = engine.stats();
            let [found] = &stats.windows[..] else { panic!("{:?}: one device was used", stats.windows) };
            assert_eq!((&first.device, &engine.path_info(&path).expect("info").window), (&found.device, found));
            for size in [first.read, first.write, found.read, found.write] {
                assert!(size.bytes <= most && size.shared_bytes <= size.bytes && (1..=7).contains(&size.blocks), "{size:?}");
                assert!(mode == WindowMode::Auto || size.bytes == most && size.shared_bytes == most, "{size:?}");
            }
            assert!(stats.in_flight_max <= 7 && stats.in_flight_bytes_max <= most, "{stats:?}");
        }
    }
}

#[test]
fn buffers_of_impossible_size_are_refused() {
    for engine in engines() {
        for len in [usize::MAX, usize::MAX / 2, 1 << 50] {
            let error = engine.buffer(len).expect_err("impossible size");
            assert_eq!(error.code(), "ENOMEM", "{error}");
            assert_eq!(engine.pooled_buffer(len).expect_err("impossible size").code(), "ENOMEM");
        }
        assert_eq!(engine.stats().buffers, 0);
    }
}
