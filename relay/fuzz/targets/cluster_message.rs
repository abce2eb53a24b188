//! The fuzzer's door to `relay::cluster::fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::cluster::fuzz::message(data));
