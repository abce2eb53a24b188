//! The fuzzer's door to `relay::session::fuzz::server_session`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::server_session(data));
