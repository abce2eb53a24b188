//! The fuzzer's door to `relay::wire::fuzz::media_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::media_header(data));
