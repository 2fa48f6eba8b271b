//! Keeps the lease: renews it, applies what other nodes change, and says that it did.

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
    loop {
        let (sent, next) = (clock::since_boot(), Instant::now() + lease / RENEWALS_IN_A_LEASE);
        let renewal = session.renew().await?;
        // The moment is looked at by itself: where there is always something to hear, waiting
        // for it is never too late.
        while Instant::now() < next {
            let Ok(notice) = timeout_at(next, session.next()).await else { break };
            let heard = apply(verifier, &mut session, notice?);
            if heard.renewal == Some(renewal.number) {
                verifier.grant_lease(sent, lease, renewal.database_clock);
                if std::mem::take(told) {
                    info!("the lease is renewed again");
                }
            }
            if !heard.applied.is_empty() {
                session.acknowledge(&heard.applied).await?;
            }
        }
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
