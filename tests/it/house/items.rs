//! Reads names, imports and attributes of parsed items.

use syn::{
    Attribute, Ident, Item, ItemUse, Meta, Token, UseTree, ext::IdentExt as _,
    punctuated::Punctuated,
};

/// The first segment of a path that begins with `::`. The next segment is the name of a crate.
pub const OTHER_CRATE: &str = "::";

/// One path that a `use` item imports.
pub struct Import {
    pub path: Vec<String>,
    /// The name that the import has in the importing module. `None` for a glob.
    pub name: Option<String>,
}

/// Lists the imports of a `use` item: one for each leaf of its tree.
pub fn imports(item: &ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    let start = item.leading_colon.map(|_| OTHER_CRATE.to_owned()).into_iter().collect();
    add_imports(&item.tree, start, &mut found);
    found
}

fn add_imports(tree: &UseTree, mut path: Vec<String>, found: &mut Vec<Import>) {
    match tree {
        UseTree::Path(tree) => {
            path.push(text(&tree.ident));
            add_imports(&tree.tree, path, found);
        }
        UseTree::Name(tree) => {
            // `use a::b::{self}` imports `b`.
            let own = text(&tree.ident);
            let name = if own == "self" { path.last().cloned().unwrap_or(own) } else { own };
            path.push(text(&tree.ident));
            found.push(Import { path, name: Some(name) });
        }
        UseTree::Rename(tree) => {
            path.push(text(&tree.ident));
            found.push(Import { path, name: Some(text(&tree.rename)) });
        }
        UseTree::Glob(_) => found.push(Import { path, name: None }),
        UseTree::Group(tree) => {
            for tree in &tree.items {
                add_imports(tree, path.clone(), found);
            }
        }
    }
}

/// Returns the text of an identifier, without the prefix `r#` of a raw identifier.
pub fn text(ident: &Ident) -> String {
    ident.unraw().to_string()
}

/// Returns the name that an item defines. An `impl`, a `use` and a macro call define no name.
pub fn defined_name(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(text(ident))
}

pub fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether an item with these attributes is compiled only for tests.
pub fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        if path.is_ident("cfg") {
            attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition))
        } else {
            // Matches `#[test]` and `#[tokio::test]`.
            path.segments.last().is_some_and(|segment| segment.ident == "test")
        }
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|conditions| conditions.iter().any(needs_test)),
        _ => false,
    }
}
