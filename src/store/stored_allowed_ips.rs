use super::StoreError;
use crate::domain::allowed_ips::{AllowedIps, parse_network};

/// Restores a list of networks from the column with this name.
pub(super) fn stored_allowed_ips(
    column: &'static str,
    networks: Option<&[String]>,
) -> Result<Option<AllowedIps>, StoreError> {
    let Some(networks) = networks else { return Ok(None) };
    let networks = networks.iter().map(|network| parse_network(network));
    let networks = networks.collect::<Result<Vec<_>, _>>();
    let networks = networks.map_err(|error| StoreError::corrupt(column, error))?;
    AllowedIps::new(networks).map(Some).map_err(|error| StoreError::corrupt(column, error))
}

/// Returns the texts of a list of networks, as statements bind it.
pub(super) fn allowed_ips_to_store(list: Option<&AllowedIps>) -> Option<Vec<String>> {
    list.map(AllowedIps::to_strings)
}
