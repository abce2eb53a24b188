//! The fuzzer's door to `relay::cluster::fuzz::greeting`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::cluster::fuzz::greeting(data));
