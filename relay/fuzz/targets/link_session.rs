//! The fuzzer's door to `relay::session::fuzz::link_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::link_session(data));
