use super::StoreError;
use crate::domain::account::{AccountFormat, ExternalId};

/// The tenant's own id of an account, as it was stored: it was checked against the tenant's format.
pub(super) fn stored_account(external_id: &str) -> Result<ExternalId, StoreError> {
    ExternalId::parse(external_id, AccountFormat::Any)
        .map_err(|error| StoreError::corrupt("accounts.external_id", error))
}
