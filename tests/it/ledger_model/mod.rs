//! The ledger beside a model of it: whatever is asked of both in whatever order, both answer the
//! same, and both look the same after each step.
//!
//! The model has one thread and no database, and adds everything up anew each time. The ledger's
//! clock is the model's. What runs at the same time is not tested here.

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

/// Set to anything, many more sequences are tried.
const LONG: &str = "TOLLGATE_TEST_LONG";

fn config() -> Config {
    Config {
        cases: if cluster::variable(LONG).is_some() { 500 } else { 24 },
        max_shrink_iters: 256,
        failure_persistence: None,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn ledger_matches_its_model_on_random_operation_sequences(sequential 1..40 => Beside);
}

struct Beside;

/// A service on a database of its own, and what runs it.
struct Service {
    runtime: Runtime,
    /// `None`: it is being removed.
    world: Option<World>,
}

impl Service {
    fn run(&mut self, act: impl AsyncFnOnce(&mut World)) {
        let world = self.world.as_mut().expect("it is removed in the end");
        self.runtime.block_on(act(world));
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(world) = self.world.take() {
            self.runtime.block_on(world.remove());
        }
    }
}

impl StateMachineTest for Beside {
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
            world.follow(&state.step).await;
            world.compare(state).await;
        });
        service
    }

    fn teardown(mut service: Service) {
        service.run(async |world| world.app.check_ledger().await);
    }
}
