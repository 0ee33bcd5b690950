#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deepring_tensors::fuzz::run("index", bytes));
