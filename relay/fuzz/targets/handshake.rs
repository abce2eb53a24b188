//! The fuzzer's door to `relay::wire::fuzz::handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::handshake(data));
