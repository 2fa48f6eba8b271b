use super::gate::{Gate, Requirement};

/// What a layer hands to each of its services.
pub(super) struct Settings<V> {
    pub gate: Gate<V>,
    pub requirement: Requirement,
}

impl<V> Clone for Settings<V> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), requirement: self.requirement.clone() }
    }
}
