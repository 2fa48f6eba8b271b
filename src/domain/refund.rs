//! A refund as it is asked for.

use serde_json::json;

use super::{
    amount::Amount,
    id::PurchaseId,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
};

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
            IdempotentOperation::Refund,
            &json!({
                "purchase": purchase_id,
                "amount": self.amount.map(Amount::minor_units),
                "reference": self.reference.as_ref().map(Reference::as_str),
            }),
        )
    }
}
