//! Finds the paths that a module names in imports, types, expressions, attributes and macros.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItemFn, Item, ItemExternCrate, ItemUse, Lit, LitStr, Meta, Path, VisRestricted,
    visit::{self, Visit},
};

use super::{
    items::{OTHER_CRATE, attributes, imports, is_test_only, text},
    modules::Module,
};

/// A path, as written in the source.
pub struct Mention {
    pub path: Vec<String>,
    pub place: Place,
    /// Whether the compiler includes the code only in tests.
    pub test: bool,
}

/// The kind of code that contains a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// A `use` item, including the path before a glob.
    Import,
    /// Any other code.
    Code,
}

/// Finds every path in a module. Does not read its submodules.
///
/// In a macro call, every sequence of tokens that looks like a path counts. The visibility
/// `pub(in path)` does not count, because it names no item.
pub fn mentions(module: &Module) -> Vec<Mention> {
    let mut reader = Reader { test: module.test, found: Vec::new() };
    for item in &module.items {
        reader.visit_item(item);
    }
    reader.found
}

struct Reader {
    test: bool,
    found: Vec<Mention>,
}

impl Reader {
    fn add(&mut self, path: Vec<String>, place: Place) {
        self.found.push(Mention { path, place, test: self.test });
    }

    fn add_path(&mut self, path: &Path) {
        let start = path.leading_colon.map(|_| OTHER_CRATE.to_owned());
        let names = path.segments.iter().map(|segment| text(&segment.ident));
        self.add(start.into_iter().chain(names).collect(), Place::Code);
    }

    fn read_tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(tree) = trees.get(at) {
            match tree {
                TokenTree::Ident(_) => {
                    let is_absolute = at >= 2 && is_separator(&trees, at - 2);
                    let start = is_absolute.then(|| OTHER_CRATE.to_owned()).into_iter().collect();
                    at = self.read_path(&trees, at, start);
                }
                TokenTree::Group(group) => {
                    self.read_tokens(group.stream());
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Reads the path that begins at `at`, such as `a::b` or `a::{b, c::d}`. Returns the index
    /// after the path. `path` contains the segments before `at`.
    fn read_path(&mut self, trees: &[TokenTree], mut at: usize, mut path: Vec<String>) -> usize {
        loop {
            match trees.get(at) {
                Some(TokenTree::Ident(ident)) => path.push(text(ident)),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    for part in parts(group.stream()) {
                        self.read_path(&part, 0, path.clone());
                    }
                    return at + 1;
                }
                // The paths `a::b::*` and `a::b::<T>` end here.
                _ => break,
            }
            at += 1;
            if !is_separator(trees, at) {
                break;
            }
            at += 2;
        }
        self.add(path, Place::Code);
        at
    }

    /// Reads paths in strings, as in `#[serde(with = "super::seconds")]`.
    fn read_strings(&mut self, tokens: TokenStream) {
        for tree in tokens {
            let TokenTree::Literal(literal) = tree else { continue };
            let Lit::Str(string) = Lit::new(literal) else { continue };
            if let Ok(path) = LitStr::parse::<Path>(&string) {
                self.add_path(&path);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        let outside = self.test;
        self.test |= is_test_only(attributes(item));
        visit::visit_item(self, item);
        self.test = outside;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        let outside = self.test;
        self.test |= is_test_only(&item.attrs);
        visit::visit_impl_item_fn(self, item);
        self.test = outside;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for import in imports(item) {
            self.add(import.path, Place::Import);
        }
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        self.add(vec![text(&item.ident)], Place::Import);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add_path(path);
        // Visits the arguments in angle brackets.
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("doc") {
            return;
        }
        if let Meta::List(list) = &attribute.meta
            && list.path.is_ident("serde")
        {
            self.read_strings(list.tokens.clone());
        }
        visit::visit_attribute(self, attribute);
    }

    /// Reads the tokens in a macro call or in an attribute.
    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        self.read_tokens(tokens.clone());
    }

    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

/// Whether the tokens at `at` are `::`.
fn is_separator(trees: &[TokenTree], at: usize) -> bool {
    let is_colon = |tree: Option<&TokenTree>| match tree {
        Some(TokenTree::Punct(punct)) => punct.as_char() == ':',
        _ => false,
    };
    is_colon(trees.get(at)) && is_colon(trees.get(at + 1))
}

/// Splits tokens at commas: `a, b::c, d` has three parts.
fn parts(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut parts = vec![Vec::new()];
    for tree in tokens {
        if matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == ',') {
            parts.push(Vec::new());
        } else {
            parts.last_mut().expect("there is a part").push(tree);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}
