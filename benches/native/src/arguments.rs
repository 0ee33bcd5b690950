//! `key=value` arguments. Every key is checked, because a misspelled key must not silently measure
//! something else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The arguments of one command. Every key must be read before [`Arguments::finish`].
pub(crate) struct Arguments {
    values: RefCell<BTreeMap<String, String>>,
}

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for word in words {
            let word = word.into_string().map_err(|word| format!("argument {} is not UTF-8", word.display()))?;
            let (key, value) = word.split_once('=').ok_or_else(|| format!("argument '{word}' is not of the form key=value"))?;
            if values.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(format!("argument '{key}' is given twice"));
            }
        }
        Ok(Self { values: RefCell::new(values) })
    }

    pub(crate) fn text(&self, key: &str) -> Result<String, String> {
        self.values.borrow_mut().remove(key).ok_or_else(|| format!("argument {key}=... is missing"))
    }

    pub(crate) fn path(&self, key: &str) -> Result<PathBuf, String> {
        self.text(key).map(PathBuf::from)
    }

    pub(crate) fn number(&self, key: &str) -> Result<u64, String> {
        let text = self.text(key)?;
        text.parse().map_err(|_| format!("argument {key}={text} is not a whole number"))
    }

    /// One of a few words, mapped to its value.
    pub(crate) fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.text(key)?;
        choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            format!("argument {key}={text} is not one of {}", words.join(", "))
        })
    }

    /// Refuses keys that the command did not read.
    pub(crate) fn finish(&self) -> Result<(), String> {
        match self.values.borrow().keys().next() {
            None => Ok(()),
            Some(key) => Err(format!("argument '{key}' is unknown here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn a_key_that_was_not_read_is_refused() -> Result<(), String> {
        let arguments = parsed(&["bytes=4096", "depht=8"])?;
        assert_eq!(arguments.number("bytes"), Ok(4096));
        assert_eq!(arguments.finish(), Err("argument 'depht' is unknown here".to_owned()));
        Ok(())
    }

    #[test]
    fn a_word_outside_the_choices_is_refused() -> Result<(), String> {
        let arguments = parsed(&["mode=both"])?;
        assert!(arguments.choice("mode", &[("windowed", 0), ("overlapped", 1)]).is_err());
        Ok(())
    }

    #[test]
    fn a_repeated_key_is_refused() {
        assert!(parsed(&["a=1", "a=2"]).is_err());
    }
}
