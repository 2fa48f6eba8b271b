//! Keeps the lease: renews it, applies the changes of other nodes, and acknowledges them.

use std::{convert::Infallible, pin::pin, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::StoreVerifier;
use crate::{
    auth::LeasedVerifier,
    clock,
    store::{ChangeId, NodeSession, Notice, Store, StoreError},
};

/// Renewals in the time of one lease: it takes some that fail in a row to lose it.
const RENEWALS_IN_A_LEASE: u32 = 4;

/// Between two attempts to get a session.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Changes that are acknowledged in one statement at the most.
const MAX_ACKNOWLEDGED: usize = 1000;

type Verifier = LeasedVerifier<StoreVerifier>;

/// Keeps the lease until `stop` is ready, then gives it back.
pub(super) async fn keep(
    store: &Store,
    verifier: &Verifier,
    lease: Duration,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let mut told = false;
    loop {
        let Err(lost) = tokio::select! {
            lost = hold(store, verifier, lease, &mut told) => lost,
            () = &mut stop => break,
        };
        // The lease itself runs on to its end: until then every change waits for this node.
        if !told {
            told = true;
            let error = &lost as &dyn std::error::Error;
            warn!(error, "the lease is not renewed; when it is over every key is looked up");
        }
        tokio::select! {
            () = sleep(RETRY_AFTER) => {}
            () = &mut stop => break,
        }
    }
    // In this order: who does not find this node does not wait for it.
    verifier.end_lease();
    if let Err(error) = store.leave().await {
        let error = &error as &dyn std::error::Error;
        warn!(error, "the lease could not be given back: changes wait for it until it is over");
    }
}

/// Holds the lease by one session, until that fails.
async fn hold(
    store: &Store,
    verifier: &Verifier,
    lease: Duration,
    told: &mut bool,
) -> Result<Infallible, StoreError> {
    let mut session = store.open_session(lease).await?;
    // What is cached now may miss what was changed while nobody listened, and is only dropped
    // once somebody does: else what is read in between would miss what changes in between.
    verifier.end_lease();
    session.listen().await?;
    verifier.clear();
    let mut is_first = true;
    loop {
        let (sent, begun) = (clock::since_boot(), Instant::now());
        let renewal = session.renew().await?;
        // Once it is heard it counts; until then all that comes before it has to be.
        let (mut granted, mut until) = (false, begun + lease);
        // The moment is looked at by itself: where there is always something to hear, waiting
        // for it is never too late.
        while !granted || Instant::now() < until {
            let heard = match timeout_at(until, session.next()).await {
                Ok(notice) => apply(verifier, &mut session, notice?),
                Err(_) if granted => break,
                Err(_) => return Err(StoreError::Unavailable("a renewal was not heard".into())),
            };
            if heard.renewal == Some(renewal.number) {
                if std::mem::take(&mut is_first) {
                    store.sees_renewal(renewal.number).await?;
                }
                verifier.grant_lease(sent, lease, renewal.database_clock);
                (granted, until) = (true, begun + lease / RENEWALS_IN_A_LEASE);
                if std::mem::take(told) {
                    info!("the lease is renewed again");
                }
            }
            if !heard.applied.is_empty() {
                session.acknowledge(&heard.applied).await?;
            }
        }
        session.look_at_others().await?;
    }
}

/// What was heard at one time, once it has been applied.
#[derive(Default)]
struct Heard {
    applied: Vec<ChangeId>,
    renewal: Option<i64>,
}

/// Applies a notice, and those behind it that are here already.
fn apply(verifier: &Verifier, session: &mut NodeSession, first: Notice) -> Heard {
    let mut heard = Heard::default();
    let mut next = Some(first);
    while let Some(notice) = next {
        match notice {
            Notice::Changed { tags, acknowledge } => {
                tags.into_iter().for_each(|tag| verifier.invalidate(tag));
                heard.applied.extend(acknowledge);
            }
            Notice::Everything => verifier.clear(),
            Notice::Renewed(number) => heard.renewal = Some(number),
        }
        let room = heard.applied.len() < MAX_ACKNOWLEDGED;
        next = room.then(|| session.next_heard()).flatten();
    }
    heard
}
