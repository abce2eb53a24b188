//! The fuzzer's door to `relay::worker::fuzz::outside_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::worker::fuzz::outside_url(data));
