//! The fuzzer's door to `relay::access::fuzz::authmod_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::access::fuzz::authmod_answer(data));
