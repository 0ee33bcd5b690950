//! [`Job`]: work that takes time, for tasks and for threads.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Work that takes time: a future, which can also be waited for without an executor. Nothing happens before it is polled or
/// waited for; dropping it cancels what has not reached the device. It can be polled on any thread.
#[must_use = "nothing happens before it is polled or waited for"]
pub struct Job<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Job<T> {
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Box::pin(future))
    }

    /// Blocks this thread until it is done.
    pub fn wait(self) -> T {
        pollster::block_on(self.0)
    }
}

impl<T> Future for Job<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.0.as_mut().poll(context)
    }
}

impl<T> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job")
    }
}
