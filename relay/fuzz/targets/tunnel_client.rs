//! The fuzzer's door to `relay::session::fuzz::tunnel_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::tunnel_client(data));
