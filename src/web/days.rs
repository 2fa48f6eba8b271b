//! Parses dates and times of forms, in UTC.

use crate::domain::timestamp::Timestamp;

pub const DAY_SECONDS: i64 = 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DayError {
    #[error("must be a date such as 2027-01-31")]
    Day,
    #[error("must be a date such as 2027-01-31, or a date and a time such as 2027-01-31T12:00")]
    Moment,
}

/// Parses a date such as `2027-01-31`. Returns the start of the day.
pub fn parse_day(text: &str) -> Result<Timestamp, DayError> {
    let text = text.trim();
    if text.len() != "2027-01-31".len() {
        return Err(DayError::Day);
    }
    Timestamp::parse(&format!("{text}T00:00:00Z")).map_err(|_| DayError::Day)
}

/// Parses a date. Returns the start of the next day.
pub fn parse_end_of_day(text: &str) -> Result<Timestamp, DayError> {
    parse_day(text)?.plus_seconds(DAY_SECONDS).ok_or(DayError::Day)
}

/// Parses a date or a date with a time: `2027-01-31` or `2027-01-31T12:00`. A date means the start
/// of the day.
pub fn parse_moment(text: &str) -> Result<Timestamp, DayError> {
    let text = text.trim();
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => return Err(DayError::Moment),
    };
    Timestamp::parse(&whole).map_err(|_| DayError::Moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_minutes_are_read_as_utc() {
        let shown = |at: Result<Timestamp, DayError>| at.map(|at| at.to_string());
        assert_eq!(shown(parse_day("2027-01-31")), Ok("2027-01-31T00:00:00.000000Z".into()));
        assert_eq!(shown(parse_end_of_day("2026-12-31")), Ok("2027-01-01T00:00:00.000000Z".into()));
        assert_eq!(shown(parse_moment("2027-01-31")), Ok("2027-01-31T00:00:00.000000Z".into()));
        assert_eq!(
            shown(parse_moment(" 2027-01-31T12:05 ")),
            Ok("2027-01-31T12:05:00.000000Z".into())
        );
    }

    #[test]
    fn malformed_days_and_minutes_are_refused() {
        for text in
            ["", "tomorrow", "2027-02-30", "31.01.2027", "2027-1-31", "2027-01-31T", "éééééé"]
        {
            assert_eq!(parse_day(text), Err(DayError::Day), "{text:?}");
            assert_eq!(parse_moment(text), Err(DayError::Moment), "{text:?}");
        }
        for text in ["2027-01-31T24:00", "2027-01-31 12:0", "2027-01-31T12:00Z", "2027-01-31T1200Z"]
        {
            assert_eq!(parse_moment(text), Err(DayError::Moment), "{text:?}");
        }
        assert_eq!(parse_end_of_day("9999-12-31"), Err(DayError::Day));
    }
}
