//! [`Fills`]: bytes on their way to the drive, behind the back of the call that fetched them. Their memory is bounded.

use futures_channel::oneshot;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Fills {
    bytes_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    active: BTreeSet<u64>,
    bytes: u64,
    /// Who waits until no fill below a number is active.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
}

/// A fill in progress: it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Fill {
    fills: Arc<Fills>,
    number: u64,
    bytes: u64,
}

impl Fills {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a fill, if there is room for its bytes.
    pub(crate) fn begin(self: &Arc<Self>, bytes: u64) -> Option<Fill> {
        let mut state = self.lock();
        if state.bytes + bytes > self.bytes_max {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.bytes += bytes;
        state.active.insert(number);
        drop(state);
        Some(Fill { fills: Arc::clone(self), number, bytes })
    }

    pub(crate) fn active(&self) -> u64 {
        self.lock().active.len() as u64
    }

    /// Waits until the fills that have begun by now have ended.
    pub(crate) async fn flushed(&self) {
        let ended = {
            let mut state = self.lock();
            if state.active.is_empty() {
                return;
            }
            let (end, ended) = oneshot::channel();
            let next = state.next;
            state.waiting.push((next, end));
            ended
        };
        // An end that is dropped without a word has come, too.
        let _ = ended.await;
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let mut state = self.fills.lock();
        state.active.remove(&self.number);
        state.bytes -= self.bytes;
        let first = state.active.first().copied().unwrap_or(u64::MAX);
        let woken: Vec<_> = state.waiting.extract_if(.., |(below, _)| first >= *below).collect();
        drop(state);
        for (_, end) in woken {
            // Who no longer waits need not know.
            let _ = end.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn bytes_are_bounded_and_come_back() {
        let fills = Arc::new(Fills::new(100));
        let one = fills.begin(60).expect("room");
        assert!(fills.begin(41).is_none());
        let two = fills.begin(40).expect("room");
        assert_eq!(fills.active(), 2);
        drop(one);
        assert!(fills.begin(60).is_some());
        drop(two);
        assert_eq!((fills.active(), fills.lock().bytes), (0, 0));
    }

    #[test]
    fn a_flush_waits_for_what_began_before_it_and_for_nothing_else() {
        let fills = Arc::new(Fills::new(100));
        assert!(fills.flushed().now_or_never().is_some());
        let before = fills.begin(1).expect("room");
        let mut flush = Box::pin(fills.flushed());
        assert!(flush.as_mut().now_or_never().is_none());
        let _after = fills.begin(1).expect("room");
        drop(before);
        assert!(flush.now_or_never().is_some());
    }
}
