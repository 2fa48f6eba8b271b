use std::sync::Arc;

use crate::domain::tenant::Tenant;

/// The tenant of the admin key that a request carried, for the log. The layer that reads the key
/// puts it into the response's extensions, because outer layers no longer have the request.
#[derive(Clone, Debug)]
pub struct LoggedTenant(pub Arc<Tenant>);
