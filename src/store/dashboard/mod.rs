//! The dashboard's settings, links, sessions, forms and sign-ins.

pub mod forms;
pub mod links;
pub mod sessions;
pub mod settings;
pub mod sign_ins;
