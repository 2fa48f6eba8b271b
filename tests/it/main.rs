//! The integration tests: one binary, one cluster, a database of its own for each test, and the
//! router driven in memory; where a process is what is tested, the real one is started.

mod accounts;
mod audit;
mod bad_input;
mod batches;
mod browser;
mod cache;
mod cli;
mod coverage;
mod crash;
mod dashboard;
mod database;
mod gate;
mod harness;
mod holds;
mod house;
mod keys;
mod ledger_model;
mod ledger_verify;
mod limits;
mod middleware;
mod money;
mod openapi;
mod outage;
mod refunds;
mod remote;
mod revocation;
mod schema;
mod secrets;
mod server;
mod start;
mod statement;
mod telemetry;
mod usage;
mod verify;
