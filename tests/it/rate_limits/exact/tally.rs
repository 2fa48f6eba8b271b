//! Counts the responses to the calls with a key, for each node.

use std::{fmt, time::Instant};

use super::world::NODES;

/// The result of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// 200.
    Passed,
    /// 429.
    Limited,
    /// 503.
    Unavailable,
    /// The connection ended before the response.
    Lost,
}

/// The number of calls to a node by result.
#[derive(Clone, Copy, Default)]
struct Counts {
    passed: usize,
    limited: usize,
    unavailable: usize,
    lost: usize,
}

/// The calls with a key.
#[derive(Clone, Default)]
pub struct Tally {
    nodes: [Counts; NODES],
    /// A time before the first call.
    began: Option<Instant>,
    /// A time after the newest response.
    ended: Option<Instant>,
}

impl Tally {
    /// Records that a client sends a call.
    pub fn begin(&mut self) {
        self.began.get_or_insert_with(Instant::now);
    }

    pub fn record(&mut self, node: usize, outcome: Outcome) {
        self.ended = Some(Instant::now());
        let counts = &mut self.nodes[node];
        let count = match outcome {
            Outcome::Passed => &mut counts.passed,
            Outcome::Limited => &mut counts.limited,
            Outcome::Unavailable => &mut counts.unavailable,
            Outcome::Lost => &mut counts.lost,
        };
        *count += 1;
    }

    pub fn passed(&self) -> usize {
        self.nodes.iter().map(|counts| counts.passed).sum()
    }

    pub fn limited(&self) -> usize {
        self.nodes.iter().map(|counts| counts.limited).sum()
    }

    /// The number of calls that this node refused with 429.
    pub fn limited_by(&self, node: usize) -> usize {
        self.nodes[node].limited
    }

    /// The number of calls that no node decided.
    pub fn undecided(&self) -> usize {
        self.nodes.iter().map(|counts| counts.unavailable + counts.lost).sum()
    }

    /// Returns the largest number of windows that can have begun from the first call to the newest
    /// response, because a window begins at the earliest when the previous one is over.
    pub fn windows(&self, window_seconds: u64) -> usize {
        let (Some(began), Some(ended)) = (self.began, self.ended) else { return 0 };
        let seconds = usize::try_from((ended - began).as_secs() / window_seconds);
        seconds.expect("the test is short") + 1
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed", self.passed())?;
        for (node, counts) in self.nodes.iter().enumerate() {
            let Counts { passed, limited, unavailable, lost } = counts;
            write!(
                f,
                "; node {node}: {passed} × 200, {limited} × 429, {unavailable} × 503, {lost} lost"
            )?;
        }
        Ok(())
    }
}
