use super::StoreError;
use crate::domain::account::{AccountFormat, ExternalId};

/// Converts a stored external id, which was checked against the tenant's format when it was stored.
pub(super) fn stored_account(external_id: &str) -> Result<ExternalId, StoreError> {
    ExternalId::parse(external_id, AccountFormat::Any)
        .map_err(|error| StoreError::corrupt("accounts.external_id", error))
}
