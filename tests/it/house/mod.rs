//! The house rules that a reader relies on: which module names which, where items are defined, and
//! what is generated.
//!
//! The structural rules read the source with a parser. Each of them is a function of [`sources`],
//! so that a test can show, on a small crate in memory, that the rule can fail.

mod arrows;
mod circles;
mod declarations;
mod generated;
mod items;
mod mentions;
mod modules;
mod resolve;
mod sources;
mod spans;
mod statements;
