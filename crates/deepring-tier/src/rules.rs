//! [`Validate`], and the patterns that say which objects are cached, and how long what is known of them holds.

use std::time::Duration;

/// How long what a tier knows of an object holds: its `ETag`, size and time, and with them its bytes.
///
/// ```
/// use deepring_tier::{Tier, Validate};
/// use std::time::Duration;
/// let engine = deepring::Engine::builder().build()?;
/// let rules = Tier::builder(&engine)
///     .validate("warehouse/**", Validate::Immutable)
///     .validate("*.csv", Validate::After(Duration::from_secs(60)))
///     .otherwise(Validate::Always);
/// # drop(rules);
/// # Ok::<(), deepring::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validate {
    /// For ever: the object is written once, and only removed after that. The remote is asked once, and not again after a restart.
    Immutable,
    /// For one call: each asks the remote for the current version, once, unless it has to fetch something of it anyway.
    #[default]
    Always,
    /// For this long: then the next call asks.
    After(Duration),
}

/// What goes by the tier unless [`TierBuilder::bypass`](crate::TierBuilder::bypass) says otherwise: the logs and manifests of
/// Delta, Lance and Iceberg, which are small, change, and decide what a reader sees.
pub(crate) const BYPASSED: [&str; 4] = ["_delta_log/", "_versions/", "metadata/", "*.json"];

/// Which objects, by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl Pattern {
    pub(crate) fn new(text: String) -> Option<Self> {
        (!text.trim_matches('/').is_empty()).then_some(Self(text))
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        if let Some(directory) = self.0.strip_suffix('/') {
            // A directory of this name, wherever it is, or these directories one in the other.
            let directory: Vec<_> = directory.trim_start_matches('/').split('/').collect();
            let segments: Vec<_> = path.split('/').collect();
            let above = &segments[..segments.len().saturating_sub(1)];
            return above.windows(directory.len()).any(|window| window.iter().zip(&directory).all(|(name, like)| is_like(name, like)));
        }
        if self.0.contains('/') {
            is_like(path, self.0.trim_start_matches('/'))
        } else {
            is_like(path.rsplit('/').next().unwrap_or(path), &self.0)
        }
    }
}

/// Whether a text is like a pattern, in which `*` stands for any characters but `/`, and `**` for any at all.
fn is_like(text: &str, like: &str) -> bool {
    let (text, like) = (text.as_bytes(), like.as_bytes());
    // For each end of the text: whether the pattern up to here matches up to there.
    let mut matched = vec![false; text.len() + 1];
    matched[0] = true;
    let mut at = 0;
    while at < like.len() {
        if like[at] == b'*' {
            let any = like.get(at + 1) == Some(&b'*');
            for end in 0..text.len() {
                matched[end + 1] |= matched[end] && (any || text[end] != b'/');
            }
            at += if any { 2 } else { 1 };
        } else {
            for end in (0..text.len()).rev() {
                matched[end + 1] = matched[end] && text[end] == like[at];
            }
            matched[0] = false;
            at += 1;
        }
    }
    matched[text.len()]
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) bypass: Vec<Pattern>,
    /// The first that matches counts.
    pub(crate) validate: Vec<(Pattern, Validate)>,
    pub(crate) otherwise: Validate,
}

impl Rules {
    /// How long what is known of an object holds; none if it bypasses the tier.
    pub(crate) fn of(&self, path: &str) -> Option<Validate> {
        if self.bypass.iter().any(|pattern| pattern.matches(path)) {
            return None;
        }
        Some(self.validate.iter().find(|(pattern, _)| pattern.matches(path)).map_or(self.otherwise, |&(_, validate)| validate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::new(pattern.to_owned()).expect("a pattern").matches(path)
    }

    #[test]
    fn a_pattern_names_files_directories_or_whole_paths() {
        for (pattern, path) in [
            ("*.json", "a/b/c.json"),
            ("*.json", "c.json"),
            ("_delta_log/", "table/_delta_log/0.json"),
            ("_delta_log/", "_delta_log/0.parquet"),
            ("a/b/", "x/a/b/c"),
            ("data/*.parquet", "data/1.parquet"),
            ("data/**", "data/1/2/3"),
            ("**.lance", "a/b.lance"),
            ("data/**/part-*", "data/x/y/part-0"),
            ("/data/*", "data/1"),
            ("v*/", "table/v7/file"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.json", "a/json"),
            ("*.json", "a.json/b"),
            ("_delta_log/", "table/_delta_log"),
            ("_delta_log/", "table/my_delta_log/0"),
            ("data/*.parquet", "data/1/2.parquet"),
            ("data/*.parquet", "x/data/1.parquet"),
            ("a/b/", "a/x/b/c"),
            ("part", "party"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        assert_eq!(Pattern::new(String::new()), None);
        assert_eq!(Pattern::new("/".into()), None);
    }

    #[test]
    fn the_first_rule_counts_and_a_bypass_comes_before_all() {
        let pattern = |text: &str| Pattern::new(text.into()).expect("a pattern");
        let rules = Rules {
            bypass: BYPASSED.map(pattern).to_vec(),
            validate: vec![
                (pattern("hot/*.parquet"), Validate::After(Duration::from_secs(1))),
                (pattern("*.parquet"), Validate::Immutable),
            ],
            otherwise: Validate::Always,
        };
        assert_eq!(rules.of("hot/1.parquet"), Some(Validate::After(Duration::from_secs(1))));
        assert_eq!(rules.of("cold/1.parquet"), Some(Validate::Immutable));
        assert_eq!(rules.of("cold/1.csv"), Some(Validate::Always));
        for path in ["t/_delta_log/1.parquet", "t/_versions/1.manifest", "t/metadata/x.avro", "t/x.json"] {
            assert_eq!(rules.of(path), None, "{path}");
        }
    }
}
