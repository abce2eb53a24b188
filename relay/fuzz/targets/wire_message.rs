//! The fuzzer's door to `relay::wire::fuzz::wire_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::wire::fuzz::wire_message(data));
