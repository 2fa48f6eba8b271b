//! Parse the command line, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use tollgate::{cli::Cli, config};

fn main() -> ExitCode {
    // Before there is a second thread: it changes the environment.
    if let Err(error) = config::load_dotenv() {
        return fail(&error.into());
    }
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
