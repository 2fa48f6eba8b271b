//! Limits the log lines about refused and slow requests, so that one client cannot fill the log.
//! After ten lines for one reason and client in a minute, further requests are only counted, and
//! one line reports their number.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tracing::info;

use crate::clock;

/// Maximum number of lines for one reason and client in a minute.
const MAX_LINES: u64 = 10;

/// The length of a counting period.
const PERIOD: Duration = Duration::from_secs(60);

/// How often to look for periods that have ended.
const SUM_UP_AFTER: Duration = Duration::from_secs(1);

/// Maximum number of pairs of reason and client that are counted separately. All further pairs are
/// counted together.
const MAX_COUNTED: usize = 1024;

/// The reason that the log gives for refusals beyond [`MAX_COUNTED`].
const OTHERS: &str = "others";

/// Counts refusals. A service that uses it must also run the job [`run`](Self::run).
#[derive(Debug, Default)]
pub struct RefusalLog {
    counts: Mutex<HashMap<Refused, Count>>,
}

/// Identifies a count. All refusals with this reason and from this client are counted together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Refused {
    reason: String,
    /// The client's IPv4 address, or the /64 of its IPv6 address, because an IPv6 client usually
    /// controls a whole /64. `None` if the address is unknown or the reason is [`OTHERS`].
    network: Option<IpAddr>,
}

#[derive(Debug)]
struct Count {
    /// The start of the period, as time since boot.
    since: Duration,
    refusals: u64,
}

/// The refusals of a period that were counted but not logged.
#[derive(PartialEq, Eq, Debug)]
struct Sum {
    reason: String,
    /// An IPv4 address, or the /64 of IPv6 addresses.
    address: Option<String>,
    count: u64,
}

impl RefusalLog {
    /// Counts a refusal. Returns whether it gets a line of its own. `now` is the time since boot.
    ///
    /// `reason` must come from a closed set. If clients could choose it, one client could use up
    /// all counts.
    pub(super) fn count(&self, reason: &str, client: Option<IpAddr>, now: Duration) -> bool {
        let refused = Refused { reason: reason.to_owned(), network: client.map(network) };
        let mut counts = self.lock();
        let has_room = counts.len() < MAX_COUNTED || counts.contains_key(&refused);
        let refused =
            if has_room { refused } else { Refused { reason: OTHERS.to_owned(), network: None } };
        let count = counts.entry(refused).or_insert(Count { since: now, refusals: 0 });
        count.refusals += 1;
        count.refusals <= MAX_LINES
    }

    /// Logs the sums of ended periods until `stop` completes, then logs all remaining sums.
    pub async fn run(self: Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut again = tokio::time::interval(SUM_UP_AFTER);
        loop {
            tokio::select! {
                _ = again.tick() => {}
                () = &mut stop => break,
            }
            self.take(Some(clock::since_boot())).into_iter().for_each(Sum::log);
        }
        self.take(None).into_iter().for_each(Sum::log);
    }

    /// Removes the periods that have ended at `now`, and returns their sums. `None` ends all
    /// periods.
    fn take(&self, now: Option<Duration>) -> Vec<Sum> {
        let mut sums = Vec::new();
        self.lock().retain(|refused, count| {
            let is_over = now.is_none_or(|now| now.saturating_sub(count.since) >= PERIOD);
            if is_over && count.refusals > MAX_LINES {
                sums.push(Sum {
                    reason: refused.reason.clone(),
                    address: refused.network.map(text),
                    count: count.refusals - MAX_LINES,
                });
            }
            !is_over
        });
        sums
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Refused, Count>> {
        // The counts are consistent after every statement, so a poisoned lock is usable.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sum {
    fn log(self) {
        let Self { reason, address, count } = self;
        info!(reason, address, count, "requests summarized");
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let subnet = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(subnet))
        }
    }
}

fn text(network: IpAddr) -> String {
    match network {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(subnet) => format!("{subnet}/64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1000);

    fn client(address: &str) -> Option<IpAddr> {
        Some(address.parse().expect("an address"))
    }

    /// Counts this many refusals. Returns the number of refusals that get a line.
    fn lines(log: &RefusalLog, number: u64, reason: &str, address: &str, now: Duration) -> u64 {
        (0..number).map(|_| u64::from(log.count(reason, client(address), now))).sum()
    }

    fn sum(reason: &str, address: Option<&str>, count: u64) -> Sum {
        Sum { reason: reason.to_owned(), address: address.map(str::to_owned), count }
    }

    #[test]
    fn refusals_after_the_tenth_are_summarized_after_the_minute() {
        let log = RefusalLog::default();
        assert_eq!(lines(&log, 25, "malformed", "192.0.2.1", START), 10);
        let end = START + PERIOD;
        assert!(log.take(Some(end - Duration::from_millis(1))).is_empty());
        assert_eq!(
            lines(&log, 5, "malformed", "192.0.2.1", end),
            0,
            "the minute has not ended yet"
        );
        assert_eq!(log.take(Some(end)), [sum("malformed", Some("192.0.2.1"), 20)]);
        // In the next minute, refusals are logged again. Without refusals beyond the tenth, there
        // is no summary.
        assert_eq!(lines(&log, 10, "malformed", "192.0.2.1", end), 10);
        assert!(log.take(Some(end + PERIOD)).is_empty());
        assert!(log.lock().is_empty());
    }

    #[test]
    fn reasons_and_clients_are_counted_separately() {
        let log = RefusalLog::default();
        assert_eq!(lines(&log, 12, "malformed", "192.0.2.1", START), 10);
        assert_eq!(lines(&log, 11, "missing", "192.0.2.1", START), 10);
        assert_eq!(lines(&log, 10, "malformed", "192.0.2.2", START), 10);
        let mut sums = log.take(None);
        sums.sort_by(|a, b| a.reason.cmp(&b.reason));
        let address = Some("192.0.2.1");
        assert_eq!(sums, [sum("malformed", address, 2), sum("missing", address, 1)]);
        assert!(log.lock().is_empty());
    }

    #[test]
    fn ipv6_clients_of_one_subnet_are_counted_together() {
        let log = RefusalLog::default();
        assert_eq!(lines(&log, 8, "malformed", "2001:db8:1:2::1", START), 8);
        assert_eq!(lines(&log, 8, "malformed", "2001:db8:1:2:ffff::1", START), 2);
        assert_eq!(lines(&log, 8, "malformed", "2001:db8:1:3::1", START), 8);
        assert_eq!(log.take(None), [sum("malformed", Some("2001:db8:1:2::/64"), 6)]);
    }

    #[test]
    fn clients_beyond_the_maximum_number_of_counts_are_counted_together() {
        let log = RefusalLog::default();
        for number in 0..u32::try_from(MAX_COUNTED).expect("a small number") {
            let address = IpAddr::V4((0x0a00_0000 + number).into());
            assert!(log.count("malformed", Some(address), START));
        }
        let later: u64 = (0..5000_u32)
            .map(|number| IpAddr::V4((0x0b00_0000 + number).into()))
            .map(|address| u64::from(log.count("malformed", Some(address), START)))
            .sum();
        assert_eq!(later, MAX_LINES);
        assert_eq!(log.lock().len(), MAX_COUNTED + 1);
        // A client that was counted before the limit was reached keeps its own count.
        assert_eq!(lines(&log, 10, "malformed", "10.0.0.0", START), 9);
        let sums = log.take(None);
        assert!(sums.contains(&sum("others", None, 5000 - MAX_LINES)), "{sums:?}");
        assert!(sums.contains(&sum("malformed", Some("10.0.0.0"), 1)), "{sums:?}");
    }
}
