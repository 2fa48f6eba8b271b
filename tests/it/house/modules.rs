//! Reads the module tree of a crate. It starts at the root and follows the `mod` declarations.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use syn::{Item, ItemMacro};

use super::{
    items::{attributes, defined_name, imports, is_test_only, text},
    sources::{Sources, of_this_crate},
};

/// The modules of a crate. The root is the first module.
pub struct Crate {
    pub modules: Vec<Module>,
}

/// The index of a module in [`Crate::modules`].
pub type ModuleId = usize;

pub const ROOT: ModuleId = 0;

pub struct Module {
    /// The path of the module's file, relative to `src`. For an inline module, the path of the file
    /// that contains it.
    pub file: PathBuf,
    /// The path of the module from the root of the crate, such as `["store", "pool"]`.
    pub path: Vec<String>,
    pub parent: Option<ModuleId>,
    /// Whether the compiler includes the module only in tests.
    pub test: bool,
    /// The items of the module, without its submodules.
    pub items: Vec<Item>,
    /// Maps each name in the module to its targets. Names that exist only in tests are absent.
    pub names: BTreeMap<String, Vec<Binding>>,
    /// The paths of the module's glob imports.
    pub globs: Vec<Vec<String>>,
}

pub enum Binding {
    Module(ModuleId),
    Item,
    /// An import: the path that a `use` item names.
    Import(Vec<String>),
}

/// The position of a module in the tree.
struct Place {
    path: Vec<String>,
    parent: Option<ModuleId>,
    test: bool,
}

impl Crate {
    /// Reads the crate whose root is the file `root`, such as `lib.rs`.
    ///
    /// # Panics
    ///
    /// Panics if a file cannot be parsed, or if the file of a declared module is missing.
    pub fn read(sources: &Sources, root: &str) -> Self {
        let mut this = Self { modules: Vec::new() };
        let place = Place { path: Vec::new(), parent: None, test: false };
        this.read_file(sources, Path::new(root), place);
        this
    }

    fn read_file(&mut self, sources: &Sources, file: &Path, place: Place) -> ModuleId {
        let source = sources.get(file).unwrap_or_else(|| panic!("{} is missing", file.display()));
        let parsed = syn::parse_file(source)
            .unwrap_or_else(|error| panic!("{} cannot be parsed: {error}", file.display()));
        let stem = file.file_stem().expect("the path has a file name").to_string_lossy();
        let folder = file.parent().expect("the path has a parent");
        let folder = match &*stem {
            "lib" | "main" | "mod" => folder.to_owned(),
            stem => folder.join(stem),
        };
        let place = Place { test: place.test || stem.ends_with("_tests"), ..place };
        self.read_module(sources, file, &folder, parsed.items, place)
    }

    /// Reads a module. `folder` contains the files of the modules that it declares.
    fn read_module(
        &mut self,
        sources: &Sources,
        file: &Path,
        folder: &Path,
        items: Vec<Item>,
        place: Place,
    ) -> ModuleId {
        let id = self.modules.len();
        self.modules.push(Module {
            file: file.to_owned(),
            path: place.path.clone(),
            parent: place.parent,
            test: place.test,
            items: Vec::new(),
            names: BTreeMap::new(),
            globs: Vec::new(),
        });
        let mut kept = Vec::new();
        for item in items {
            let test = place.test || is_test_only(attributes(&item));
            match item {
                Item::Mod(item) => {
                    let name = text(&item.ident);
                    let mut path = place.path.clone();
                    path.push(name.clone());
                    let child = Place { path, parent: Some(id), test };
                    let child = match item.content {
                        Some((_, items)) => {
                            self.read_module(sources, file, &folder.join(&name), items, child)
                        }
                        None => {
                            let file = file_of_module(sources, folder, &name);
                            self.read_file(sources, &file, child)
                        }
                    };
                    if !test {
                        self.bind(id, name, Binding::Module(child));
                    }
                }
                item => {
                    if !test {
                        self.bind_item(id, &item);
                    }
                    kept.push(item);
                }
            }
        }
        self.modules[id].items = kept;
        id
    }

    fn bind_item(&mut self, module: ModuleId, item: &Item) {
        if let Item::Use(item) = item {
            for import in imports(item) {
                match import.name {
                    Some(name) => self.bind(module, name, Binding::Import(import.path)),
                    None => self.modules[module].globs.push(import.path),
                }
            }
        } else if let Some(name) = defined_name(item) {
            if matches!(item, Item::Macro(item) if is_exported(item)) && module != ROOT {
                let mut path = vec!["crate".to_owned()];
                path.extend_from_slice(&self.modules[module].path);
                path.push(name.clone());
                self.bind(ROOT, name.clone(), Binding::Import(path));
            }
            self.bind(module, name, Binding::Item);
        }
    }

    fn bind(&mut self, module: ModuleId, name: String, binding: Binding) {
        self.modules[module].names.entry(name).or_default().push(binding);
    }
}

/// Whether the macro is exported. An exported macro is an item of the crate's root.
fn is_exported(item: &ItemMacro) -> bool {
    item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"))
}

fn file_of_module(sources: &Sources, folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(format!("{name}.rs"));
    if sources.contains_key(&file) { file } else { folder.join(name).join("mod.rs") }
}

#[test]
fn every_source_file_is_a_module_of_the_library_or_the_binary() {
    let sources = of_this_crate();
    let roots = ["lib.rs", "main.rs"].map(|root| Crate::read(&sources, root));
    for file in sources.keys() {
        let is_module =
            roots.iter().any(|root| root.modules.iter().any(|module| module.file == *file));
        assert!(is_module, "no module declares src/{}", file.display());
    }
}
