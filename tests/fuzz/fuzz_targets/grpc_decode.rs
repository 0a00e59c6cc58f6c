//! Bytes from the network.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| openconsensus_fuzzing::grpc_decode(data));
