//! The shortest decimal that reads as a double, and of those the nearest: what encoders write.

/// Bits of a double's mantissa behind its first.
const MANTISSA: u32 = 52;
/// Powers of five below 2^63: 53 bits times one of these fit 128.
const FIVES: [u64; 28] = {
    let mut powers = [1; 28];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = 5 * powers[at - 1];
        at += 1;
    }
    powers
};
/// The least number of 16 digits.
const LEAST: u64 = 1_000_000_000_000_000;
/// A digit and so many bits behind the point fit 64 bits.
const BEHIND: u32 = 60;

/// (digits, decimals): the number is digits / 10^decimals, with 16 or 17 digits, of which the last may be 0. None for
/// numbers that are too large or too small for 128 bits.
///
/// The distance of doubles here is one unit of the last of these digits or more, but less than ten. So at least one number
/// of this length reads as the double, and no two that end with a 0 do: one that does is the shortest, for of all shorter
/// ones there is no other.
///
/// The bounds, half of the distance above and below, have odd numerators above a power of two: they are no integers.
#[inline]
pub fn shortest(positive: f64) -> Option<(u64, usize)> {
    let bits = positive.to_bits();
    let mantissa = bits & ((1 << MANTISSA) - 1);
    // A distance is two to the minus this.
    let finest = 1075_u64.checked_sub(bits >> MANTISSA)?;
    let decimals = ((finest * 1233) >> 12) + 1; // by the logarithm of 2
    let shift = u32::try_from(finest.checked_sub(decimals)?).ok()?;
    if mantissa == 0 {
        return power_of_two(finest.checked_sub(u64::from(MANTISSA))?);
    }
    if !(1..BEHIND).contains(&shift) {
        return None;
    }
    let decimals = usize::try_from(decimals).ok()?;
    let five = *FIVES.get(decimals)?;
    let exact = u128::from(mantissa | 1 << MANTISSA) * u128::from(five);
    #[allow(clippy::cast_possible_truncation, reason = "its halves")]
    let (high, low) = ((exact >> 64) as u64, exact as u64);
    let (found, behind) = (high << (64 - shift) | low >> shift, low & ((1 << shift) - 1));
    // Of the distance, and from the numbers that end with a 0 below and above.
    let half = five / 2;
    let last = found % 10;
    let down = (last << shift) | behind;
    let up = (10 << shift) - down;
    let middle = 1 << (shift - 1);
    let nearest = found + u64::from(behind > middle || (behind == middle && found % 2 == 1));
    let ends_with_zero = found - last + if up <= half { 10 } else { 0 };
    Some((if down <= half || up <= half { ends_with_zero } else { nearest }, decimals))
}

/// Of two to the minus this, whose neighbours are not equally far. Five to the same has its digits: up to 15 are the
/// shortest, for no two numbers of so many (`DBL_DIG`) read as one double.
#[cold]
fn power_of_two(power: u64) -> Option<(u64, usize)> {
    let mut decimals = usize::try_from(power).ok()?;
    let mut digits = *FIVES.get(decimals)?;
    if digits >= LEAST {
        return None;
    }
    while digits < LEAST {
        (digits, decimals) = (10 * digits, decimals + 1);
    }
    Some((digits, decimals))
}
