//! The fuzzer's door to `relay::access::fuzz::access`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::access::fuzz::access(data));
