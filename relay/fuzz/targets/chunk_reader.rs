//! The fuzzer's door to `relay::wire::fuzz::chunk_reader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::chunk_reader(data));
