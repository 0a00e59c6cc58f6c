//! Bytes as damage of stored files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openconsensus_fuzzing::open_store(data));
