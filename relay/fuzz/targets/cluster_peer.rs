//! The fuzzer's door to `relay::cluster::fuzz::peer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::cluster::fuzz::peer(data));
