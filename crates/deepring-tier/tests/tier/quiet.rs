//! A tier that nothing is asked of does nothing.

use crate::harness::child::alone;
use crate::harness::{engines, eventually, say, task};
use crate::places::{Place, run};
use std::time::Duration;

#[test]
fn an_idle_tier_runs_no_thread() {
    alone(|| {
        for engine in engines() {
            let place = Place::immutable(&engine);
            run(async {
                place.put("object", 3 << 20, 1).await;
                for _ in 0..2 {
                    place.get("object").await;
                    place.tier.flush().await;
                }
            });
            // This thread samples, and is no part of the tier.
            let own = std::fs::read_link("/proc/thread-self").expect("/proc");
            let own = own.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("a number");
            let others = || task::all().into_iter().filter(|task| task.id != own).map(|task| (task.id, task.runs)).collect::<Vec<_>>();
            // What its last fill has left to do comes to its end first, however long that takes on a busy machine.
            let mut before = others();
            eventually(Duration::from_mins(1), "the tier comes to rest", || {
                std::thread::sleep(Duration::from_millis(300));
                std::mem::replace(&mut before, others()) == before
            });
            assert!(before.len() >= 2, "the engine and the clock have threads");
            std::thread::sleep(Duration::from_secs(1));
            say(&format!("{before:?}"));
            assert_eq!(others(), before, "a thread started, ended or ran");
        }
    });
}
