//! Chooses the primary from the hosts of a URL. If several hosts are primaries after a failover,
//! chooses the host that was promoted last.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

use super::{
    explain,
    hosts::{Hosts, address},
    pool::ConnectError,
    primary::{Server, identify, is_standby},
    servers::Servers,
    unreachable,
};

/// Time limit for the response of one of several hosts. A frozen host accepts connections, but
/// never responds.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Time to wait for the other hosts after a primary has responded, because another host may have a
/// higher timeline.
const WAIT_FOR_OTHERS: Duration = Duration::from_millis(100);

/// The result of querying a host.
enum Answer {
    Primary(Server),
    Standby,
    Deposed,
    OtherDatabase,
}

/// No host is usable.
#[derive(Debug, thiserror::Error)]
#[error("{}", .reasons.join("; "))]
pub(super) struct NoPrimary {
    /// For each host, the reason why it is not usable.
    pub reasons: Vec<String>,
    /// The first host that is a standby.
    pub standby: Option<PgConnectOptions>,
    /// Whether a host did not respond in time.
    pub is_slow: bool,
}

/// Chooses the primary with the highest timeline. If there is only one host, returns it without a
/// query.
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
    let mut none = NoPrimary { reasons: Vec::new(), standby: None, is_slow: false };
    while let Ok(Some((host, answer))) = timeout_at(until, answers.next()).await {
        if let Ok(Ok(Answer::Primary(server))) = answer {
            until = until.min(Instant::now() + WAIT_FOR_OTHERS);
            if let Some((other, first)) = best
                && is_other_database(server, other)
            {
                let [first, second] = [first, host].map(address);
                let reason = format!("{first} and {second} have different databases");
                return Err(NoPrimary { reasons: vec![reason], standby: None, is_slow: false });
            }
            if best.is_none_or(|(other, _)| is_newer(server, other)) {
                best = Some((server, host));
            }
            continue;
        }
        if matches!(answer, Ok(Ok(Answer::Standby))) {
            none.standby.get_or_insert_with(|| host.clone());
        }
        none.is_slow |= answer.is_err();
        none.reasons.push(reason(hosts.setting(), host, answer));
    }
    best.map(|(_, host)| host.clone()).ok_or(none)
}

/// If there are several hosts, queries all of them, and reports the primaries to `servers`.
pub(super) async fn look(hosts: &Hosts, servers: &Servers) {
    if let [_] = hosts.all() {
        return;
    }
    let asked = hosts.all().iter().map(|host| timeout(ANSWER_WITHIN, ask(host, servers)));
    let mut primaries: Vec<Server> = Vec::new();
    for answer in join_all(asked).await {
        if let Ok(Ok(Answer::Primary(server))) = answer {
            // This only reports the server. It does not matter here whether the node may use it.
            let _ = servers.admit(server);
            primaries.push(server);
        }
    }
    let is_split = primaries.iter().enumerate().any(|(place, one)| {
        primaries[..place].iter().any(|other| one.history == other.history && one.id != other.id)
    });
    servers.split(is_split);
}

/// Chooses the host at the start. The error is a message for the operator.
pub(super) async fn choose_at_start(
    hosts: &Hosts,
    servers: &Servers,
    patience: Duration,
    standby_allowed: bool,
) -> Result<PgConnectOptions, ConnectError> {
    let deadline = Instant::now() + patience;
    let none = loop {
        match choose(hosts, servers).await {
            Ok(host) => return Ok(host),
            // A server may respond slowly while its machine starts.
            Err(none) if none.is_slow && Instant::now() < deadline => {}
            Err(none) => break none,
        }
    };
    let (place, reason) = (hosts.place(), none.to_string());
    match none.standby {
        Some(standby) if standby_allowed => Ok(standby),
        Some(_) => Err(ConnectError::NoPrimary { place, reason }),
        None => Err(ConnectError::Unreachable { place, reason }),
    }
}

/// Explains why a connection to this host failed.
pub(super) async fn why_not(
    error: sqlx::Error,
    hosts: &Hosts,
    host: &PgConnectOptions,
    servers: &Servers,
) -> NoPrimary {
    let answer = match error {
        // The pool's timeout hides the cause, so this queries the host once more.
        sqlx::Error::PoolTimedOut => timeout(ANSWER_WITHIN, ask(host, servers)).await,
        error => Ok(Err(error)),
    };
    NoPrimary {
        reasons: vec![reason(hosts.setting(), host, answer)],
        standby: None,
        is_slow: false,
    }
}

fn reason(
    setting: &str,
    host: &PgConnectOptions,
    answer: Result<Result<Answer, sqlx::Error>, Elapsed>,
) -> String {
    let reason = match answer {
        Ok(Ok(Answer::Primary(_))) => "it responded slowly".to_owned(),
        Ok(Ok(Answer::Standby)) => "it is a standby".to_owned(),
        Ok(Ok(Answer::Deposed)) => "it was deposed by the promotion of another server".to_owned(),
        Ok(Ok(Answer::OtherDatabase)) => {
            "it serves a different database than before. Correct the hosts, or restart this \
             process if you have replaced the database"
                .to_owned()
        }
        Ok(Err(error)) if error.as_database_error().is_some() => {
            explain::refused_connection(&error, setting, host)
        }
        Ok(Err(error)) => unreachable::reason(&error, setting, host),
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
            Some(history) if servers.is_other_database(history) => Answer::OtherDatabase,
            Some(history) if servers.is_deposed(history) => Answer::Deposed,
            _ => Answer::Primary(server),
        }
    };
    // It does not matter how this connection is closed.
    let _ = connection.close().await;
    Ok(answer)
}

fn is_other_database(server: Server, other: Server) -> bool {
    let systems = [server.history, other.history].map(|history| history.map(|own| own.system));
    matches!(systems, [Some(own), Some(other)] if own != other)
}

/// Whether a server was promoted after another server of the same database.
fn is_newer(server: Server, other: Server) -> bool {
    match (server.history, other.history) {
        (Some(own), Some(other)) => own.system == other.system && own.timeline > other.timeline,
        _ => false,
    }
}
