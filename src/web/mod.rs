//! What all pages share.

pub mod csv;
