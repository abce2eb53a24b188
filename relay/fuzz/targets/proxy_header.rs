//! The fuzzer's door to `relay::session::fuzz::proxy_header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::proxy_header(data));
