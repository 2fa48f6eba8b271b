//! Rate limits: the settings, the shares that nodes request, and the recall of shares.

pub mod recalls;
pub mod settings;
pub mod shares;
pub mod windows;
