//! The request for a hold, and the limits of holds.

use serde_json::json;

use super::{
    amount::Amount,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
    text_enum::text_enum,
};

/// Maximum number of open holds of an account. Every batch that places a hold counts the open
/// holds, so their number must stay small.
pub const MAX_OPEN_HOLDS: i32 = 1000;

/// Maximum number of open holds of one key. It prevents one key from using up the account's
/// maximum.
pub const MAX_OPEN_HOLDS_OF_KEY: i32 = 200;

text_enum! {
    /// The limit on open holds that a request would exceed.
    pub enum HoldLimit {
        /// The key has [`MAX_OPEN_HOLDS_OF_KEY`] open holds.
        Key = "key",
        /// The account has [`MAX_OPEN_HOLDS`] open holds.
        Account = "account",
    }
}

impl HoldLimit {
    /// Returns the maximum number of open holds that this limit allows.
    #[must_use]
    pub fn maximum(self) -> i32 {
        match self {
            Self::Key => MAX_OPEN_HOLDS_OF_KEY,
            Self::Account => MAX_OPEN_HOLDS,
        }
    }
}

/// The time in seconds for which a hold stays open, from one second to one week.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoldSeconds(i32);

/// The time is not positive or is longer than a week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be from 1 to {}", HoldSeconds::MAX)]
pub struct HoldSecondsError;

impl HoldSeconds {
    /// One week.
    pub const MAX: i32 = 604_800;

    /// Returns the number of seconds, from 1 to [`Self::MAX`].
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }
}

/// The default is 15 minutes.
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

super::schema::named!(
    HoldSeconds,
    "HoldSeconds",
    super::schema::int32()
        .description(Some("Seconds until a hold expires."))
        .minimum(Some(1))
        .maximum(Some(HoldSeconds::MAX))
        .default(Some(HoldSeconds::default().get().into()))
);

/// A request to reserve a part of the balance.
#[derive(Clone, PartialEq, Debug)]
pub struct NewHold {
    /// The amount to reserve.
    pub amount: Amount,
    /// The caller's own id of the hold, such as an order number.
    pub reference: Option<Reference>,
    /// The time after which the hold expires, unless it is captured or voided earlier.
    pub expires_in: HoldSeconds,
}

impl NewHold {
    /// Computes the fingerprint of all fields, which identifies a retry. A request with the
    /// idempotency key of an earlier hold and a different fingerprint is refused.
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
    /// The status of a hold. An open hold reserves its amount. A hold with any other status
    /// reserves nothing.
    pub enum HoldStatus {
        /// The amount is reserved and can be captured or voided.
        Open = "open",
        /// A purchase took the amount or a part of it. The rest was released.
        Captured = "captured",
        /// The amount was released on request, or because the key that placed the hold was revoked.
        Voided = "voided",
        /// The amount was released because the hold expired.
        Expired = "expired",
    }
}

text_enum! {
    /// The reason why a hold was voided.
    pub enum VoidReason {
        /// An API key of the account voided it.
        ApiKey = "api_key",
        /// The tenant's backend voided it, with an admin key.
        AdminKey = "admin_key",
        /// The account's owner voided it in the dashboard.
        AccountOwner = "account_owner",
        /// The key that placed it was revoked.
        KeyRevoked = "key_revoked",
        /// The account's owner reported the key that placed it as compromised.
        KeyCompromised = "key_compromised",
    }
}
