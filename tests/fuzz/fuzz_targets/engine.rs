//! Bytes as what happens to engines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openconsensus_fuzzing::engine(data));
