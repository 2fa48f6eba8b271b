//! Times in UTC with microsecond precision, as in Postgres.

use std::fmt;

use time::{
    Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A moment in UTC, in whole microseconds, in the years 0 to 9999.
///
/// A timestamp takes twelve bytes, even as an `Option`, because every cached principal contains
/// one.
///
/// ```
/// use tollgate::domain::timestamp::{Timestamp, TimestampError};
///
/// let noon = Timestamp::parse("2027-01-31T14:00:00+02:00")?;
/// assert_eq!(noon.to_string(), "2027-01-31T12:00:00.000000Z");
/// assert_eq!(Timestamp::from_unix_micros(noon.unix_micros()), Some(noon));
/// assert!(noon.plus_seconds(60) > Some(noon));
/// # Ok::<(), TimestampError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Timestamp(PrimitiveDateTime);

/// The text is not in the format of RFC 3339, or the moment is outside the years 0 to 9999 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in RFC 3339, such as \"2027-01-31T12:00:00Z\"")]
pub struct TimestampError;

impl Timestamp {
    /// Parses a time in the format of RFC 3339, with any offset, and converts it to UTC. Digits
    /// after the microsecond are dropped.
    ///
    /// # Errors
    ///
    /// [`TimestampError`] if the text is not in the format of RFC 3339, or if the moment is outside
    /// the years 0 to 9999 in UTC.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError)?;
        Self::try_from(moment)
    }

    /// Returns the moment `micros` microseconds after 1970-01-01T00:00:00Z, or before that time if
    /// `micros` is negative. `None` if the moment is outside the years 0 to 9999.
    #[must_use]
    pub fn from_unix_micros(micros: i64) -> Option<Self> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
            .ok()
            .and_then(|moment| Self::try_from(moment).ok())
    }

    /// Returns the microseconds since 1970-01-01T00:00:00Z. The number is negative before that
    /// time.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "years 0 to 9999 in microseconds fit i64")]
    pub fn unix_micros(self) -> i64 {
        let micros = self.0.assume_utc().unix_timestamp_nanos() / 1000;
        i64::try_from(micros).expect("years 0 to 9999 in microseconds fit i64")
    }

    /// Returns the moment `seconds` later, or earlier if `seconds` is negative. `None` if the
    /// moment is outside the years 0 to 9999.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Option<Self> {
        self.0
            .checked_add(Duration::seconds(seconds))
            .and_then(|moment| Self::try_from(moment.assume_utc()).ok())
    }
}

impl TryFrom<OffsetDateTime> for Timestamp {
    type Error = TimestampError;

    fn try_from(moment: OffsetDateTime) -> Result<Self, TimestampError> {
        let utc = moment.checked_to_offset(UtcOffset::UTC).ok_or(TimestampError)?;
        let whole = utc.replace_microsecond(utc.microsecond()).map_err(|_| TimestampError)?;
        let in_range = (0..=9999).contains(&whole.year());
        let moment = PrimitiveDateTime::new(whole.date(), whole.time());
        if in_range { Ok(Self(moment)) } else { Err(TimestampError) }
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(moment: Timestamp) -> Self {
        moment.0.assume_utc()
    }
}

/// Writes the time in the format of RFC 3339, with six fractional digits and `Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(FORMAT).map_err(|_| fmt::Error)?)
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    Timestamp,
    "Timestamp",
    super::schema::formatted(
        "date-time",
        "A time in UTC (RFC 3339). Responses contain six fractional digits."
    )
    .examples(["2027-01-31T12:00:00.000000Z"])
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_fractions_are_normalised() {
        for (text, shown) in [
            ("2027-01-31T12:00:00Z", "2027-01-31T12:00:00.000000Z"),
            ("2027-01-31T12:00:00.1234567+02:00", "2027-01-31T10:00:00.123456Z"),
            ("2027-01-31t12:00:00z", "2027-01-31T12:00:00.000000Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|at| at.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn malformed_timestamps_are_refused() {
        for text in [
            "",
            "tomorrow",
            "2027-01-31",
            "2027-02-30T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "1e9",
        ] {
            assert_eq!(Timestamp::parse(text), Err(TimestampError), "{text:?}");
        }
    }

    #[test]
    fn microseconds_survive_a_round_trip() {
        let at = Timestamp::parse("2026-11-22T02:31:00.000001Z").expect("a time");
        assert_eq!(Timestamp::from_unix_micros(at.unix_micros()), Some(at));
    }
}
