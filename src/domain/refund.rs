//! A requested refund.

use serde_json::json;

use super::{
    amount::Amount,
    id::PurchaseId,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
};

/// A requested refund of one purchase, before it is decided.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRefund {
    /// The amount to return to the balance; `None`: everything that is not refunded yet.
    pub amount: Option<Amount>,
    /// The tenant's own id of the refund. It need not be unique.
    pub reference: Option<Reference>,
}

impl NewRefund {
    /// Identifies the content of the request: a retry for the same purchase has the same
    /// fingerprint.
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
