//! The fuzzer's door to `relay::session::fuzz::command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::command(data));
