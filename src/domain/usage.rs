//! How often a key was used: what is counted, and over which time it is asked for.

use std::str::FromStr;

use super::timestamp::Timestamp;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const MICROS: i64 = 1_000_000;

/// What was said of a key that is known, as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It passed.
    Valid,
    Revoked,
    Expired,
    Disabled,
    AccountSuspended,
    InsufficientScope,
}

impl Outcome {
    pub const ALL: [Self; 6] = [
        Self::Valid,
        Self::Revoked,
        Self::Expired,
        Self::Disabled,
        Self::AccountSuspended,
        Self::InsufficientScope,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::AccountSuspended => "account_suspended",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

impl FromStr for Outcome {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        found.ok_or("no such outcome is counted")
    }
}

/// How often each outcome came; never below zero.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OutcomeCounts([i64; Outcome::ALL.len()]);

impl OutcomeCounts {
    pub fn add(&mut self, outcome: Outcome, count: i64) {
        let old = &mut self.0[outcome as usize];
        *old = old.saturating_add(count);
    }

    pub fn merge(&mut self, other: &Self) {
        for (outcome, count) in other.iter() {
            self.add(outcome, count);
        }
    }

    #[must_use]
    pub fn get(&self, outcome: Outcome) -> i64 {
        self.0[outcome as usize]
    }

    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().fold(0_i64, |sum, count| sum.saturating_add(*count))
    }

    /// Every outcome with its count, zeros too.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, i64)> {
        Outcome::ALL.into_iter().zip(self.0)
    }
}

/// The length of the steps in which usage is told. Days are those of UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Granularity {
    Hour,
    Day,
}

impl Granularity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// Seconds of one step.
    fn step(self) -> i64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// Seconds that are told of when nobody says since when.
    fn default_length(self) -> i64 {
        match self {
            Self::Hour => 24 * HOUR,
            Self::Day => 30 * DAY,
        }
    }

    /// Seconds that can be asked for at the most.
    fn max_length(self) -> i64 {
        match self {
            Self::Hour => 31 * DAY,
            Self::Day => 366 * DAY,
        }
    }
}

impl FromStr for Granularity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err("must be hour or day"),
        }
    }
}

/// A time in whole steps: at least one, and at most 31 days of hours or 366 days, and up to two
/// steps more where it was asked for between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageRange {
    from: Timestamp,
    to: Timestamp,
    granularity: Granularity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UsageRangeError {
    #[error("must lie before to, or before now where there is no to")]
    Empty,
    #[error("must lie at most 31 days before to by the hour, 366 days by the day")]
    TooLong,
    #[error("is too near to the end of all times that can be told")]
    OutOfTime,
}

impl UsageRange {
    /// From the step in which `from` lies up to the one in which `to` does, with it unless `to` is
    /// its beginning. Without a `to` the step of `now` is the last one. Without a `from` it is 24
    /// hours or 30 days.
    pub fn new(
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        granularity: Granularity,
        now: Timestamp,
    ) -> Result<Self, UsageRangeError> {
        let (now, step) = (now.unix_micros(), granularity.step() * MICROS);
        let (from, to) = (from.map(Timestamp::unix_micros), to.map(Timestamp::unix_micros));
        if let Some(from) = from {
            let end = to.unwrap_or(now);
            if from >= end {
                return Err(UsageRangeError::Empty);
            }
            if end - from > granularity.max_length() * MICROS {
                return Err(UsageRangeError::TooLong);
            }
        }
        let beginning_of_step = |moment: i64| moment.div_euclid(step) * step;
        // `to` itself is outside, now is inside.
        let to = beginning_of_step(to.map_or(now, |to| to - 1)) + step;
        let from = from.map_or(to - granularity.default_length() * MICROS, beginning_of_step);
        let at = |micros| Timestamp::from_unix_micros(micros).ok_or(UsageRangeError::OutOfTime);
        Ok(Self { from: at(from)?, to: at(to)?, granularity })
    }

    /// The beginning of the first step.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// The end of the last step.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        self.to
    }

    #[must_use]
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// The beginning of each step, the first one first.
    pub fn steps(&self) -> impl Iterator<Item = Timestamp> {
        let (to, step) = (self.to, self.granularity.step());
        std::iter::successors(Some(self.from), move |start| start.plus_seconds(step))
            .take_while(move |start| *start < to)
    }
}

impl UsageRangeError {
    /// Which of the two ends is wrong.
    #[must_use]
    pub fn parameter(self) -> &'static str {
        match self {
            Self::Empty | Self::TooLong => "from",
            Self::OutOfTime => "to",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    fn range(
        from: Option<&str>,
        to: Option<&str>,
        granularity: Granularity,
    ) -> Result<(String, String), UsageRangeError> {
        let now = at("2027-01-31T12:34:56.789Z");
        UsageRange::new(from.map(at), to.map(at), granularity, now)
            .map(|range| (range.from().to_string(), range.to().to_string()))
    }

    fn whole(from: &str, to: &str) -> Result<(String, String), UsageRangeError> {
        Ok((at(from).to_string(), at(to).to_string()))
    }

    #[test]
    fn outcomes_are_their_texts() {
        for outcome in Outcome::ALL {
            assert_eq!(outcome.as_str().parse(), Ok(outcome));
        }
    }

    #[test]
    fn counts_are_added_outcome_by_outcome() {
        let mut counts = OutcomeCounts::default();
        counts.add(Outcome::Valid, 2);
        counts.add(Outcome::Revoked, 1);
        let mut sum = counts;
        sum.merge(&counts);
        sum.add(Outcome::Expired, i64::MAX);
        assert_eq!((sum.get(Outcome::Valid), sum.get(Outcome::Revoked)), (4, 2));
        assert_eq!((counts.total(), sum.total()), (3, i64::MAX));
    }

    #[test]
    fn both_ends_have_a_default() {
        use Granularity::{Day, Hour};
        let day_of_hours = whole("2027-01-30T13:00:00Z", "2027-01-31T13:00:00Z");
        assert_eq!(range(None, None, Hour), day_of_hours);
        assert_eq!(range(None, None, Day), whole("2027-01-02T00:00:00Z", "2027-02-01T00:00:00Z"));
        let to = Some("2026-05-05T05:00:00Z");
        assert_eq!(range(None, to, Hour), whole("2026-05-04T05:00:00Z", "2026-05-05T05:00:00Z"));
        let from = Some("2027-01-31T11:59:59Z");
        assert_eq!(range(from, None, Hour), whole("2027-01-31T11:00:00Z", "2027-01-31T13:00:00Z"));
        assert_eq!(range(from, None, Day), whole("2027-01-31T00:00:00Z", "2027-02-01T00:00:00Z"));
    }

    #[test]
    fn the_ends_are_widened_to_whole_steps() {
        let (from, to) = (Some("2026-05-05T22:59:59Z"), Some("2026-05-06T00:00:00.000001Z"));
        let hours = whole("2026-05-05T22:00:00Z", "2026-05-06T01:00:00Z");
        assert_eq!(range(from, to, Granularity::Hour), hours);
        let days = whole("2026-05-05T00:00:00Z", "2026-05-07T00:00:00Z");
        assert_eq!(range(from, to, Granularity::Day), days);
        // What is whole already stays.
        let (from, to) = ("2026-05-05T00:00:00Z", "2026-05-06T00:00:00Z");
        for granularity in [Granularity::Hour, Granularity::Day] {
            assert_eq!(range(Some(from), Some(to), granularity), whole(from, to));
        }
    }

    #[test]
    fn a_range_is_bounded() {
        use Granularity::{Day, Hour};
        let from = Some("2026-01-01T00:30:00Z");
        assert!(range(from, Some("2026-02-01T00:30:00Z"), Hour).is_ok());
        let error = range(from, Some("2026-02-01T00:30:00.000001Z"), Hour);
        assert_eq!(error, Err(UsageRangeError::TooLong));
        assert!(range(from, Some("2027-01-02T00:30:00Z"), Day).is_ok());
        let error = range(from, Some("2027-01-02T00:30:00.000001Z"), Day);
        assert_eq!(error, Err(UsageRangeError::TooLong));
        assert_eq!(range(from, None, Hour), Err(UsageRangeError::TooLong));
        for to in [from, Some("2025-01-01T00:00:00Z")] {
            assert_eq!(range(from, to, Hour), Err(UsageRangeError::Empty));
        }
        let future = Some("2027-01-31T12:40:00Z");
        assert_eq!(range(future, None, Hour), Err(UsageRangeError::Empty));
        for to in ["9999-12-31T23:30:00Z", "0000-01-01T01:00:00Z"] {
            assert_eq!(range(None, Some(to), Hour), Err(UsageRangeError::OutOfTime));
        }
    }

    proptest! {
        #[test]
        fn the_steps_cover_the_range_without_a_gap(
            now in 0..253_000_000_000_000_000_i64, length in 1..31 * DAY * MICROS, by_day: bool
        ) {
            let granularity = if by_day { Granularity::Day } else { Granularity::Hour };
            let at = |micros| Timestamp::from_unix_micros(micros).expect("in range");
            let (from, to) = (at(now), at(now + length));
            let range = UsageRange::new(Some(from), Some(to), granularity, to).expect("in bounds");
            prop_assert!(range.from() <= from && to <= range.to());
            let steps: Vec<Timestamp> = range.steps().collect();
            prop_assert!(steps.len() <= 31 * 24 + 1);
            prop_assert_eq!(steps[0], range.from());
            let end = range.to();
            for (step, next) in steps.iter().zip(steps[1..].iter().chain([&end])) {
                prop_assert_eq!(step.plus_seconds(granularity.step()), Some(*next));
            }
        }
    }
}
