//! The fuzzer's door to `relay::session::fuzz::request_heads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::request_heads(data));
