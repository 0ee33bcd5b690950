//! [`History`]: the versions of a name in their order, and which of them a request can find.

use crate::harness::bytes;
use std::collections::BTreeSet;
use std::ops::Range;

/// The most pages of a tensor.
pub(crate) const PAGES_MAX: usize = 10;

/// A version of a tensor: its length, and what its bytes come from. 0: there is no tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) len: usize,
}

pub(crate) const ABSENT: Version = Version { number: 0, len: 0 };

impl Version {
    pub(crate) fn content(self) -> Vec<u8> {
        bytes(self.len, self.number)
    }

    /// Whether this is what was found of a tensor.
    pub(crate) fn is(self, found: Option<&[u8]>) -> bool {
        match found {
            Some(found) => self != ABSENT && found == self.content(),
            None => self == ABSENT,
        }
    }
}

/// What became the newest version, in the order in which it did.
#[derive(Debug, Clone)]
pub(crate) struct History {
    accepted: Vec<Version>,
    /// What was refused, or given up: nothing may ever have it.
    refused: Vec<Version>,
    /// What an unfinished request will bring, or has brought already.
    coming: Option<Version>,
    /// That it has was seen.
    is_seen: bool,
}

impl History {
    pub(crate) fn new(version: Version) -> Self {
        Self { accepted: vec![version], refused: Vec::new(), coming: None, is_seen: false }
    }

    pub(crate) fn newest(&self) -> Version {
        self.accepted.last().copied().unwrap_or(ABSENT)
    }

    /// A moment, for [`History::since`].
    pub(crate) fn now(&self) -> usize {
        self.accepted.len() - 1
    }

    /// What a request that began at a moment can find now.
    pub(crate) fn since(&self, begun: usize) -> BTreeSet<Version> {
        self.accepted[begun..].iter().copied().chain(self.coming).collect()
    }

    /// A request is made that brings a version.
    pub(crate) fn comes(&mut self, version: Version) {
        (self.coming, self.is_seen) = (Some(version), false);
    }

    /// A request that began at a moment has found this. The error says what is wrong.
    pub(crate) fn found(&mut self, begun: usize, found: Option<&[u8]>) -> Result<(), String> {
        if self.accepted[begun..].iter().any(|version| version.is(found)) {
            return Ok(());
        }
        match self.coming.filter(|version| version.is(found)) {
            // Later requests cannot find an older one.
            Some(version) if !std::mem::replace(&mut self.is_seen, true) => {
                self.accepted.push(version);
                Ok(())
            }
            Some(_) => Ok(()),
            None => {
                let len = found.map(<[u8]>::len);
                let older = self.accepted.iter().rposition(|version| version.is(found));
                Err(format!("{len:?} bytes were found, of {older:?}, and not one of {begun}: {:?}", &self.accepted[begun..]))
            }
        }
    }

    /// A request that began at a moment has found this of a part. Which version it is, that need not say.
    pub(crate) fn found_part(&self, begun: usize, range: Range<usize>, found: &[u8]) -> Result<(), String> {
        let of = |version: &Version| version.content().get(range.clone()) == Some(found);
        if self.since(begun).iter().any(of) {
            return Ok(());
        }
        Err(format!("{range:?} is of no version since {begun}: {:?}", &self.accepted[begun..]))
    }

    /// The request that brings a version has ended. The error says what is wrong.
    pub(crate) fn ended(&mut self, was_accepted: bool) -> Result<(), String> {
        let Some(version) = self.coming.take() else { return Ok(()) };
        match (was_accepted, self.is_seen) {
            (true, false) => self.accepted.push(version),
            (false, true) => return Err(format!("{version:?} was refused, and was there")),
            (false, false) => self.refused.push(version),
            (true, true) => {}
        }
        Ok(())
    }

    /// Which version something is, for a report.
    pub(crate) fn describe(&self, found: Option<&[u8]>) -> String {
        let nth = |versions: &[Version]| versions.iter().rposition(|version| version.is(found));
        match (nth(&self.accepted), nth(&self.refused)) {
            (Some(nth), _) => format!("the {nth}th, {:?}", self.accepted[nth]),
            (None, Some(nth)) => format!("refused, {:?}", self.refused[nth]),
            _ => format!("of no version, {:?} bytes", found.map(<[u8]>::len)),
        }
    }
}
