//! [`Shapes`]: the shapes of many tensors, packed so that none takes more memory than its digits in a header.

/// Shapes by index. Each extent is a LEB128 number: seven bits a byte, the lowest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shapes {
    bytes: Vec<u8>,
    /// Where each ends among the bytes.
    ends: Vec<u32>,
}

impl Shapes {
    /// Adds an extent to the shape that is being made.
    pub(crate) fn extend(&mut self, mut extent: u64) {
        while extent >= 0x80 {
            self.bytes.push(extent as u8 | 0x80);
            extent >>= 7;
        }
        self.bytes.push(extent as u8);
    }

    /// Ends the shape that is being made.
    pub(crate) fn end(&mut self) {
        self.ends.push(self.bytes.len() as u32);
    }

    pub(crate) fn push(&mut self, shape: impl IntoIterator<Item = u64>) {
        for extent in shape {
            self.extend(extent);
        }
        self.end();
    }

    /// The shape at this index. It must exist.
    pub(crate) fn get(&self, index: usize) -> impl Iterator<Item = u64> + '_ {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        let mut bytes = self.bytes[start..self.ends[index] as usize].iter();
        std::iter::from_fn(move || {
            let mut extent = 0;
            for (place, &byte) in bytes.by_ref().enumerate() {
                extent |= u64::from(byte & 0x7f) << (7 * place);
                if byte & 0x80 == 0 {
                    return Some(extent);
                }
            }
            None
        })
    }

    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::Shapes;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn shapes_come_back(list in prop::collection::vec(prop::collection::vec(prop_oneof![0..300u64, any::<u64>()], 0..5), 0..20)) {
            let mut shapes = Shapes::default();
            for shape in &list {
                shapes.push(shape.iter().copied());
            }
            for (index, shape) in list.iter().enumerate() {
                prop_assert_eq!(&shapes.get(index).collect::<Vec<_>>(), shape);
            }
        }
    }
}
