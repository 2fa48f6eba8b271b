//! Schemas that only parameters, headers and problems refer to: the attributes of the handlers do
//! not collect those.

use utoipa::openapi::{ObjectBuilder, RefOr, Schema, SchemaFormat, Type};

use crate::domain::permission::Permission;

pub fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let string = |description: &str| {
        ObjectBuilder::new().schema_type(Type::String).description(Some(description))
    };
    let format = |name: &str| Some(SchemaFormat::Custom(name.to_owned()));
    let request_id = string("Id of a request: a TypeID.")
        .format(format("typeid"))
        .pattern(Some("^req_[0-7][0-9a-hjkmnp-tv-z]{25}$"))
        .min_length(Some(30))
        .max_length(Some(30))
        .examples(["req_01h455vb4pex5vsknk084sn02q"]);
    let amount = string("An amount in the tenant's currency: a decimal string.")
        .format(format("decimal"))
        .pattern(Some(r"^(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?$"))
        .max_length(Some(20))
        .examples(["1.500000"]);
    let currency = string("The code of the tenant's currency.")
        .pattern(Some("^[A-Z][A-Z0-9]{1,9}$"))
        .examples(["TRX"]);
    let scope = string("`read`, `write`, `<resource>:read` or `<resource>:write`.")
        .pattern(Some("^([a-z][a-z0-9_]{0,30}:)?(read|write)$"))
        .max_length(Some(37))
        .examples(["orders:write"]);
    let permission = string("A permission of an admin key.")
        .enum_values(Some(Permission::ALL.map(Permission::as_str)));
    let period = string("The period of a spend limit. Days and months are in UTC.")
        .enum_values(Some(["day", "month", "total"]));
    let hold_status = string("An open hold reserves its amount; the others are closed.")
        .enum_values(Some(["open", "captured", "voided", "expired"]));
    [
        ("RequestId", request_id),
        ("Amount", amount),
        ("CurrencyCode", currency),
        ("Scope", scope),
        ("Permission", permission),
        ("SpendPeriod", period),
        ("HoldStatus", hold_status),
    ]
    .map(|(name, schema)| (name.to_owned(), RefOr::<Schema>::from(schema)))
    .into()
}
