//! Lists of IP networks in requests.

use serde_json::Value;

use super::fields::{Wrong, texts};
use crate::domain::allowed_ips::{AllowedIps, parse_network};

/// Reads a list of IP networks. An error names the position of the wrong network.
pub fn allowed_ips(value: Value) -> Result<AllowedIps, Wrong> {
    Ok(AllowedIps::new(texts(parse_network)(value)?)?)
}
