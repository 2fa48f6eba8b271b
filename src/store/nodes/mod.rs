//! The nodes of this database: their leases, and the changes that they announce to each other.

pub mod acknowledgements;
pub mod announcements;
pub mod notices;
pub mod sessions;
