//! The fuzzer's door to `relay::session::fuzz::data_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::session::fuzz::data_message(data));
