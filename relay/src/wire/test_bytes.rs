//! Bytes written as text, for tests.

/// The bytes that `text` spells in hexadecimal; white space does not count.
///
/// # Panics
/// When `text` is not hexadecimal: a test is wrong.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|character| character.to_digit(16).expect("tests spell hexadecimal digits"))
        .collect();
    assert!(digits.len().is_multiple_of(2), "tests spell whole bytes: {text}");
    let byte = |pair: &[u32]| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits fit");
    digits.chunks(2).map(byte).collect()
}
