//! [`Priority`]: whose requests a device serves first.

use std::str::FromStr;

/// The class of a request: of a call, else of its handle, else of its file.
///
/// Classes count where requests of several wait for one device. A program that gives all its
/// requests one class is served as if it had given none.
///
/// ```
/// use deepring::{Engine, OpenOptions, Priority, ReadOptions};
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("weights.bin");
/// # std::fs::write(&path, vec![7u8; 8192]).unwrap();
/// let engine = Engine::builder().build()?;
/// let file = engine.open(&path, OpenOptions::new().read(true).priority(Priority::Background))?;
/// let urgent = ReadOptions::new().priority(Priority::Latency);
/// let (_, receipt) = file.read_with(engine.buffer(4096)?, 0, urgent).wait().ok()?;
/// assert_eq!(receipt.bytes, 4096);
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Priority {
    /// First, for up to 90 % of the device's time. While such requests come, the others have less in
    /// flight.
    Latency,
    /// The default. Keeps at least 10 % of the device's time.
    #[default]
    Throughput,
    /// When nothing else waits, and at least 2 % of the device's time.
    Background,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Latency, Self::Throughput, Self::Background];

    /// Its name: `latency`, `throughput` or `background`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Background => "background",
        }
    }
}

impl FromStr for Priority {
    type Err = crate::Error;

    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for any other word.
    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|priority| priority.as_str() == word).ok_or_else(|| {
            let advice = format!("the priority is '{word}', not 'latency', 'throughput' or 'background'");
            crate::Error::new(crate::ErrorKind::Invalid, "priority").advise(advice)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_class_and_any_other_word_is_refused() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse::<Priority>().expect("a class"), priority);
        }
        for word in ["", "Latency", "realtime", "latency "] {
            let error = word.parse::<Priority>().expect_err("no class");
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        }
    }
}
