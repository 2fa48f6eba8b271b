//! Rules for the source that a reader relies on: dependencies between modules, where items are
//! defined, and generated files.
//!
//! The structural rules read the source with a parser. Each rule is a function of [`sources`], so
//! that a test can show that it fails for a small crate in memory.

mod arrows;
mod cycles;
mod declarations;
mod generated;
mod items;
mod mentions;
mod modules;
mod resolve;
mod sources;
mod spans;
mod statements;
