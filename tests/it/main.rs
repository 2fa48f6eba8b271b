//! The integration tests: one binary and one Postgres cluster, with a database for each test. Tests
//! send requests to the router in memory. Tests of the process start the real program.

mod accounts;
mod audit;
mod bad_input;
mod batches;
mod browser;
mod cache;
mod cli;
mod connections;
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
