//! Decimals as Avro holds them: an unscaled integer, big-endian in two's complement, and a scale.

use serde_json::{Number, Value};

/// Longest unscaled integer that is read; databases have at most 1,000 digits, which is 416 bytes.
const BYTES_MAX: usize = 512;
/// Largest scale that is read.
const SCALE_MAX: usize = 2048;
/// Decimal digits that a number surely holds.
const DIGITS_EXACT: usize = 15;

/// A decimal as JSON: a number where that holds it exactly, else its text. `None`: longer than anybody's.
pub(super) fn decimal(unscaled: &[u8], scale: usize) -> Option<Value> {
    if unscaled.len() > BYTES_MAX || scale > SCALE_MAX {
        return None;
    }
    let text = text(unscaled, scale);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let number = if scale == 0 {
        text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from)).ok()
    } else if digits <= DIGITS_EXACT {
        text.parse::<f64>().ok().and_then(Number::from_f64)
    } else {
        None
    };
    Some(number.map_or(Value::String(text), Value::Number))
}

/// The decimal text.
fn text(unscaled: &[u8], scale: usize) -> String {
    let negative = unscaled.first().is_some_and(|first| first & 0x80 != 0);
    let mut magnitude = unscaled.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (flipped, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (flipped, over);
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0u32;
        for byte in &mut magnitude {
            let now = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(now / 10).unwrap_or(u8::MAX);
            rest = now % 10;
        }
        digits.push(char::from_digit(rest, 10).unwrap_or('0'));
    }
    while digits.len() <= scale {
        digits.push('0');
    }
    let (whole, fraction) = (digits[scale..].iter().rev(), digits[..scale].iter().rev());
    let mut text = String::from(if negative { "-" } else { "" });
    text.extend(whole);
    if scale > 0 {
        text.push('.');
        text.extend(fraction);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn decimals_are_numbers_while_these_are_exact() {
        assert_eq!(decimal(&[0x04, 0xd2], 2), Some(json!(12.34)));
        assert_eq!(decimal(&[0xfb, 0x2e], 2), Some(json!(-12.34)));
        assert_eq!(decimal(&[0xff], 3), Some(json!(-0.001)));
        assert_eq!(decimal(&[], 0), Some(json!(0)));
        assert_eq!(decimal(&[0], 2), Some(json!(0.0)));
        assert_eq!(decimal(&[0x80, 0, 0, 0, 0, 0, 0, 0], 0), Some(json!(i64::MIN)));
        assert_eq!(decimal(&[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0), Some(json!(u64::MAX)));
        assert_eq!(decimal(&[1, 0, 0, 0, 0, 0, 0, 0, 0], 0), Some(json!("18446744073709551616")));
        assert_eq!(decimal(&[0x80, 0, 0, 0, 0, 0, 0, 0], 4), Some(json!("-922337203685477.5808")));
        assert_eq!(decimal(&[0; BYTES_MAX + 1], 0), None);
        assert_eq!(decimal(&[0], SCALE_MAX + 1), None);
    }
}
