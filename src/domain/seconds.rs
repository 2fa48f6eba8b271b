//! Durations on the command line.

/// Parses a number of seconds, or a number followed by s, m, h or d. A product that does not fit is
/// `i64::MAX`. Returns `None` for any other text.
pub(crate) fn parse_seconds(text: &str) -> Option<i64> {
    let unit = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit);
    let unit = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    if digits.is_empty() {
        return None;
    }
    // A number of digits that does not fit is too large.
    Some(digits.parse().unwrap_or(i64::MAX).saturating_mul(unit))
}
