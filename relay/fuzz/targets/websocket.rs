//! The fuzzer's door to `relay::wire::fuzz::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::websocket(data));
