//! RTMP time: 32-bit milliseconds that wrap after 49.7 days (RTMP 1.0 section 3).

/// A message's timestamp in milliseconds. It has no order of its own because it wraps: two are
/// compared by their signed difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timestamp(pub u32);

impl Timestamp {
    /// Milliseconds from `earlier` to `self`, negative when `self` is the older one. Right as long
    /// as the two lie within 2^31 ms (24.8 days) of each other.
    #[must_use]
    pub fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }

    /// This time moved by `milliseconds`, modulo 2^32. A delta read from the wire that went
    /// backwards arrives as a huge number and still lands right.
    #[must_use]
    pub fn plus(self, milliseconds: u32) -> Self {
        Self(self.0.wrapping_add(milliseconds))
    }

    /// This time moved back by `milliseconds`, modulo 2^32.
    #[must_use]
    pub fn minus(self, milliseconds: u32) -> Self {
        Self(self.0.wrapping_sub(milliseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_survive_the_wrap() {
        let check =
            |a: u32, b: u32, expected: i32| assert_eq!(Timestamp(a).since(Timestamp(b)), expected);
        check(5, 3, 2);
        check(3, 5, -2);
        check(1, u32::MAX, 2);
        check(u32::MAX, 1, -2);
        check(0x8000_0001, 0x7fff_ffff, 2);
        assert_eq!(Timestamp(10).plus(5u32.wrapping_neg()), Timestamp(5));
        assert_eq!(Timestamp(3).minus(5), Timestamp(u32::MAX - 1));
    }
}
