//! The fuzzer's door to `relay::wire::fuzz::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::control(data));
