//! Code that all pages share. The API also uses it to read bodies and to write CSV.
//!
//! This module does not depend on any page. [`guard::protect`] takes the function that renders a
//! failure as an argument.

pub mod accept;
pub mod body;
pub mod chart;
pub mod cookies;
pub mod csv;
pub mod days;
pub mod failure;
pub mod fields;
pub mod format;
pub mod forms;
pub mod guard;
pub mod in_flight;
pub mod links;
pub mod paths;
pub mod respond;
