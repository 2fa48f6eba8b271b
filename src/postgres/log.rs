//! `postgres.log`, which contains the output of initdb and of the server. The error of a failed
//! start quotes its last lines.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::owner::ServerUser;

/// Maximum size of the log at a start. A start moves a larger log to `postgres.log.1`, replacing
/// the previous one.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;

/// Maximum number of lines that an error quotes.
const QUOTED_LINES: usize = 10;
const QUOTED_BYTES: u64 = 8 * 1024;

#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    user: ServerUser,
}

impl Log {
    pub(super) fn new(path: PathBuf, user: ServerUser) -> Self {
        Self { path, user }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the log for appending. A child process writes to it.
    pub(super) fn open(&self) -> io::Result<File> {
        self.user.open_file(&self.path)
    }

    /// Limits the size of the log. Call this only while no server writes to the log.
    pub(super) fn rotate(&self) -> io::Result<()> {
        if self.mark() > MAX_LOG_BYTES {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        Ok(())
    }

    /// Returns the current end of the log.
    pub(super) fn mark(&self) -> u64 {
        fs::symlink_metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Returns the last lines that were written after `mark`, each on its own indented line, for
    /// the end of an error's message. The text is empty if no lines were written. It is also empty
    /// if the log is unreadable, because a second error must not hide the first one.
    pub(super) fn said_since(&self, mark: u64) -> String {
        let read = || {
            let mut file = self.open()?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(mark.max(end.saturating_sub(QUOTED_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(QUOTED_BYTES).read_to_end(&mut bytes)?;
            io::Result::Ok(bytes)
        };
        quote(&String::from_utf8_lossy(&read().unwrap_or_default()))
    }
}

fn quote(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(QUOTED_LINES)..]
        .iter()
        .map(|line| format!("\n    {line}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_quotes_the_last_ten_lines() {
        let text: String = (1..=12).map(|n| format!("line {n}\n\n")).collect();
        let quoted = quote(&text);
        assert!(quoted.starts_with("\n    line 3\n    line 4\n"));
        assert!(quoted.ends_with("\n    line 12"));
        assert_eq!(quoted.lines().count(), QUOTED_LINES + 1);
    }

    #[test]
    fn program_without_output_adds_nothing_to_the_error() {
        assert_eq!(quote(""), "");
        assert_eq!(quote("\n \n"), "");
    }
}
