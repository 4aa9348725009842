//! Sizes with their units.

/// Units of a size in bytes: IEC in powers of 1024, SI in powers of 1000.
const UNITS: [(&str, i128); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads a size such as `16MiB`, `64 KiB` or `1024`.
pub(crate) fn parse_size(text: &str) -> Option<i128> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i128 = number.parse().ok()?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("16MiB"), Some(16 << 20));
        assert_eq!(parse_size(" 64 KiB "), Some(64 << 10));
        assert_eq!(parse_size("1024"), Some(1024));
        assert_eq!(parse_size("2kB"), Some(2000));
        for wrong in ["", "MiB", "1.5MiB", "-1", "1 mib", "1 MiB B"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }
}
