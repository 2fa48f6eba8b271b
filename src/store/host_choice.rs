//! Chooses the host to use among those of a URL: the primary, and after a failover the one that was
//! promoted last.

use std::time::Duration;

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

use super::{
    explain,
    hosts::{Hosts, address},
    primary::{Server, identify, is_standby},
    servers::Servers,
};

/// How long one of several hosts may take to answer. A frozen one accepts connections and never
/// does.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// How long to wait for the other hosts once a primary has answered: another one may have a higher
/// timeline.
const WAIT_FOR_OTHERS: Duration = Duration::from_millis(100);

/// What a host has answered.
enum Answer {
    Primary(Server),
    Standby,
    Deposed,
}

/// No host can be used. Names each with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(super) struct NoPrimary(Vec<String>);

/// The host to use: of the primaries, the one with the highest timeline. It is not asked if there
/// is no choice.
pub(super) async fn choose(
    hosts: &Hosts,
    servers: &Servers,
) -> Result<PgConnectOptions, NoPrimary> {
    if let [host] = hosts.all() {
        return Ok(host.clone());
    }
    let mut answers: FuturesUnordered<_> = hosts
        .all()
        .iter()
        .map(|host| async move { (host, timeout(ANSWER_WITHIN, ask(host, servers)).await) })
        .collect();
    let mut until = Instant::now() + 2 * ANSWER_WITHIN;
    let mut best: Option<(Server, &PgConnectOptions)> = None;
    let mut reasons = Vec::new();
    while let Ok(Some((host, answer))) = timeout_at(until, answers.next()).await {
        if let Ok(Ok(Answer::Primary(server))) = answer {
            until = until.min(Instant::now() + WAIT_FOR_OTHERS);
            if best.is_none_or(|(other, _)| is_newer(server, other)) {
                best = Some((server, host));
            }
        } else {
            reasons.push(reason(host, answer));
        }
    }
    match best {
        Some((_, host)) => Ok(host.clone()),
        None => Err(NoPrimary(reasons)),
    }
}

/// Why a host cannot be used.
pub(super) async fn why_not(host: &PgConnectOptions, servers: &Servers) -> NoPrimary {
    NoPrimary(vec![reason(host, timeout(ANSWER_WITHIN, ask(host, servers)).await)])
}

fn reason(host: &PgConnectOptions, answer: Result<Result<Answer, sqlx::Error>, Elapsed>) -> String {
    let reason = match answer {
        Ok(Ok(Answer::Primary(_))) => "it was slow to answer".to_owned(),
        Ok(Ok(Answer::Standby)) => "it is a standby".to_owned(),
        Ok(Ok(Answer::Deposed)) => "it was deposed by the promotion of another server".to_owned(),
        Ok(Err(error)) => explain::message(&error),
        Err(_) => format!("no answer within {ANSWER_WITHIN:?}"),
    };
    format!("{}: {reason}", address(host))
}

async fn ask(host: &PgConnectOptions, servers: &Servers) -> Result<Answer, sqlx::Error> {
    let mut connection: PgConnection = host.connect().await?;
    let answer = if is_standby(&mut connection).await? {
        Answer::Standby
    } else {
        let server = identify(&mut connection).await?;
        match server.history {
            Some(history) if servers.is_deposed(history) => Answer::Deposed,
            _ => Answer::Primary(server),
        }
    };
    // Nothing depends on how this connection is closed.
    let _ = connection.close().await;
    Ok(answer)
}

/// Whether a server was promoted after another one of the same database.
fn is_newer(server: Server, other: Server) -> bool {
    match (server.history, other.history) {
        (Some(own), Some(other)) => own.system == other.system && own.timeline > other.timeline,
        _ => false,
    }
}
