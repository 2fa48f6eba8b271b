//! Writes what commands print to standard output.

use std::{
    fmt,
    io::{self, Write as _},
};

/// Standard output was closed, for example by `head` at the other end of a pipe.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub struct OutputClosed;

/// Writes a line. `outln!` calls this function.
///
/// # Errors
///
/// Returns [`OutputClosed`], or the error of the write.
pub fn write_line(line: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Formats a number with its noun: `1 fault`, `2 faults`.
pub fn counted(number: impl fmt::Display, one: &str, several: &str) -> String {
    let number = number.to_string();
    let noun = if number == "1" { one } else { several };
    format!("{number} {noun}")
}

/// Prints a line like `println!`, but returns an error instead of panicking if standard output was
/// closed.
macro_rules! outln {
    ($($argument:tt)*) => {
        $crate::cli::output::write_line(format_args!($($argument)*))
    };
}
pub(super) use outln;
