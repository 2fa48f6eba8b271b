//! A hold as it is asked for, and the bounds of one.

use std::str::FromStr;

use serde_json::json;

use super::{amount::Amount, idempotency::Fingerprint, text::Reference};

/// Maximum number of open holds of an account. Every batch that places a hold counts them.
pub const MAX_OPEN_HOLDS: i32 = 1000;

/// Seconds that a hold may stay open at the most: a week.
pub const MAX_HOLD_SECONDS: i32 = 604_800;

/// Seconds after which a hold expires when nothing else is said: a quarter of an hour.
pub const DEFAULT_HOLD_SECONDS: i32 = 900;

/// A part of the balance that is to be reserved.
#[derive(Clone, PartialEq, Debug)]
pub struct NewHold {
    pub amount: Amount,
    pub reference: Option<Reference>,
    /// Seconds, 1 to [`MAX_HOLD_SECONDS`].
    pub expires_in: i32,
}

impl NewHold {
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(
            "hold",
            &json!({
                "amount": self.amount.minor_units(),
                "reference": self.reference.as_ref().map(Reference::as_str),
                "expires_in": self.expires_in,
            }),
        )
    }
}

/// What became of a hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HoldStatus {
    Open,
    Captured,
    Voided,
    Expired,
}

impl HoldStatus {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for HoldStatus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Open, Self::Captured, Self::Voided, Self::Expired];
        all.into_iter()
            .find(|status| status.as_str() == text)
            .ok_or("the status of a hold is open, captured, voided or expired")
    }
}
