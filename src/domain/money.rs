//! What can be asked of a balance, and how a repeated request is recognised.

use serde_json::json;

use super::{
    amount::Amount,
    id::PurchaseId,
    idempotency::Fingerprint,
    text::{Description, Metadata, Reference},
};

/// A purchase that is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct NewPurchase {
    pub amount: Amount,
    pub reference: Option<Reference>,
    pub description: Option<Description>,
    pub metadata: Metadata,
}

impl NewPurchase {
    /// The same through whichever door and with whichever of the account's keys it is asked.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(
            "purchase",
            &json!({
                "amount": self.amount.minor_units(),
                "reference": self.reference.as_ref().map(Reference::as_str),
                "description": self.description.as_ref().map(Description::as_str),
                "metadata": self.metadata.to_value(),
            }),
        )
    }
}

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

/// A top-up that is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct NewCredit {
    pub amount: Amount,
    pub reference: Option<Reference>,
}

impl NewCredit {
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(
            "credit",
            &json!({
                "amount": self.amount.minor_units(),
                "reference": self.reference.as_ref().map(Reference::as_str),
            }),
        )
    }
}

/// What is to be given back of a purchase.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRefund {
    /// `None`: all that was not given back yet.
    pub amount: Option<Amount>,
    pub reference: Option<Reference>,
}

impl NewRefund {
    #[must_use]
    pub fn fingerprint(&self, purchase_id: PurchaseId) -> Fingerprint {
        Fingerprint::of(
            "refund",
            &json!({
                "purchase": purchase_id,
                "amount": self.amount.map(Amount::minor_units),
                "reference": self.reference.as_ref().map(Reference::as_str),
            }),
        )
    }
}
