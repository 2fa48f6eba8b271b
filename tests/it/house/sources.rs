//! The source files that a rule checks. They are the files of this crate, or a sample crate in
//! memory.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Maps the path of each file, relative to `src`, to its text.
pub type Sources = BTreeMap<PathBuf, String>;

pub fn of_this_crate() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    read_below(&root, &root, &mut sources);
    sources
}

pub fn sample(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
}

fn read_below(root: &Path, directory: &Path, sources: &mut Sources) {
    for entry in std::fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the entry can be read").path();
        if path.is_dir() {
            read_below(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("the source file can be read");
            let relative = path.strip_prefix(root).expect("the path is below src").to_owned();
            sources.insert(relative, text);
        }
    }
}
