//! What a key may spend at the most.

use std::{fmt, str::FromStr};

use super::amount::Amount;

/// Purchases and open holds of a key may come to so much in a period.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpendLimit {
    pub amount: Amount,
    pub period: SpendPeriod,
}

/// In which time a limit may be spent. Days and months are those of UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpendPeriod {
    Day,
    Month,
    /// All the key's life.
    Total,
}

impl SpendPeriod {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Total => "total",
        }
    }
}

impl fmt::Display for SpendPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be day, month or total")]
pub struct SpendPeriodError;

impl FromStr for SpendPeriod {
    type Err = SpendPeriodError;

    fn from_str(text: &str) -> Result<Self, SpendPeriodError> {
        let periods = [Self::Day, Self::Month, Self::Total];
        periods.into_iter().find(|period| period.as_str() == text).ok_or(SpendPeriodError)
    }
}
