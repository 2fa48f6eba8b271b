//! The OpenAPI document, made out of the handlers, and the page that shows it.

use utoipa::{
    OpenApi,
    openapi::{
        ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi as Document, OpenApiBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{api::shared::problems, routes::documented_routes};

#[derive(OpenApi)]
struct Empty;

/// The whole document.
#[must_use]
pub fn document() -> Document {
    documented_routes(skeleton()).1
}

/// What is in the document beside the routes.
pub fn skeleton() -> Document {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0").build();
    let info = InfoBuilder::new()
        .title("Tollgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Multi-tenant API keys with a prepaid balance. Errors are problem details (RFC 9457); \
             their `code` never changes. Every response carries `X-Request-Id`.",
        ))
        .license(Some(license))
        .build();
    let api_key = ApiKeyValue::with_description(
        "X-API-Key",
        "An account's key. `Authorization: Bearer` is taken too.",
    );
    let admin_key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A tenant's admin key, `tg_admin_…`."))
        .build();
    let mut components = ComponentsBuilder::new()
        .security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(api_key)))
        .security_scheme("admin_key", SecurityScheme::Http(admin_key));
    for (name, schema) in problems::schemas() {
        components = components.schema(name, schema);
    }
    let tags = [
        ("gate", "Who is it, and may they?"),
        ("purchases", "What is taken off the balance."),
        ("holds", "What is reserved for what may still fail."),
        ("accounts", "A tenant's accounts, their balances and statements."),
        ("keys", "An account's API keys."),
        ("dashboard", "The pages for an account's owner: the ways in, and how they look."),
        ("audit", "Who did what."),
        ("service", "The service itself."),
    ]
    .map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    let mut document = OpenApiBuilder::from(Empty::openapi())
        .info(info)
        .components(Some(components.build()))
        .tags(Some(tags))
        .build();
    document.servers = None;
    document
}
