#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deepring::fuzz::run("planted", bytes));
