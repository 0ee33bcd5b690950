//! A limit on how long a request may take, without a runtime.
//!
//! Whoever reads a stream slowly does not poll its requests meanwhile. That is not the remote's silence: a request that is
//! found late gets its time again, if it has no answer by then.

use crate::failure::{Failure, Fault};
use futures_timer::Delay;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A caller that waits is polled sooner than this after the time is up.
const LATE: Duration = Duration::from_secs(1);

/// What [`timed`] waits with. The tests have one that they set themselves.
trait Clock {
    fn now(&self) -> Instant;

    /// Begins a wait of this long.
    fn begin(&mut self, wait: Duration);

    /// Ready when the wait is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

struct System(Delay);

impl Clock for System {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn begin(&mut self, wait: Duration) {
        self.0.reset(wait);
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// The outcome of a request, or [`Fault::TimedOut`].
pub(crate) async fn timed<T>(limit: Duration, path: &str, request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timed_by(System(Delay::new(limit)), limit, path, request).await
}

/// As [`timed`], with a clock that has begun to wait.
async fn timed_by<T>(
    mut clock: impl Clock,
    limit: Duration,
    path: &str,
    request: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut request = pin!(request);
    let mut deadline = clock.now() + limit;
    std::future::poll_fn(move |context| {
        if let Poll::Ready(result) = request.as_mut().poll(context) {
            return Poll::Ready(result);
        }
        while clock.poll(context).is_ready() {
            let now = clock.now();
            if now.saturating_duration_since(deadline) < LATE {
                return Poll::Ready(Err(Failure::fault(path, Fault::TimedOut(limit))));
            }
            deadline = now + limit;
            clock.begin(limit);
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::cell::Cell;
    use std::task::Waker;

    /// A clock that stands still until a test sets it.
    struct Still<'a> {
        now: &'a Cell<Instant>,
        end: Instant,
    }

    impl Clock for Still<'_> {
        fn now(&self) -> Instant {
            self.now.get()
        }

        fn begin(&mut self, wait: Duration) {
            self.end = self.now.get() + wait;
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
            if self.now.get() < self.end { Poll::Pending } else { Poll::Ready(()) }
        }
    }

    fn is_timeout(result: Result<(), Failure>, limit: Duration) -> bool {
        result.expect_err("silence").into_source().downcast_ref() == Some(&Fault::TimedOut(limit))
    }

    #[test]
    fn silence_ends_and_an_answer_passes() {
        let limit = Duration::from_millis(5);
        assert!(is_timeout(pollster::block_on(timed(limit, "object", std::future::pending())), limit));
        assert_eq!(pollster::block_on(timed(limit, "object", async { Ok(7) })).ok(), Some(7));
    }

    #[test]
    fn a_caller_that_comes_back_late_finds_the_request_alive() {
        let limit = Duration::from_millis(5);
        let now = Cell::new(Instant::now());
        let clock = Still { now: &now, end: now.get() + limit };
        let mut request = pin!(timed_by(clock, limit, "object", std::future::pending()));
        assert!(request.as_mut().now_or_never().is_none());
        now.set(now.get() + limit + LATE);
        assert!(request.as_mut().now_or_never().is_none());
        // It has its time again, and no more.
        now.set(now.get() + limit);
        assert!(is_timeout(request.now_or_never().expect("its end"), limit));
    }

    #[test]
    fn a_wait_that_is_over_begins_again() {
        let mut clock = System(Delay::new(Duration::ZERO));
        pollster::block_on(std::future::poll_fn(|context| clock.poll(context)));
        clock.begin(Duration::from_hours(1));
        assert!(clock.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}
