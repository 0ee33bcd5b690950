//! A ring that is lost while operations are in it.

use super::guarded::GuardedBuffers;
use super::{LIMIT, data_file};
use crate::harness::child::{again, alone, forbid};
use crate::harness::{assert_file, assert_same, backends, bytes, directory, open, skip, within};
use deepring::{BackendKind, Completed, Direct, Engine, ErrorKind, IoBuf};

#[test]
fn a_ring_lost_with_reads_in_it_keeps_their_memory_and_the_engine_continues_on_threads() {
    if !backends().contains(&BackendKind::Uring) {
        return skip("DEEPRING_BACKEND names the other backend");
    }
    alone(|| {
        let place = directory();
        let path = data_file(place.path(), 64);
        let engine = Engine::builder().backend(BackendKind::Uring).build().expect("an engine");
        let file = open(&engine, &path, Direct::Prefer);
        let buffers = GuardedBuffers::default();
        // Made before, so that the reads follow each other faster than the drive answers.
        let memory: Vec<_> = (0..256).map(|_| buffers.guarded(1 << 20)).collect();
        let ops: Vec<_> = (0..256u64)
            .map(|index| index % 64)
            .zip(memory)
            .map(|(index, memory)| (index, file.read_exact_at(memory, index << 20)))
            .collect();
        while engine.stats().in_flight < 4 && engine.stats().queued > 8 {
            std::hint::spin_loop();
        }
        // From here on the driver cannot enter it.
        forbid(libc::SYS_io_uring_enter, libc::EPERM, true);
        let mut lost = 0;
        for (index, op) in ops {
            let Completed { buf, result } = op.wait();
            match result {
                Ok(_) => {
                    let guarded = buf.expect("the buffer");
                    // SAFETY: the operation has ended, so the memory belongs to this value again.
                    let content = unsafe { std::slice::from_raw_parts(guarded.as_ptr(), guarded.len()) };
                    assert_same(content, &bytes(index << 20, 1 << 20, 1), "what was read");
                }
                Err(error) => {
                    assert_eq!((error.kind(), error.code()), (ErrorKind::Lost, "ERR_DEEPRING_LOST".into()), "{error}");
                    assert!(buf.is_none(), "memory the kernel can still write to does not come back");
                    lost += 1;
                }
            }
        }
        if lost == 0 {
            again("the reads ended before the ring was lost");
        }
        assert_eq!(buffers.returned(), 256 - lost);
        assert_eq!(buffers.disturbed(), 0);
        let stats = engine.stats();
        assert!(stats.leaked > 0 && stats.leaked_bytes >= lost as u64, "{stats:?}");
        assert_eq!((stats.queued, stats.in_flight, stats.in_flight_bytes), (0, 0, 0));
        let info = engine.info();
        assert_eq!(info.backend, BackendKind::Threads);
        assert!(info.reason.contains("lost"), "{}", info.reason);
        let copy = place.path().join("copy");
        engine.write_file(&copy, bytes(0, 50_001, 3)).wait().result.expect("a write on threads");
        assert_file(&copy, &bytes(0, 50_001, 3), "written after the ring was lost");
        file.sync_all().wait().expect("sync");
        file.close().wait().expect("close");
        within(LIMIT, "dropping an engine whose ring was lost", move || drop(engine));
    });
}
