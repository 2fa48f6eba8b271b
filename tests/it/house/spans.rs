//! Every operation of the API and of the store has a tracing span with its own name.

use super::sources::{Sources, of_this_crate, sample};

/// Operations of the API and public async methods of the store that have no span.
fn without_a_span(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let file = syn::parse_file(text).expect("a source file");
        for item in file.items {
            match item {
                syn::Item::Fn(function)
                    if has(&function.attrs, "path") && !has(&function.attrs, "instrument") =>
                {
                    found.push(format!("{}: {}", path.display(), function.sig.ident));
                }
                syn::Item::Impl(block) if is_of_the_store(&block) => {
                    for member in block.items {
                        let syn::ImplItem::Fn(method) = member else { continue };
                        let is_public = matches!(method.vis, syn::Visibility::Public(_));
                        let is_operation = is_public && method.sig.asyncness.is_some();
                        if is_operation && !has(&method.attrs, "instrument") {
                            found.push(format!("{}: {}", path.display(), method.sig.ident));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn is_of_the_store(block: &syn::ItemImpl) -> bool {
    let syn::Type::Path(of) = &*block.self_ty else { return false };
    let name = of.path.segments.last().map(|segment| segment.ident.to_string());
    block.trait_.is_none() && matches!(name.as_deref(), Some("Store" | "AccountHandle"))
}

/// Whether one of the attributes has a path that ends with `name`.
fn has(attributes: &[syn::Attribute], name: &str) -> bool {
    let matches = |attribute: &syn::Attribute| {
        attribute.path().segments.last().is_some_and(|segment| segment.ident == name)
            && attribute.path().segments.len() > 1
    };
    attributes.iter().any(matches)
}

#[test]
fn every_operation_has_a_tracing_span() {
    let without = without_a_span(&of_this_crate());
    assert!(without.is_empty(), "{}", without.join("\n"));
}

#[test]
fn operation_without_a_span_is_found() {
    let files = [
        ("http.rs", "#[utoipa::path(get)] pub async fn list() {}"),
        ("store.rs", "impl Store { pub async fn find(&self) {} fn pool(&self) {} }"),
    ];
    assert_eq!(without_a_span(&sample(&files)).len(), 2);
    let traced = "impl Store { #[tracing::instrument] pub async fn find(&self) {} }";
    assert!(without_a_span(&sample(&[("store.rs", traced)])).is_empty());
}
