//! What all pages share.

pub mod chart;
pub mod csv;
pub mod days;
pub mod fields;
pub mod format;
pub mod links;
