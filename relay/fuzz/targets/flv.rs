//! The fuzzer's door to `relay::wire::fuzz::flv`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::flv(data));
