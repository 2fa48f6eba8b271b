use std::sync::Arc;

use super::gate::{Gate, Requirement};

/// The settings that all services of a layer share.
pub(super) struct Settings<V> {
    pub gate: Gate<V>,
    pub requirement: Arc<Requirement>,
}

impl<V> Clone for Settings<V> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), requirement: self.requirement.clone() }
    }
}
