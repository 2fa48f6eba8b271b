//! Every API operation, store operation and dashboard page has a tracing span with its own name.
//! The span records only the fields that it lists.

use std::path::Path;

use syn::visit::{self, Visit};

use super::sources::{Sources, of_this_crate, sample};

/// Finds API operations, dashboard handlers and public async store methods that have no span, or
/// whose span records every argument.
fn without_a_span(sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    let pages = handlers_of_pages(sources);
    for (path, text) in sources {
        let file = syn::parse_file(text).expect("the source file can be parsed");
        let module = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_page = |function: &syn::ItemFn| {
            let handler = (module.to_owned(), function.sig.ident.to_string());
            path.starts_with("dashboard") && pages.contains(&handler)
        };
        for item in file.items {
            match item {
                syn::Item::Fn(function)
                    if (function.attrs.iter().any(|attribute| is_named(attribute, "path"))
                        || is_page(&function))
                        && !has_span(&function.attrs) =>
                {
                    found.push(format!("{}: {}", path.display(), function.sig.ident));
                }
                syn::Item::Impl(block) if is_of_the_store(&block) => {
                    for member in block.items {
                        let syn::ImplItem::Fn(method) = member else { continue };
                        let is_public = matches!(method.vis, syn::Visibility::Public(_));
                        let is_operation = is_public && method.sig.asyncness.is_some();
                        if is_operation && !has_span(&method.attrs) {
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

/// Whether the path of the attribute has several segments and ends with `name`.
fn is_named(attribute: &syn::Attribute, name: &str) -> bool {
    let segments = &attribute.path().segments;
    segments.len() > 1 && segments.last().is_some_and(|segment| segment.ident == name)
}

/// Whether the attributes contain a span that records only listed arguments. The list must not
/// contain the account as the client wrote it, because a client may send an API key there by
/// mistake.
fn has_span(attributes: &[syn::Attribute]) -> bool {
    let spans = attributes.iter().filter(|attribute| is_named(attribute, "instrument"));
    let mut lists = spans.filter_map(|attribute| attribute.meta.require_list().ok());
    lists.any(|list| {
        let tokens = list.tokens.to_string().replace(' ', "");
        tokens.contains("skip_all")
            && ![",%account,", ",%account)"].iter().any(|raw| tokens.contains(raw))
    })
}

/// Finds the module and the function of each handler in the dashboard's routes, such as
/// `get(keys::list)`.
fn handlers_of_pages(sources: &Sources) -> Vec<(String, String)> {
    struct Handlers(Vec<(String, String)>);

    impl Handlers {
        fn add(
            &mut self,
            method: &syn::Ident,
            arguments: &syn::punctuated::Punctuated<syn::Expr, syn::Token![,]>,
        ) {
            let is_method = method == "get" || method == "post";
            let Some(syn::Expr::Path(handler)) = arguments.first() else { return };
            let names: Vec<String> =
                handler.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            if let ([module, function], true) = (&names[..], is_method) {
                self.0.push((module.clone(), function.clone()));
            }
        }
    }

    impl<'a> Visit<'a> for Handlers {
        fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
            if let syn::Expr::Path(function) = &*call.func
                && let Some(method) = function.path.get_ident()
            {
                self.add(method, &call.args);
            }
            visit::visit_expr_call(self, call);
        }

        fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
            self.add(&call.method, &call.args);
            visit::visit_expr_method_call(self, call);
        }
    }

    let mut handlers = Handlers(Vec::new());
    if let Some(routes) = sources.get(Path::new("dashboard/routes.rs")) {
        handlers.visit_file(&syn::parse_file(routes).expect("the source file can be parsed"));
    }
    handlers.0
}

#[test]
fn every_operation_has_a_tracing_span() {
    let without = without_a_span(&of_this_crate());
    assert!(without.is_empty(), "{}", without.join("\n"));
    assert!(handlers_of_pages(&of_this_crate()).len() > 20);
}

#[test]
fn check_reports_an_operation_without_a_span() {
    let files = [
        ("http.rs", "#[utoipa::path(get)] pub async fn list() {}"),
        ("store.rs", "impl Store { pub async fn find(&self) {} fn pool(&self) {} }"),
    ];
    assert_eq!(without_a_span(&sample(&files)).len(), 2);
    let traced = "impl Store { #[tracing::instrument(skip_all)] pub async fn find(&self) {} }";
    assert!(without_a_span(&sample(&[("store.rs", traced)])).is_empty());
    let records_all = "impl Store { #[tracing::instrument] pub async fn find(&self) {} }";
    assert_eq!(without_a_span(&sample(&[("store.rs", records_all)])).len(), 1);
    let raw = "impl Store { #[tracing::instrument(skip_all, fields(%id, %account))] pub async fn find(&self) {} }";
    assert_eq!(without_a_span(&sample(&[("store.rs", raw)])).len(), 1);
    let dashboard = [
        (
            "dashboard/routes.rs",
            "fn routes() { Router::new().route(\"/\", get(keys::list).post(keys::make)); }",
        ),
        ("dashboard/keys.rs", "pub async fn list() {} pub async fn make() {} fn other() {}"),
    ];
    assert_eq!(without_a_span(&sample(&dashboard)).len(), 2);
}
