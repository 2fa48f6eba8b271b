//! The OpenAPI document, generated from the handlers.

use utoipa::{
    OpenApi,
    openapi::{
        ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi as Document, OpenApiBuilder, Ref,
        RefOr, Required, Response, Schema, ServerBuilder, Type,
        path::Operation,
        schema::{OneOf, SchemaType},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{
    api::shared::{headers::ResponseHeader, problems, schemas},
    routes::{document_routes, operations},
};

#[derive(OpenApi)]
struct Empty;

/// Builds the complete document, which `/openapi.json` serves and `tollgate openapi` prints.
#[must_use]
pub fn document() -> Document {
    complete(document_routes(skeleton()))
}

/// Builds the document without the routes.
fn skeleton() -> Document {
    let license = LicenseBuilder::new()
        .name(env!("CARGO_PKG_LICENSE"))
        .identifier(Some(env!("CARGO_PKG_LICENSE")))
        .build();
    let info = InfoBuilder::new()
        .title("Tollgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Multi-tenant API keys with a prepaid balance. Errors are problem details (RFC 9457). \
             The meaning of a `code` never changes. A minor version may add codes and other enum \
             values. Every response contains the header `X-Request-Id`.",
        ))
        .license(Some(license))
        .build();
    let server =
        ServerBuilder::new().url("/").description(Some("The service that serves this document."));
    let api_key = ApiKeyValue::with_description(
        "X-API-Key",
        "An account's API key. `Authorization: Bearer` is accepted too.",
    );
    let admin_key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A tenant's admin key, `tg_admin_…`."))
        .build();
    let mut components = ComponentsBuilder::new()
        .security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(api_key)))
        .security_scheme("admin_key", SecurityScheme::Http(admin_key))
        .schemas_from_iter(schemas::schemas())
        .schemas_from_iter(problems::schemas())
        .responses_from_iter(problems::responses());
    for header in ResponseHeader::ALL {
        components = components.header(header.component(), header.definition());
    }
    let tags = [
        ("gate", "Verification of API keys."),
        ("purchases", "Purchases and their refunds."),
        ("holds", "Holds, which reserve a part of the balance."),
        ("accounts", "A tenant's accounts, their balances and ledger entries."),
        ("keys", "An account's API keys."),
        ("dashboard", "Dashboard links, dashboard sessions and dashboard settings."),
        ("audit", "Audit events, which record changes to accounts and keys."),
        ("service", "Health checks of the service."),
    ]
    .map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build());
    OpenApiBuilder::from(Empty::openapi())
        .info(info)
        .servers(Some([server.build()]))
        .components(Some(components.build()))
        .tags(Some(tags))
        .build()
}

/// Applies the changes that the attributes of the handlers cannot express.
fn complete(mut document: Document) -> Document {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        refuse_null_body(operation);
        operation.responses.responses.values_mut().for_each(refer_to_headers);
    }
    if let Some(components) = &mut document.components {
        components.schemas.values_mut().for_each(describe_nullable_members);
        components.responses.values_mut().for_each(refer_to_headers);
    }
    document
}

/// Forbids `null` as an optional body. The attribute allows `null` for an `Option`, but the service
/// accepts only an absent body.
fn refuse_null_body(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else { return };
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        let Some(RefOr::T(Schema::OneOf(either))) = &mut content.schema else { continue };
        if let Some(body_schema) = unless_null(either) {
            let body_schema = body_schema.clone();
            content.schema = Some(RefOr::Ref(body_schema));
            body.required = Some(Required::False);
        }
    }
}

/// Moves the description of an `Option` from the reference to the member, where client generators
/// read it.
fn describe_nullable_members(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.properties.values_mut().for_each(describe_nullable);
        }
        RefOr::T(Schema::AllOf(all)) => all.items.iter_mut().for_each(describe_nullable_members),
        _ => {}
    }
}

fn describe_nullable(member: &mut RefOr<Schema>) {
    let RefOr::T(Schema::OneOf(either)) = member else { return };
    let Some(value) = unless_null(either) else { return };
    let description = std::mem::take(&mut value.description);
    if !description.is_empty() {
        either.description = Some(description);
    }
}

/// Returns the reference to a type if the choice is between this type and `null`.
fn unless_null(either: &mut OneOf) -> Option<&mut Ref> {
    match &mut either.items[..] {
        [RefOr::Ref(reference), RefOr::T(Schema::Object(null))]
            if null.schema_type == SchemaType::Type(Type::Null) =>
        {
            Some(reference)
        }
        _ => None,
    }
}

/// Adds the request id to the headers of a response. Replaces `Idempotent-Replayed` by a reference
/// to its definition.
fn refer_to_headers(response: &mut RefOr<Response>) {
    let RefOr::T(response) = response else { return };
    let replayed = ResponseHeader::IdempotentReplayed;
    if let Some(header) = response.headers.get_mut(replayed.name()) {
        *header = RefOr::Ref(replayed.reference());
    }
    let id = ResponseHeader::RequestId;
    response.headers.insert(id.name().to_owned(), RefOr::Ref(id.reference()));
}
