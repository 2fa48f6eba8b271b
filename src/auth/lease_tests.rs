use std::time::Duration;

use proptest::prelude::*;

use super::lease::Lease;
use crate::domain::{server::ServerId, timestamp::Timestamp};

fn at(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn moment(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(micros).expect("in range")
}

#[test]
fn lease_ends_slightly_early_and_can_be_ended_earlier() {
    let lease = Lease::new();
    assert!(!lease.holds(at(0)));
    lease.grant(at(1000), at(1600), moment(0), ServerId::started_at(1));
    // Other nodes rely on a slightly later end.
    assert!(lease.holds(at(2574)));
    assert!(!lease.holds(at(2575)));
    lease.end();
    assert!(!lease.holds(at(1100)));
}

#[test]
fn newer_lease_replaces_the_older_one() {
    let lease = Lease::new();
    lease.grant(at(1000), at(640), moment(0), ServerId::started_at(1));
    lease.grant(at(2000), at(640), moment(0), ServerId::started_at(1));
    assert!(lease.holds(at(2500)));
}

proptest! {
    /// Once a key has expired, the lease never reports it as unexpired, regardless of the response
    /// time of the database.
    #[test]
    fn key_expiry_is_never_detected_too_late(
        sent in 0..1_000_000_u64, took in 0..1_000_000_u64, later in 0..10_000_000_u64,
        boot in 1_000_000_000_000_000..2_000_000_000_000_000_i64, answered in 0.0..=1.0_f64,
    ) {
        let lease = Lease::new();
        // The database reads its clock between the request and its response.
        let read = sent + (took as f64 * answered) as u64;
        let database_clock = |since_boot: u64| moment(boot + since_boot as i64);
        let length = 2_000_000;
        lease.grant(at(sent), at(length), database_clock(read), ServerId::started_at(1));
        let now = sent + took + later;
        prop_assert!(lease.may_have_come(database_clock(now), at(now)));
        let early = took + length / 64;
        prop_assert!(!lease.may_have_come(database_clock(now + early + 1), at(now)));
    }

    /// A lease ends before another node stops waiting for its end, even if the holder's clock runs
    /// 1 % slow.
    #[test]
    fn lease_ends_before_other_nodes_stop_waiting(sent in 0..1_000_000_000_u64, length in 100_000..10_000_000_u64) {
        let lease = Lease::new();
        lease.grant(at(sent), at(length), moment(0), ServerId::started_at(1));
        let passed_at_waiter = length;
        let passed_at_holder = passed_at_waiter - passed_at_waiter / 100;
        prop_assert!(!lease.holds(at(sent + passed_at_holder)));
        prop_assert!(lease.holds(at(sent + length * 98 / 100 - 1)));
    }
}
