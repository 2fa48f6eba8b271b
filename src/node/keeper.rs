//! Keeps the lease of a node: renews the lease, applies the changes of other nodes, and
//! acknowledges these changes.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::{StoreLookup, held_session::HeldSession, lost_tail::LostTail};
use crate::{
    auth::LeasedVerifier,
    clock, entropy,
    limits::Limiter,
    store::{ChangeId, NodeSession, Notice, Store, StoreError},
};

/// Number of renewals per lease. The lease is lost only if several renewals fail in a row.
const RENEWALS_IN_A_LEASE: u32 = 4;

/// The first pause between two attempts to open a session. The pause doubles with each attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause between two attempts. This pause can prolong the outage during a failover by
/// its length.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// Maximum number of changes that one statement acknowledges.
const MAX_ACKNOWLEDGED: usize = 1000;

const COMMITTED_ELSEWHERE: &str =
    "a change was committed on a server other than the server of the session";

const SUPERSEDED: &str = "the promotion of another server deposed the server of the session";

type Verifier = LeasedVerifier<StoreLookup>;

/// What the changes and recalls of other nodes affect on this node.
#[derive(Clone, Copy)]
pub(super) struct Keeper<'a> {
    pub store: &'a Arc<Store>,
    pub limiter: &'a Limiter,
    pub verifier: &'a Verifier,
}

impl Keeper<'_> {
    /// Keeps the lease until `stop` is ready, then releases it.
    pub async fn keep(self, held: &HeldSession, lease: Duration, stop: impl Future<Output = ()>) {
        let Self { store, verifier, .. } = self;
        let mut stop = pin!(stop);
        let mut session = None;
        let mut told = false;
        let mut tail = LostTail::new(store);
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(lost) = tokio::select! {
                lost = hold(self, held, lease, &mut session, &mut told, &mut tail) => lost,
                () = held.ended() => Err(StoreError::Unavailable(COMMITTED_ELSEWHERE.into())),
                never = store.watch_hosts() => match never {},
                () = store.session_superseded() => Err(StoreError::Unavailable(SUPERSEDED.into())),
                () = &mut stop => break,
            };
            session = None;
            // The lease stays valid until it ends. Until then, every change waits for this node.
            if !told {
                told = true;
                pause = FIRST_PAUSE;
                let error = &lost as &dyn std::error::Error;
                warn!(error, "the lease cannot be renewed. After it ends, the node accepts no key");
            }
            tokio::select! {
                () = sleep(entropy::jittered(pause)) => {}
                () = &mut stop => break,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // The lease must end first, because no change waits for this node after its row is deleted.
        verifier.end_lease();
        let left = match &mut session {
            Some(session) => leave(self, session).await.is_ok(),
            None => false,
        };
        if !left && let Err(error) = store.leave().await {
            let error = &error as &dyn std::error::Error;
            warn!(error, "the lease could not be released. Changes wait until it ends");
        }
    }
}

/// Deletes the row of this node. Then acknowledges the changes whose transactions still found the
/// row.
async fn leave(keeper: Keeper<'_>, session: &mut NodeSession) -> Result<(), StoreError> {
    let until = Instant::now() + session.limit();
    let number = session.leave().await?;
    loop {
        let Ok(notice) = timeout_at(until, session.next()).await else {
            return Err(StoreError::Unavailable("the last notifications did not arrive".into()));
        };
        let heard = apply(keeper, session, notice?);
        if !heard.applied.is_empty() {
            session.acknowledge(&heard.applied).await?;
        }
        if heard.renewal == Some(number) {
            return Ok(());
        }
    }
}

/// Holds the lease with a session until the session fails.
async fn hold(
    keeper: Keeper<'_>,
    held: &HeldSession,
    lease: Duration,
    session: &mut Option<NodeSession>,
    told: &mut bool,
    tail: &mut LostTail,
) -> Result<Infallible, StoreError> {
    let Keeper { store, verifier, .. } = keeper;
    let mut opened = store.open_session(lease).await?;
    // The cache may have missed changes while no session listened. It is cleared only after the new
    // session listens, because a row that was read earlier could be stale.
    verifier.end_lease();
    let server = opened.server();
    let number = held.begin(server);
    opened.listen().await?;
    let session = session.insert(opened);
    verifier.clear();
    let mut is_first = true;
    loop {
        let (sent, begun) = (clock::since_boot(), Instant::now());
        let renewal = session.renew().await?;
        // The renewal counts only after its notification arrives. By then, the notifications of all
        // earlier commits have arrived.
        let (mut granted, mut until) = (false, begun + session.limit());
        // The loop also checks the time, because the timeout below never fires while notifications
        // keep arriving.
        while !granted || Instant::now() < until {
            let heard = match timeout_at(until, session.next()).await {
                Ok(notice) => apply(keeper, session, notice?),
                Err(_) if granted => break,
                Err(_) => {
                    return Err(StoreError::Unavailable(
                        "the notification of a renewal did not arrive".into(),
                    ));
                }
            };
            if heard.renewal == Some(renewal.number) {
                if std::mem::take(&mut is_first) {
                    store.sees_renewal(renewal.number).await?;
                }
                let grant = || verifier.grant_lease(sent, lease, renewal.database_clock, server);
                if !held.grant(number, grant) {
                    return Err(StoreError::Unavailable(COMMITTED_ELSEWHERE.into()));
                }
                (granted, until) = (true, begun + lease / RENEWALS_IN_A_LEASE);
                tail.lease_granted(server);
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

/// The content of notifications that arrived together: the applied changes, and the newest renewal.
#[derive(Default)]
struct Heard {
    applied: Vec<ChangeId>,
    renewal: Option<i64>,
}

/// Applies a notification, and all further notifications that have already arrived.
fn apply(keeper: Keeper<'_>, session: &mut NodeSession, first: Notice) -> Heard {
    let Keeper { store, limiter, verifier } = keeper;
    let mut heard = Heard::default();
    let mut next = Some(first);
    while let Some(notice) = next {
        match notice {
            Notice::Changed { tags, acknowledge } => {
                tags.into_iter().for_each(|tag| verifier.invalidate(tag));
                heard.applied.extend(acknowledge);
            }
            Notice::GroupChanged { group, acknowledge } => {
                verifier.invalidate_group(group);
                heard.applied.extend(acknowledge);
            }
            Notice::Everything { acknowledge } => {
                // The tenants are cleared first. Otherwise a verdict from a tenant's old state
                // could enter the cache after the cache was cleared.
                store.forget_tenants();
                verifier.clear();
                heard.applied.extend(acknowledge);
            }
            Notice::Recalled { tags, acknowledge } => {
                if limiter.answer_recall(&tags, acknowledge) {
                    heard.applied.extend(acknowledge);
                }
            }
            Notice::Renewed(number) => heard.renewal = Some(number),
        }
        let room = heard.applied.len() < MAX_ACKNOWLEDGED;
        next = room.then(|| session.next_heard()).flatten();
    }
    heard
}
