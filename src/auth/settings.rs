use super::gate::{Gate, Requirement};

/// The part of a layer that its services share.
pub(super) struct Settings<V> {
    pub gate: Gate<V>,
    pub requirement: Requirement,
}

impl<V> Clone for Settings<V> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), requirement: self.requirement.clone() }
    }
}
