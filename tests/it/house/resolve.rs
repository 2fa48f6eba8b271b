//! Resolves a path to the module that defines the item.

use std::collections::BTreeSet;

use super::modules::{Binding, Crate, Module, ModuleId, ROOT};

/// An item or a module that a path refers to.
pub enum Target {
    Module(ModuleId),
    /// An item that the module defines. For a path to a variant or an associated function, the item
    /// is the type.
    Item(ModuleId, String),
    /// An item of another crate that the module imports.
    External(ModuleId, String),
}

/// Finds the targets of a path in a module. Follows imports and re-exports. A path to another crate
/// has no target. A name that belongs to both a module and a function has two targets.
pub fn resolve(krate: &Crate, module: ModuleId, path: &[String]) -> Vec<Target> {
    Resolver { modules: &krate.modules, open: BTreeSet::new() }.path(module, path)
}

struct Resolver<'a> {
    modules: &'a [Module],
    /// The imports that the search has followed so far. They prevent infinite recursion.
    open: BTreeSet<Import>,
}

/// A name in a module, and the import that may define it.
type Import = (ModuleId, String, Through);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Through {
    Name(usize),
    Glob(usize),
}

impl Resolver<'_> {
    fn path(&mut self, module: ModuleId, path: &[String]) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return vec![Target::Module(module)] };
        match first.as_str() {
            "crate" => self.inside(ROOT, rest),
            "self" => self.inside(module, rest),
            "super" => match self.modules[module].parent {
                Some(parent) => self.inside(parent, rest),
                None => Vec::new(),
            },
            name => {
                let found = self.look_up(module, name);
                self.onward(found, rest)
            }
        }
    }

    /// Resolves a path whose first name `module` itself defines.
    fn inside(&mut self, module: ModuleId, path: &[String]) -> Vec<Target> {
        let Some((first, rest)) = path.split_first() else { return vec![Target::Module(module)] };
        if matches!(first.as_str(), "self" | "super") {
            return self.path(module, path);
        }
        let found = self.look_up(module, first);
        if found.is_empty() {
            // A macro call may define the item.
            return vec![Target::Item(module, first.clone())];
        }
        self.onward(found, rest)
    }

    /// Resolves the part of a path after its first name, whose targets are known.
    fn onward(&mut self, found: Vec<Target>, rest: &[String]) -> Vec<Target> {
        if rest.is_empty() {
            return found;
        }
        let mut targets = Vec::new();
        let mut has_module = false;
        for target in &found {
            if let Target::Module(module) = target {
                has_module = true;
                targets.extend(self.inside(*module, rest));
            }
        }
        if has_module { targets } else { found }
    }

    fn look_up(&mut self, module: ModuleId, name: &str) -> Vec<Target> {
        let modules = self.modules;
        let mut found = Vec::new();
        let bindings = modules[module].names.get(name).into_iter().flatten();
        for (index, binding) in bindings.enumerate() {
            match binding {
                Binding::Module(id) => found.push(Target::Module(*id)),
                Binding::Item => found.push(Target::Item(module, name.to_owned())),
                Binding::Import(path) => {
                    let import = (module, name.to_owned(), Through::Name(index));
                    if !self.open.insert(import.clone()) {
                        continue;
                    }
                    let targets = self.path(module, path);
                    self.open.remove(&import);
                    if targets.is_empty() {
                        found.push(Target::External(module, name.to_owned()));
                    }
                    found.extend(targets);
                }
            }
        }
        if found.is_empty() { self.look_up_in_globs(module, name) } else { found }
    }

    fn look_up_in_globs(&mut self, module: ModuleId, name: &str) -> Vec<Target> {
        let modules = self.modules;
        let mut found = Vec::new();
        for (index, path) in modules[module].globs.iter().enumerate() {
            let import = (module, name.to_owned(), Through::Glob(index));
            if !self.open.insert(import.clone()) {
                continue;
            }
            for target in self.path(module, path) {
                if let Target::Module(id) = target {
                    found.extend(self.look_up(id, name));
                }
            }
            self.open.remove(&import);
        }
        found
    }
}
