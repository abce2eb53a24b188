//! What the tests of this room share: bytes written as text, and inputs cut at every place.

/// Bytes from text: hexadecimal digits, and `a*300` for 300 payload bytes of pattern `a`, which
/// goes on where the last `a*` ended.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut given = [0; 26];
    for word in text.split_whitespace() {
        let Some((letter, count)) = word.split_once('*') else {
            assert!(word.len() % 2 == 0, "{word}: two digits make a byte");
            let digit = |at: usize| {
                word[at..].chars().next().and_then(|digit| digit.to_digit(16)).expect(word)
            };
            out.extend((0..word.len()).step_by(2).map(|at| {
                u8::try_from(digit(at) * 16 + digit(at + 1)).expect("two digits make a byte")
            }));
            continue;
        };
        let letter = letter.parse::<char>().expect("a letter");
        let from = &mut given[usize::try_from(u32::from(letter) - u32::from('a')).expect("a to z")];
        let count = count.parse::<usize>().expect("a count");
        out.extend(pattern(letter, *from + count).drain(*from..));
        *from += count;
    }
    out
}

/// The first `count` bytes of a pattern.
pub(crate) fn pattern(letter: char, count: usize) -> Vec<u8> {
    let seed = u8::try_from(letter).expect("a letter");
    (0..count).map(|at| seed ^ at.to_le_bytes()[0] ^ at.to_le_bytes()[1].wrapping_mul(31)).collect()
}

/// Calls `each` with `input` whole, in two pieces cut at every place, and byte by byte.
pub(crate) fn every_split(input: &[u8], mut each: impl FnMut(&[&[u8]])) {
    each(&[input]);
    for at in 0..=input.len() {
        let (front, back) = input.split_at(at);
        each(&[front, back]);
    }
    each(&input.chunks(1).collect::<Vec<_>>());
}

/// Cuts `input` into random pieces of up to `longest` bytes, empty ones among them.
pub(crate) fn random_pieces<'a>(
    input: &'a [u8],
    longest: usize,
    random: &mut fastrand::Rng,
) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(random.usize(0..=longest.min(rest.len())));
        pieces.push(piece);
        rest = later;
    }
    pieces
}
