//! [`Version`]: a model, all of which follows from its number.

use crate::harness::Rng;
use crate::lab::content::Content;
use deepring_tensors::{DType, Declared, Source};
use std::collections::BTreeMap;

/// The key of the number under `__metadata__`.
pub(super) const NUMBER: &str = "version";

/// The most tensors of a version.
const TENSORS_MAX: u64 = 12;

/// The most files of a version, a tensor that is larger than its share apart. Each costs some
/// flushes, and the more versions are saved before a cut, the better.
const FILES_MAX: u64 = 4;

const DTYPES: [DType; 6] = [DType::F32, DType::BF16, DType::F16, DType::U8, DType::I64, DType::F8E4M3];

pub(super) struct Version {
    number: u64,
    content: Content,
    pub(super) declared: Vec<Declared>,
}

impl Version {
    pub(super) fn new(seed: u64, content: Content, number: u64) -> Self {
        let mut rng = Rng::seeded(seed ^ number.rotate_left(32));
        let declare = |index| {
            let kind = *rng.pick(&["weight", "bias", "norm"]);
            let shape = match rng.below(6) {
                0 => Vec::new(),
                1 => vec![rng.below(3), 1 + rng.below(40)],
                2 => vec![rng.below(5000)],
                // Whole blocks in many types.
                3 => vec![1 + rng.below(32), 4096],
                _ => vec![1 + rng.below(64), 1 + rng.below(1500)],
            };
            Declared { name: format!("layer.{index}.{kind}"), dtype: *rng.pick(&DTYPES), shape }
        };
        let count = 1 + Rng::seeded(seed ^ number).below(TENSORS_MAX);
        Self { number, content, declared: (0..count).map(declare).collect() }
    }

    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(NUMBER.to_owned(), self.number.to_string())])
    }

    /// The bytes of all tensors, one behind the other as they are declared.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut all = vec![0; self.lens().sum()];
        self.content.fill(self.number, 0, &mut all);
        all
    }

    /// The tensors with their bytes.
    pub(super) fn tensors(&self) -> Vec<Source<Vec<u8>>> {
        let all = self.bytes();
        let mut rest = &all[..];
        let mut take = |len| rest.split_off(..len).unwrap_or_default().to_vec();
        let lens = self.lens().collect::<Vec<_>>();
        self.declared.iter().cloned().zip(lens).map(|(declared, len)| Source { declared, data: take(len) }).collect()
    }

    fn lens(&self) -> impl Iterator<Item = usize> {
        // Every type here has whole bytes, and no shape more than can be counted.
        self.declared.iter().map(|declared| declared.bytes().unwrap_or(0) as usize)
    }

    /// How much a file of it holds.
    pub(super) fn shard_bytes(&self, rng: &mut Rng) -> u64 {
        self.lens().sum::<usize>() as u64 / (1 + rng.below(FILES_MAX)) + 1
    }
}
