//! Compares the ledger with a model. For random sequences of operations, both return equal outcomes
//! and have equal states after each step.
//!
//! The model uses one thread and no database, and computes every sum from the entries. The ledger
//! uses the clock of the model. These tests do not cover concurrency.

mod account;
mod clock;
mod edges;
mod keys;
mod model;
mod state;
mod transitions;
mod view;
mod world;

use proptest::test_runner::Config;
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use tokio::runtime::{Builder, Runtime};

use crate::harness::cluster;
use state::{Machine, State};
use transitions::Transition;
use world::World;

/// If this environment variable is set, the test runs many more sequences.
const LONG_VARIABLE: &str = "TOLLGATE_TEST_LONG";

fn config() -> Config {
    Config {
        cases: if cluster::variable(LONG_VARIABLE).is_some() { 500 } else { 24 },
        max_shrink_iters: 256,
        failure_persistence: None,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn ledger_matches_its_model_on_random_operation_sequences(sequential 1..40 => LedgerTest);
}

struct LedgerTest;

/// A service with its own database and its own runtime.
struct Service {
    runtime: Runtime,
    /// `None` while the test removes the database.
    world: Option<World>,
}

impl Service {
    fn run(&mut self, action: impl AsyncFnOnce(&mut World)) {
        let world = self.world.as_mut().expect("the world exists until the end");
        self.runtime.block_on(action(world));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(world) = self.world.take() {
            self.runtime.block_on(world.remove());
        }
    }
}

impl StateMachineTest for LedgerTest {
    type SystemUnderTest = Service;
    type Reference = Machine;

    fn init_test(state: &State) -> Service {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let world = runtime.block_on(World::start(&state.ledger));
        let mut service = Service { runtime, world: Some(world) };
        service.run(async |world| world.compare(state).await);
        service
    }

    fn apply(mut service: Service, state: &State, _: Transition) -> Service {
        service.run(async |world| {
            world.apply_step(&state.step).await;
            world.compare(state).await;
        });
        service
    }

    fn teardown(mut service: Service) {
        service.run(async |world| world.app.check_ledger().await);
    }
}
