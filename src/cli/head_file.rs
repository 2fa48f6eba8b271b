//! Reads the file of `tollgate ledger verify --since`, which contains the output of `tollgate
//! ledger head`.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use crate::domain::ledger_head::LedgerHead;

/// Maximum length of a line in bytes. The longest head is shorter.
const MAX_LINE: u64 = 512;

/// A file of ledger heads. It is read line by line, because it may not fit into memory.
pub struct HeadFile {
    path: PathBuf,
    lines: BufReader<File>,
    /// Number of lines read so far.
    read: usize,
}

impl HeadFile {
    /// Opens the file and reads it once, so that a malformed line is an error before the check of
    /// the ledger begins.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        ensure!(path != Path::new("-"), "--since needs the path of a file, not standard input");
        let shown = path.display();
        let metadata = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?;
        // The file is read twice, which is impossible with a pipe. This check precedes the opening
        // of the file, because opening a pipe would block.
        ensure!(metadata.is_file(), "{shown} is not a regular file");
        let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let mut heads = Self { path: path.to_owned(), lines: BufReader::new(file), read: 0 };
        while heads.next()?.is_some() {}
        ensure!(
            heads.read > 0,
            "{shown} is empty. --since needs a file that contains the output of `tollgate ledger \
             head`"
        );
        heads.lines.rewind().with_context(|| format!("cannot read {shown} again"))?;
        heads.read = 0;
        Ok(heads)
    }

    /// Returns the number of the last line read so far, counted from 1.
    pub fn line(&self) -> usize {
        self.read
    }

    /// Reads the next heads, at most `most`.
    pub fn next_heads(&mut self, most: usize) -> anyhow::Result<Vec<LedgerHead>> {
        let mut heads = Vec::new();
        while heads.len() < most
            && let Some(head) = self.next()?
        {
            heads.push(head);
        }
        Ok(heads)
    }

    fn next(&mut self) -> anyhow::Result<Option<LedgerHead>> {
        let (shown, number) = (self.path.display(), self.read + 1);
        let place = || format!("{shown}, line {number}");
        let mut line = String::new();
        let length = self.lines.by_ref().take(MAX_LINE).read_line(&mut line);
        if length.with_context(place)? == 0 {
            return Ok(None);
        }
        let line = line.strip_suffix('\n').with_context(|| {
            format!("{}: the line is too long, or the file is incomplete", place())
        })?;
        let head = line.parse::<LedgerHead>().with_context(place)?;
        self.read = number;
        Ok(Some(head))
    }
}
