//! Rate limits are exact over three services, for every distribution of the calls, and while
//! services, connections and Postgres fail.

#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod clock_steps;
mod faults;
mod levels;
mod load;
mod lowered;
mod spreads;
mod tally;
mod windows;
mod world;
