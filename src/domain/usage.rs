//! Usage of keys: the counts, and the time range of a query.

use super::{text_enum::text_enum, timestamp::Timestamp};

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
const MICROS: i64 = 1_000_000;

text_enum! {
    /// The outcome of a request with a known key, for the usage counts.
    pub enum UsageOutcome {
        /// The key was accepted, even if the request then failed or its charge was declined.
        Valid = "valid",
        /// The key was refused because it is revoked.
        Revoked = "revoked",
        /// The key was refused because its expiry has passed.
        Expired = "expired",
        /// The key was refused because it is disabled.
        Disabled = "disabled",
        /// The key was refused because its tenant is suspended.
        TenantSuspended = "tenant_suspended",
        /// The key was refused because its account is suspended.
        AccountSuspended = "account_suspended",
        /// The key may not be used from the address of the request.
        IpNotAllowed = "ip_not_allowed",
        /// The key lacks a scope that the request needs.
        InsufficientScope = "insufficient_scope",
        /// The request was over a rate limit.
        RateLimited = "rate_limited",
    }
}

/// The number of requests with each outcome. No number is negative.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OutcomeCounts([i64; UsageOutcome::ALL.len()]);

impl OutcomeCounts {
    /// Adds `count` requests with `outcome`. The sum saturates at `i64::MAX`.
    pub fn add(&mut self, outcome: UsageOutcome, count: i64) {
        let old = &mut self.0[outcome as usize];
        *old = old.saturating_add(count);
    }

    /// Adds the counts of `other`, outcome by outcome, as [`Self::add`] does.
    pub fn merge(&mut self, other: &Self) {
        for (outcome, count) in other.iter() {
            self.add(outcome, count);
        }
    }

    /// Returns the number of requests with `outcome`.
    #[must_use]
    pub fn get(&self, outcome: UsageOutcome) -> i64 {
        self.0[outcome as usize]
    }

    /// Returns the number of requests with any outcome, at most `i64::MAX`.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.0.iter().fold(0_i64, |sum, count| sum.saturating_add(*count))
    }

    /// Returns every outcome with its count, including zeros.
    pub fn iter(&self) -> impl Iterator<Item = (UsageOutcome, i64)> {
        UsageOutcome::ALL.iter().copied().zip(self.0)
    }
}

/// Writes an object with a member for each outcome.
impl serde::Serialize for OutcomeCounts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    OutcomeCounts,
    "UsageOutcomes",
    UsageOutcome::TEXTS.iter().copied().fold(
        utoipa::openapi::ObjectBuilder::new()
            .description(Some("Number of requests with the key, by outcome.")),
        |object, outcome| {
            let count = super::schema::int64().minimum(Some(0));
            object.property(outcome, count).required(outcome)
        }
    )
);

text_enum! {
    /// The length of a usage step. Days are in UTC.
    pub enum Granularity: Default(Hour) {
        /// One hour.
        Hour = "hour",
        /// One day in UTC.
        Day = "day",
    }
}

impl Granularity {
    /// Returns the length of one step in seconds.
    fn step(self) -> i64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// Returns the length of a range that is requested without a `from`, in seconds.
    fn default_length(self) -> i64 {
        match self {
            Self::Hour => 24 * HOUR,
            Self::Day => 30 * DAY,
        }
    }

    /// Returns the maximum length between `from` and `to`, in seconds.
    fn max_length(self) -> i64 {
        match self {
            Self::Hour => 31 * DAY,
            Self::Day => 366 * DAY,
        }
    }
}

/// A time range in whole steps. It has at least one step, and at most 31 days with hourly steps or
/// 366 days with daily steps. Rounding the ends outward to whole steps can add one step to the
/// maximum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UsageRange {
    from: Timestamp,
    to: Timestamp,
    granularity: Granularity,
}

/// An error from creating a [`UsageRange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageRangeError {
    /// `from` is not earlier than `to`, or not earlier than now if there is no `to`.
    #[error("must be before `to`, or before now if there is no `to`")]
    Empty,
    /// `from` and `to` are more than 31 days apart with hourly steps, or more than 366 days apart
    /// with daily steps.
    #[error("must be at most 31 days before `to` with hourly steps, or 366 days with daily steps")]
    TooLong,
    /// After rounding, or with its default length, the range leaves the years 0 to 9999.
    #[error("must keep the range within the years 0 to 9999")]
    OutOfTime,
}

impl UsageRange {
    /// Creates the range from `from` to `to`, rounded outward to whole steps.
    ///
    /// Without a `to`, the last step is the step that contains `now`. Without a `from`, the range
    /// is 24 hours long with hourly steps, or 30 days long with daily steps.
    ///
    /// # Errors
    ///
    /// [`UsageRangeError::Empty`] if `from` is not earlier than `to`, or than `now` without a `to`;
    /// [`UsageRangeError::TooLong`] if `from` is more than 31 days before the end with hourly
    /// steps, or more than 366 days with daily steps; [`UsageRangeError::OutOfTime`] if an end is
    /// outside the years 0 to 9999.
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
        // `to` is exclusive, but the step that contains `now` is included.
        let to = beginning_of_step(to.map_or(now, |to| to - 1)) + step;
        let from = from.map_or(to - granularity.default_length() * MICROS, beginning_of_step);
        let at = |micros| Timestamp::from_unix_micros(micros).ok_or(UsageRangeError::OutOfTime);
        Ok(Self { from: at(from)?, to: at(to)?, granularity })
    }

    /// Returns the beginning of the first step.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// Returns the end of the last step.
    #[must_use]
    pub fn to(&self) -> Timestamp {
        self.to
    }

    /// Returns the length of each step.
    #[must_use]
    pub fn granularity(&self) -> Granularity {
        self.granularity
    }

    /// Returns the beginning of each step, in ascending order.
    pub fn steps(&self) -> impl Iterator<Item = Timestamp> {
        let (to, step) = (self.to, self.granularity.step());
        std::iter::successors(Some(self.from), move |start| start.plus_seconds(step))
            .take_while(move |start| *start < to)
    }
}

impl UsageRangeError {
    /// Returns the name of the invalid parameter, `from` or `to`.
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
    fn counts_are_added_outcome_by_outcome() {
        let mut counts = OutcomeCounts::default();
        counts.add(UsageOutcome::Valid, 2);
        counts.add(UsageOutcome::Revoked, 1);
        let mut sum = counts;
        sum.merge(&counts);
        sum.add(UsageOutcome::Expired, i64::MAX);
        assert_eq!((sum.get(UsageOutcome::Valid), sum.get(UsageOutcome::Revoked)), (4, 2));
        assert_eq!((counts.total(), sum.total()), (3, i64::MAX));
        let json = serde_json::to_value(counts).expect("JSON");
        assert_eq!((&json["valid"], &json["expired"]), (&2.into(), &0.into()));
    }

    #[test]
    fn either_end_of_a_range_has_a_default() {
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
    fn ends_of_a_range_are_rounded_outward_to_whole_steps() {
        let (from, to) = (Some("2026-05-05T22:59:59Z"), Some("2026-05-06T00:00:00.000001Z"));
        let hours = whole("2026-05-05T22:00:00Z", "2026-05-06T01:00:00Z");
        assert_eq!(range(from, to, Granularity::Hour), hours);
        let days = whole("2026-05-05T00:00:00Z", "2026-05-07T00:00:00Z");
        assert_eq!(range(from, to, Granularity::Day), days);
        // Ends that are already whole steps stay unchanged.
        let (from, to) = ("2026-05-05T00:00:00Z", "2026-05-06T00:00:00Z");
        for granularity in [Granularity::Hour, Granularity::Day] {
            assert_eq!(range(Some(from), Some(to), granularity), whole(from, to));
        }
    }

    #[test]
    fn range_has_a_maximum_length() {
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
        fn steps_cover_the_range_without_a_gap(
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
