//! Parses the command line, runs the command, and returns its exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use tollgate::{
    cli::{Cli, OutputClosed},
    config,
};

/// The allocator. A request needs dozens of small allocations, and a cached key needs two. For
/// these allocations, mimalloc takes half the time of the system's allocator, and has less
/// overhead.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Both calls change the environment, so they must run before a second thread exists.
    if let Err(error) = config::load_dotenv() {
        return fail(&error.into());
    }
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => return fail(&error.into()),
    };
    let threads = match config::worker_threads() {
        Ok(threads) => threads,
        Err(error) => return fail(&error.into()),
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads);
    }
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    // A program such as `head` closes its input once it has read enough. In this case, no message
    // is needed.
    if !error.is::<OutputClosed>() || error.chain().count() > 1 {
        // Without standard error, the exit code has to suffice.
        let _ = writeln!(io::stderr(), "error: {error:#}");
    }
    ExitCode::FAILURE
}
