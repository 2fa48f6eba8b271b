//! Rate limits of keys, accounts and tenants.

mod calls;
mod charging;
mod cli;
mod exact;
mod fields;
mod own_lookup;
mod recall;
mod resource;
mod rows;
mod settings;
mod statements;
mod verify;
