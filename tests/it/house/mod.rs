//! Rules for the source code, such as which modules may depend on each other, and which files may
//! define items. Generated files must be up to date.
//!
//! The rules about structure parse the source. Each rule is a function of [`sources`], so that a
//! test can also show that the rule fails for a small crate in memory.

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
