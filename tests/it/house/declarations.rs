//! Each `mod.rs` and `lib.rs` only declares modules and re-exports items. They define no items, so
//! that a reader finds each item in a file with a matching name.

use std::path::Path;

use syn::{Item, Type};

use super::{
    items::{defined_name, text},
    sources::{Sources, of_this_crate, sample},
};

/// Returns one sentence for each item in a `mod.rs` or `lib.rs` that is not a declaration or a
/// re-export.
fn definitions(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, source) in sources {
        if path != Path::new("lib.rs") && path.file_name().is_none_or(|name| name != "mod.rs") {
            continue;
        }
        let file = syn::parse_file(source)
            .unwrap_or_else(|error| panic!("{} cannot be parsed: {error}", path.display()));
        for item in &file.items {
            let is_declaration = match item {
                Item::Use(_) => true,
                Item::Mod(item) => item.content.is_none(),
                _ => false,
            };
            if !is_declaration {
                found.push(format!("src/{} contains {}", path.display(), describe(item)));
            }
        }
    }
    found
}

fn describe(item: &Item) -> String {
    let kind = match item {
        Item::Const(_) => "const",
        Item::Enum(_) => "enum",
        Item::Fn(_) => "fn",
        Item::Impl(_) => "impl",
        Item::Macro(_) => "macro",
        Item::Mod(_) => "inline mod",
        Item::Static(_) => "static",
        Item::Struct(_) => "struct",
        Item::Trait(_) | Item::TraitAlias(_) => "trait",
        Item::Type(_) => "type",
        Item::Union(_) => "union",
        _ => "item",
    };
    let name = match item {
        Item::Impl(item) => name_of_type(&item.self_ty),
        item => defined_name(item),
    };
    name.map_or_else(|| kind.to_owned(), |name| format!("{kind} {name}"))
}

fn name_of_type(of: &Type) -> Option<String> {
    match of {
        Type::Path(of) => of.path.segments.last().map(|segment| text(&segment.ident)),
        _ => None,
    }
}

#[test]
fn mod_rs_and_lib_rs_only_declare_and_reexport() {
    let found = definitions(&of_this_crate());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn check_reports_a_definition_in_a_mod_rs() {
    let folder = "
        //! Documentation.
        #![allow(dead_code)]
        /// A declaration.
        pub mod a;
        #[cfg(test)]
        mod a_tests;
        use self::a::A;
        pub(crate) use a::{B, C as D};
        impl A {}
        fn b() {}
        #[cfg(test)]
        mod tests {}
    ";
    let sources = sample(&[
        ("folder/a.rs", "struct A;"),
        ("folder/mod.rs", folder),
        ("lib.rs", "mod folder; const LIMIT: u8 = 1;"),
        ("main.rs", "fn main() {}"),
    ]);
    assert_eq!(
        definitions(&sources),
        [
            "src/folder/mod.rs contains impl A",
            "src/folder/mod.rs contains fn b",
            "src/folder/mod.rs contains inline mod tests",
            "src/lib.rs contains const LIMIT"
        ]
    );
}
