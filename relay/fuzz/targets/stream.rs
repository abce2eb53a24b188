//! The fuzzer's door to `relay::stream::fuzz::operations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::stream::fuzz::operations(data));
