//! The dashboard's settings, links, sessions, forms and sign-ins.

mod client_networks;
pub mod forms;
pub mod links;
pub mod sessions;
pub mod settings;
pub mod sign_ins;
