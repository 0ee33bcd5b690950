//! Copies of tensors, so that their memory is free before they are written.

use crate::harness::{directory, engine, source};
use crate::model::{check, generation, mixed, store};
use deepring_tensors::DType;
use deepring_tensors::checkpoint::{BeginOptions, CheckpointOptions, PutOptions};

#[test]
fn what_the_caller_changes_after_it_was_captured_is_saved_as_it_was() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let tensors = mixed("t");
    for (staging, number) in [(64 << 20, 1), (6 << 20, 2), (0, 3)] {
        let mut captured = store.save(tensors.clone(), CheckpointOptions::new().staging(staging)).wait().expect("captured");
        assert_eq!(captured.number(), number);
        for mut data in captured.take() {
            data.fill(0);
        }
        captured.commit().wait().expect("a commit");
        check(&engine, &generation(place.path(), number), &tensors);
    }
}

#[test]
fn a_tensor_that_was_put_can_change_at_once() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new().staging(12 << 20)).wait().expect("a writer");
    let mut tensors = mixed("t");
    // More than the staging has room for: the rest is written before the put ends.
    tensors.extend((0..6).map(|nth| source(&format!("large{nth}"), DType::U8, &[(3 << 20) + 4096 * (nth % 2) + nth % 3])));
    for tensor in tensors.clone() {
        let mut data = writer.put(tensor, PutOptions::new()).wait().expect("put");
        data.fill(0);
    }
    writer.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), 1), &tensors);
}
