//! The fuzzer's door to `relay::access::fuzz::access_files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::access::fuzz::access_files(data));
