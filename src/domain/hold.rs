//! A hold as it is asked for, and the bounds of one.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
    text_enum::text_enum,
};

/// Maximum number of open holds of an account. Every batch that places a hold counts them.
pub const MAX_OPEN_HOLDS: i32 = 1000;

/// Seconds for which a hold stays open: 1 second to a week.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoldSeconds(i32);

/// The time is not positive or is longer than a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {}", HoldSeconds::MAX)]
pub struct HoldSecondsError;

impl HoldSeconds {
    /// A week.
    pub const MAX: i32 = 604_800;

    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

/// A quarter of an hour.
impl Default for HoldSeconds {
    fn default() -> Self {
        Self(900)
    }
}

impl TryFrom<i64> for HoldSeconds {
    type Error = HoldSecondsError;

    fn try_from(seconds: i64) -> Result<Self, HoldSecondsError> {
        match i32::try_from(seconds) {
            Ok(seconds @ 1..=Self::MAX) => Ok(Self(seconds)),
            _ => Err(HoldSecondsError),
        }
    }
}

#[cfg(feature = "server")]
super::schema::named!(
    HoldSeconds,
    "HoldSeconds",
    super::schema::integer("Seconds until a hold expires.")
        .minimum(Some(1))
        .maximum(Some(HoldSeconds::MAX))
);

/// A part of the balance that is to be reserved.
#[derive(Clone, PartialEq, Debug)]
pub struct NewHold {
    pub amount: Amount,
    pub reference: Option<Reference>,
    pub expires_in: HoldSeconds,
}

impl NewHold {
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(
            IdempotentOperation::Hold,
            &json!({
                "amount": self.amount.minor_units(),
                "reference": self.reference.as_ref().map(Reference::as_str),
                "expires_in": self.expires_in.get(),
            }),
        )
    }
}

text_enum! {
    /// An open hold reserves its amount; the others are closed.
    pub enum HoldStatus {
        Open = "open",
        Captured = "captured",
        Voided = "voided",
        Expired = "expired",
    }
}
