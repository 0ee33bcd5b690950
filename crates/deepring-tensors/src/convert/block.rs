//! The loop of every conversion: blocks of elements, by way of single-precision floats.
//!
//! Source and target are bytes at any address, so elements pass through aligned arrays on the stack. They stay in the
//! first-level cache, and the loops over them have no dependencies, so they compile to vector instructions.

/// Elements of a block. An array of 4 bytes each is a small part of any first-level cache, and long enough that what a
/// block costs by itself does not show.
pub(super) const BLOCK: usize = 256;

/// An element type whose values an `f32` carries until they are stored.
pub(super) trait Source {
    /// Bytes of an element.
    const BYTES: usize;

    /// Reads elements, little endian. There are at most [`BLOCK`], and as many values as elements.
    fn load(bytes: &[u8], values: &mut [f32]);
}

/// An element type that values are rounded to.
pub(super) trait Target {
    /// Bytes of an element.
    const BYTES: usize;

    /// Whether it has fewer digits than an `f32`, so that [`Target::store`] rounds.
    const ROUNDS: bool;

    /// Writes the nearest elements, little endian. There are at most [`BLOCK`], and as many values as elements.
    fn store(values: &[f32], bytes: &mut [u8]);
}

/// Converts whole elements into as many: [`convert_into`](super::convert_into) has checked the sizes.
pub(super) fn convert<S: Source, T: Target>(source: &[u8], target: &mut [u8]) {
    let mut values = [0.0; BLOCK];
    for (source, target) in source.chunks(BLOCK * S::BYTES).zip(target.chunks_mut(BLOCK * T::BYTES)) {
        let values = &mut values[..source.len() / S::BYTES];
        S::load(source, values);
        T::store(values, target);
    }
}
