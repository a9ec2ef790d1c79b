//! The shortest decimal that reads as a double, and of those the nearest: what encoders write.

/// Bits of a double's mantissa behind its first.
const MANTISSA: u32 = 52;
/// Powers of five that 54 bits can be multiplied by within 128.
const FIVES: [u128; 32] = {
    let mut powers = [1; 32];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = 5 * powers[at - 1];
        at += 1;
    }
    powers
};

/// (digits, decimals): the number is digits / 10^decimals, with 17 digits at most, of which the last is not 0. None where
/// that takes more than a few multiplications, as for numbers that are too large or too small.
///
/// A number is m / 2^e, and the decimals between m - 1/2 and m + 1/2 of these units read as it; but from m - 1/4 where the
/// doubles below are nearer, which is below a power of two. The bounds, times 10^decimals, have odd numerators above a
/// power of two: they are no integers.
#[inline]
pub fn shortest(positive: f64) -> Option<(u64, usize)> {
    let bits = positive.to_bits();
    let mantissa = bits & ((1 << MANTISSA) - 1);
    let exponent = i32::try_from(bits >> MANTISSA).ok()? - 1023;
    if !(-49..53).contains(&exponent) {
        return None;
    }
    let quarters = if mantissa == 0 { 1 } else { 2 };
    let mantissa = mantissa | 1 << MANTISSA;
    // 17 or 18 digits, of which the last counts less than the distance of two doubles.
    let places = 16 - ((exponent * 1233) >> 12); // by the logarithm of 2
    let mut decimals = usize::try_from(places).ok()?;
    let five = FIVES.get(decimals)?;
    let shift = 52 - exponent - places;
    if shift < 1 {
        return None;
    }
    let scaled = u128::from(mantissa) * five;
    let mut low = truncated((4 * scaled - quarters * five) >> (shift + 2)) + 1;
    let mut high = truncated((2 * scaled + five) >> (shift + 1));
    let mut found = truncated(scaled >> shift);
    // What is left out behind `found`: its first digit, and whether more than zeros follow.
    let tenths = 10 * (scaled & ((1 << shift) - 1));
    let (mut digit, mut more) = (truncated(tenths >> shift), tenths & ((1 << shift) - 1) != 0);
    while low.div_ceil(10) <= high / 10 && decimals > 0 {
        more |= digit != 0;
        digit = found % 10;
        (low, high, found) = (low.div_ceil(10), high / 10, found / 10);
        decimals -= 1;
    }
    found += u64::from(digit > 5 || (digit == 5 && (more || found % 2 == 1)));
    (low <= found && found <= high).then_some((found, decimals))
}

/// Of a number of at most 18 digits.
#[inline]
fn truncated(number: u128) -> u64 {
    #[allow(clippy::cast_possible_truncation, reason = "less than 2^63")]
    {
        number as u64
    }
}
