//! The files of a folder have no dependency cycle. A subfolder counts as one file.
//!
//! A file depends on another file if it contains a path to an item that the other file defines.
//! Such a dependency is called an arrow. A re-export is not an arrow, and tests may depend on any
//! file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Component, Path, PathBuf},
};

use super::{
    mentions::{Mention, Place, mentions},
    modules::{Crate, Module},
    resolve::{Target, resolve},
    sources::{Sources, of_this_crate, sample},
};

/// Maps each pair of files to the items that the first file uses from the second file.
type Arrows = BTreeMap<(PathBuf, PathBuf), BTreeSet<String>>;

/// Entries of one folder that depend on each other, directly or through other entries.
struct Cycle {
    folder: PathBuf,
    /// The names of the files and folders in the cycle.
    entries: BTreeSet<String>,
    /// The arrows between the entries.
    arrows: Arrows,
}

impl fmt::Display for Cycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<&str> = self.entries.iter().map(String::as_str).collect();
        let folder: PathBuf =
            Path::new("src").components().chain(self.folder.components()).collect();
        writeln!(formatter, "{} has a cycle of {}:", folder.display(), entries.join(", "))?;
        for ((from, to), names) in &self.arrows {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let (from, to) = (from.display(), to.display());
            writeln!(formatter, "    {from} → {to}: {}", names.join(", "))?;
        }
        Ok(())
    }
}

/// Finds the cycles in each folder of a crate.
fn cycles(sources: &Sources) -> Vec<Cycle> {
    let mut folders: BTreeMap<PathBuf, Arrows> = BTreeMap::new();
    for ((from, to), names) in arrows(&Crate::read(sources, "lib.rs")) {
        let (folder, ..) = split_paths(&from, &to);
        folders.entry(folder).or_default().insert((from, to), names);
    }
    let mut found = Vec::new();
    for (folder, arrows) in folders {
        for entries in components(&arrows) {
            let mut within = arrows.clone();
            within.retain(|(from, to), _| {
                let (_, from, to) = split_paths(from, to);
                entries.contains(&from) && entries.contains(&to)
            });
            found.push(Cycle { folder: folder.clone(), entries, arrows: within });
        }
    }
    found
}

/// Finds all arrows between different files of a crate.
fn arrows(krate: &Crate) -> Arrows {
    let mut arrows = Arrows::new();
    for (id, module) in krate.modules.iter().enumerate() {
        for mention in mentions(module).iter().filter(|mention| !mention.test) {
            for target in resolve(krate, id, &mention.path) {
                let Some((target, name)) = dependency(krate, module, mention, target) else {
                    continue;
                };
                if target.file != module.file {
                    let files = (module.file.clone(), target.file.clone());
                    arrows.entry(files).or_default().insert(name);
                }
            }
        }
    }
    arrows
}

/// Finds the module that a mention depends on, and the name of the item.
fn dependency<'a>(
    krate: &'a Crate,
    from: &Module,
    mention: &Mention,
    target: Target,
) -> Option<(&'a Module, String)> {
    let (id, name) = match target {
        Target::Item(id, name) => return Some((&krate.modules[id], name)),
        Target::External(id, name) => (id, Some(name)),
        Target::Module(id) => (id, None),
    };
    let to = &krate.modules[id];
    // `use super::*` and `use super::Arc` are not dependencies, because the parent module only
    // re-exports the names of its files, or items of another crate.
    if from.path.starts_with(&to.path) {
        return None;
    }
    match name {
        Some(name) => Some((to, name)),
        // In code, a single name that equals the name of a module is a variable, a field or a
        // macro.
        None if mention.path.len() == 1 && mention.place == Place::Code => None,
        None => Some((to, to.path.last()?.clone())),
    }
}

/// Returns the innermost folder that contains both files, and the two entries of this folder that
/// contain or equal them.
fn split_paths(from: &Path, to: &Path) -> (PathBuf, String, String) {
    let text = |component: Component<'_>| component.as_os_str().to_string_lossy().into_owned();
    let mut folder = PathBuf::new();
    for (from, to) in from.components().zip(to.components()) {
        if from != to {
            return (folder, text(from), text(to));
        }
        folder.push(from);
    }
    unreachable!("two different files have paths that differ");
}

/// Finds the sets of two or more entries in which every entry reaches every other entry.
fn components(arrows: &Arrows) -> Vec<BTreeSet<String>> {
    let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        let (_, from, to) = split_paths(from, to);
        next.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        next.keys().map(|entry| (entry, reached_from(entry, &next))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (entry, others) in &reached {
        if !others.contains(entry) || found.iter().any(|cycle| cycle.contains(*entry)) {
            continue;
        }
        let cycle = others
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(entry)))
            .map(|other| (*other).clone());
        found.push(cycle.collect());
    }
    found
}

/// Finds the entries that one or more arrows reach from this entry.
fn reached_from<'a>(
    entry: &str,
    next: &'a BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut pending: Vec<&String> = next.get(entry).into_iter().flatten().collect();
    while let Some(entry) = pending.pop() {
        if reached.insert(entry) {
            pending.extend(next.get(entry).into_iter().flatten());
        }
    }
    reached
}

#[test]
fn files_of_a_folder_have_no_dependency_cycle() {
    let cycles: Vec<String> = cycles(&of_this_crate()).iter().map(Cycle::to_string).collect();
    assert!(cycles.is_empty(), "\n{}", cycles.join("\n"));
}

fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
    cycles(&sample(files)).iter().map(Cycle::to_string).collect()
}

#[test]
fn check_reports_a_cycle_of_two_files() {
    let found = cycles_of(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; impl B { fn a(&self) -> Option<super::a::A> { None } }"),
        ("c.rs", "use crate::{a::A, b::B}; fn c(_: A, _: B) {}"),
    ]);
    let cycle = "src has a cycle of a.rs, b.rs:\n    a.rs → b.rs: B\n    b.rs → a.rs: A\n";
    assert_eq!(found, [cycle]);
}

#[test]
fn check_reports_a_cycle_of_three_files_once() {
    let found = cycles_of(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B as Other; pub struct A(Other);"),
        ("b.rs", "pub struct B; fn b() { crate::c::c() }"),
        ("c.rs", "pub fn c() { log!(level = 1; { crate::a::A }) } use super::d;"),
        ("d.rs", ""),
    ]);
    let cycle = "src has a cycle of a.rs, b.rs, c.rs:\n    \
                  a.rs → b.rs: B\n    b.rs → c.rs: c\n    c.rs → a.rs: A\n";
    assert_eq!(found, [cycle]);
}

#[test]
fn check_reports_a_cycle_through_a_reexport_between_the_defining_files() {
    let found = cycles_of(&[
        ("lib.rs", "mod folder; pub use folder::A;"),
        ("folder/mod.rs", "mod a; mod b; pub use a::*; pub use self::b::{B as Renamed};"),
        ("folder/a.rs", "use super::Renamed; pub struct A(Renamed);"),
        ("folder/b.rs", "pub enum B { Of(Box<crate::A>) }"),
    ]);
    let cycle = "src/folder has a cycle of a.rs, b.rs:\n    \
                  folder/a.rs → folder/b.rs: B\n    folder/b.rs → folder/a.rs: A\n";
    assert_eq!(found, [cycle]);
}

#[test]
fn check_reports_a_cycle_of_a_file_and_a_folder() {
    let found = cycles_of(&[
        ("lib.rs", "mod web;"),
        ("web/mod.rs", "mod format; mod pages;"),
        ("web/format.rs", "use super::pages::View; pub fn day(_: View) {}"),
        ("web/pages/mod.rs", "mod view; mod list; pub use view::View;"),
        ("web/pages/view.rs", "pub struct View;"),
        ("web/pages/list.rs", "use super::super::format; fn list() { format::day(0) }"),
    ]);
    let cycle = "src/web has a cycle of format.rs, pages:\n    \
                  web/format.rs → web/pages/view.rs: View\n    \
                  web/pages/list.rs → web/format.rs: day, format\n";
    assert_eq!(found, [cycle]);
}

#[test]
fn check_reports_a_cycle_with_a_mod_rs_that_defines_an_item() {
    let found = cycles_of(&[
        ("lib.rs", "mod store;"),
        ("store/mod.rs", "mod pool; use pool::Pool; pub struct Store(Pool);"),
        ("store/pool.rs", "use super::Store; pub struct Pool; impl Store {}"),
    ]);
    let cycle = "src/store has a cycle of mod.rs, pool.rs:\n    \
                  store/mod.rs → store/pool.rs: Pool\n    \
                  store/pool.rs → store/mod.rs: Store\n";
    assert_eq!(found, [cycle]);
}

#[test]
fn check_accepts_files_that_depend_in_one_direction() {
    let found = cycles_of(&[
        ("lib.rs", "mod error; mod store; pub use error::Error;"),
        ("error.rs", "pub enum Error { Lost } made! { Code }"),
        (
            "store/mod.rs",
            "mod keys; mod pool; #[cfg(test)] mod pool_tests; pub use keys::*; \
             pub use pool::Store; pub use std::sync::Arc; pub use router::router; mod router;",
        ),
        // An `impl` of a type is an arrow to the file of the type. A method call is not an arrow.
        ("store/keys.rs", "use super::{Arc, Store}; impl Store { pub fn keys(&self) {} }"),
        (
            "store/pool.rs",
            "use crate::error::{Code, Error}; use super::*; pub struct Store; \
             fn open(store: Store) { store.keys(); let keys = Error::Lost; drop(keys) } \
             #[cfg(test)] mod tests { use super::super::keys; }",
        ),
        ("store/pool_tests.rs", "use super::{keys, pool::Store};"),
        ("store/router.rs", "pub fn router() -> super::Arc<super::pool::Store> { self::router() }"),
    ]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
