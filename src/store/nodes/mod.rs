//! The running services on this database: their leases, and the changes they announce to each other.

pub mod announcements;
pub mod sessions;
