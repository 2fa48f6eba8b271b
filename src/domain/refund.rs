//! The request for a refund.

use serde_json::json;

use super::{
    amount::Amount,
    id::PurchaseId,
    idempotency::{Fingerprint, IdempotentOperation},
    text::Reference,
};

/// A request to refund one purchase, before the ledger accepts or declines it.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRefund {
    /// The amount to return to the balance. `None` means the whole part of the purchase that is not
    /// refunded yet.
    pub amount: Option<Amount>,
    /// The tenant's own id of the refund. It need not be unique.
    pub reference: Option<Reference>,
}

impl NewRefund {
    /// Computes the fingerprint of the request's content and the purchase. A retry has the same
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
