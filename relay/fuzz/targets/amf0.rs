//! The fuzzer's door to `relay::session::fuzz::amf0`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::amf0(data));
