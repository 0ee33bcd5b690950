//! [`Token`]: what another writer needs to join.

use super::names::{GENERATIONS_MAX, Id, WRITERS_MAX};
use crate::error::{Error, Result, quoted};
use std::fmt;
use std::str::FromStr;

/// What another writer needs to join: pass its text to other threads, processes or hosts.
///
/// ```
/// use deepring_tensors::checkpoint::{BeginOptions, Checkpoints, JoinOptions, StoreOptions, Token};
/// # let directory = tempfile::tempdir().unwrap();
/// let engine = deepring::Engine::builder().build()?;
/// let store = Checkpoints::open(&engine, directory.path(), StoreOptions::new()).wait()?;
/// let first = store.begin(BeginOptions::new().writers(2)).wait()?;
/// let text = first.token().to_string();
/// let token: Token = text.parse()?; // in another process
/// assert_eq!(token.writers(), 2);
/// let second = store.join(&token, 1, JoinOptions::new()).wait()?;
/// second.commit().wait()?; // its part is durable
/// assert_eq!(first.commit().wait()?.number, 1); // everything is visible
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    pub(super) number: u64,
    pub(super) id: Id,
    pub(super) writers: u32,
    pub(super) reference: Option<u64>,
}

impl Token {
    /// How many writers the generation has. Those that join have the numbers from 1 on.
    pub fn writers(&self) -> u32 {
        self.writers
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, id, writers, reference } = self;
        write!(f, "{number}-{id}-{writers}")?;
        reference.map_or(Ok(()), |reference| write!(f, "-{reference}"))
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut fields = text.split('-');
            let number = fields.next()?.parse().ok().filter(|&number| number < GENERATIONS_MAX)?;
            let id = Id::parse(fields.next()?)?;
            let writers = fields.next()?.parse().ok().filter(|writers| (1..=WRITERS_MAX).contains(writers))?;
            let reference = fields.next().map(|number| number.parse().ok().filter(|&number| number < GENERATIONS_MAX));
            let token = Self { number, id, writers, reference: reference.map_or(Some(None), |number| number.map(Some))? };
            (token.to_string() == text).then_some(token)
        };
        parse().ok_or_else(|| Error::Argument(format!("{} is not a token of a writer", quoted(text))))
    }
}
