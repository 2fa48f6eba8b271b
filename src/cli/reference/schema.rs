//! Formats schemas of the OpenAPI document as Markdown.

use std::collections::BTreeMap;

use serde_json::Value;

use super::markdown::{choice, code, link_to, prose, table};

const SCHEMAS: &str = "#/components/schemas/";

/// The whole document, which resolves references.
#[derive(Clone, Copy)]
pub struct Document<'a>(pub &'a Value);

/// A member of an object.
struct Member<'a> {
    name: &'a str,
    schema: &'a Value,
    required: bool,
}

impl<'a> Document<'a> {
    /// Returns the value, or the value that it refers to.
    pub fn resolve(self, value: &'a Value) -> &'a Value {
        let Some(reference) = value["$ref"].as_str() else { return value };
        let pointer = reference.trim_start_matches('#');
        let target = self.0.pointer(pointer);
        self.resolve(target.unwrap_or_else(|| panic!("{reference} is not in the document")))
    }

    /// Returns the type of a value. The name of a type is a link to its section.
    pub fn type_of(self, schema: &'a Value) -> String {
        if let Some(name) = name_of(schema) {
            return link_to(name);
        }
        for (list, separator) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
            if let Some(schemas) = schema[list].as_array() {
                let types: Vec<String> = schemas.iter().map(|item| self.type_of(item)).collect();
                return types.join(separator);
            }
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let types = types.into_iter().map(|name| match name {
            "array" => format!("array of {}", self.type_of(&schema["items"])),
            "null" => code("null"),
            name => name.to_owned(),
        });
        let types: Vec<String> = types.collect();
        if types.is_empty() { "any value".to_owned() } else { types.join(" or ") }
    }

    /// Describes a member or a parameter, including its limits. If `description` is absent, uses
    /// the description of its type.
    pub fn describe(self, schema: &'a Value, description: Option<&'a str>) -> String {
        let value = unless_null(schema);
        let own = description.or_else(|| text(schema, "description"));
        let own = own.or_else(|| text(value, "description"));
        let own = own.or_else(|| text(self.resolve(value), "description"));
        let mut sentences: Vec<String> = own.map(prose).into_iter().collect();
        if let Some(values) = self.resolve(value)["enum"].as_array() {
            sentences.push(format!("One of {}.", values_of(values)));
        }
        sentences.extend(bounds(value));
        let default = [schema, value, self.resolve(value)]
            .into_iter()
            .find_map(|schema| schema.get("default").filter(|default| !default.is_null()));
        sentences.extend(default.map(|value| format!("Default: {}.", code(&shown(value)))));
        sentences.join(" ")
    }

    /// Returns a table of the members of an object, or `None` if it has no members.
    pub fn members(self, schema: &'a Value) -> Option<String> {
        let mut members = self.list_members(schema);
        // Required members come first. Otherwise the order of the document remains.
        members.sort_by_key(|member| !member.required);
        let row = |member: &Member<'a>| {
            let required = if member.required { "yes" } else { "no" };
            vec![
                code(member.name),
                self.type_of(member.schema),
                required.to_owned(),
                self.describe(member.schema, None),
            ]
        };
        let rows: Vec<Vec<String>> = members.iter().map(row).collect();
        (!rows.is_empty()).then(|| table(&["member", "type", "required", "description"], &rows))
    }

    fn list_members(self, schema: &'a Value) -> Vec<Member<'a>> {
        let schema = self.resolve(schema);
        let mut members: Vec<Member<'a>> = Vec::new();
        for part in schema["allOf"].as_array().into_iter().flatten() {
            for member in self.list_members(part) {
                // A later part describes a member of the same name in more detail.
                members.retain(|other| other.name != member.name);
                members.push(member);
            }
        }
        let required = schema["required"].as_array();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let required = required.is_some_and(|names| names.iter().any(|other| *other == **name));
            members.push(Member { name, schema, required });
        }
        members
    }

    /// Returns the only value that the schema allows for a member, such as the `code` of a problem.
    pub fn only_value(self, schema: &'a Value, member: &str) -> Option<&'a str> {
        let members = self.list_members(schema);
        let member = members.iter().find(|other| other.name == member)?;
        match &self.resolve(member.schema)["enum"].as_array()?[..] {
            [value] => value.as_str(),
            _ => None,
        }
    }

    /// Adds the named types that a schema uses, directly or through other types.
    pub fn collect_types(self, value: &'a Value, types: &mut BTreeMap<&'a str, &'a Value>) {
        match value {
            Value::Object(members) => {
                if let Some(name) = name_of(value) {
                    let schema = self.resolve(value);
                    if types.insert(name, schema).is_none() {
                        self.collect_types(schema, types);
                    }
                }
                members.values().for_each(|value| self.collect_types(value, types));
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect_types(item, types)),
            _ => {}
        }
    }

    /// Returns the section of a named type.
    pub fn section(self, name: &str, schema: &'a Value) -> String {
        let mut section = format!("### {}\n\n", code(name));
        if let Some(description) = text(schema, "description") {
            section.push_str(&prose(description));
            section.push_str("\n\n");
        }
        if let Some(members) = self.members(schema) {
            section.push_str(&members);
            return section;
        }
        let mut facts = vec![format!("Type: {}.", self.type_of(schema))];
        facts.extend(text(schema, "format").map(|format| format!("Format: {}.", code(format))));
        if let Some(values) = schema["enum"].as_array() {
            facts.push(format!("Values: {}.", values_of(values)));
        }
        facts.extend(bounds(schema));
        facts.extend(example(schema).map(|value| format!("Example: {}.", code(&shown(value)))));
        for fact in facts {
            section.push_str(&format!("- {fact}\n"));
        }
        section.push('\n');
        section
    }
}

/// Returns the example of a schema or of a media type.
pub fn example(schema: &Value) -> Option<&Value> {
    let first = schema["examples"].as_array().and_then(|examples| examples.first());
    schema.get("example").or(first)
}

/// Returns the name of the type that a schema refers to.
pub fn name_of(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix(SCHEMAS)
}

/// Returns a text member of a value, unless it is empty.
pub fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value[member].as_str().filter(|text| !text.is_empty())
}

/// Returns the first alternative of a schema if the second is `null`, otherwise the schema itself.
fn unless_null(schema: &Value) -> &Value {
    let is_null = |schema: &Value| schema["type"] == "null";
    match schema["oneOf"].as_array().map(Vec::as_slice) {
        Some([value, null]) if is_null(null) => value,
        _ => schema,
    }
}

/// Returns a sentence for each limit that a schema sets.
fn bounds(schema: &Value) -> Vec<String> {
    let mut sentences = Vec::new();
    for (least, most, what) in [
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " members"),
        ("minimum", "maximum", ""),
    ] {
        let (least, most) = (schema[least].as_number(), schema[most].as_number());
        sentences.extend(match (least, most) {
            (Some(least), Some(most)) if least == most => Some(format!("{least}{what}.")),
            (Some(least), Some(most)) => Some(format!("{least} to {most}{what}.")),
            (Some(least), None) => Some(format!("At least {least}{what}.")),
            (None, Some(most)) => Some(format!("At most {most}{what}.")),
            (None, None) => None,
        });
    }
    sentences.extend(text(schema, "pattern").map(|form| format!("Pattern: {}.", code(form))));
    if schema["additionalProperties"] == true {
        sentences.push("The object may contain any members.".to_owned());
    }
    sentences
}

fn values_of(values: &[Value]) -> String {
    let values: Vec<String> = values.iter().map(shown).collect();
    choice(&values.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Formats a value of the document. A string has no quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({"components": {"schemas": {
            "Amount": {"type": "string", "description": "An amount.", "maxLength": 20,
                "pattern": "^[0-9]|x$", "examples": ["1.5"]},
            "Status": {"type": "string", "description": "A status.", "enum": ["open", "closed"]},
            "Problem": {"type": "object", "required": ["code"],
                "properties": {"code": {"type": "string"}, "title": {"type": "string"}}},
            "Small": {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "object",
                "required": ["code"],
                "properties": {"code": {"type": "string", "enum": ["too_small"]}}}]},
            "Hold": {"type": "object", "description": "A hold.", "required": ["status"],
                "properties": {
                    "amount": {"description": "Absent: <all>.", "oneOf": [
                        {"$ref": "#/components/schemas/Amount"}, {"type": "null"}]},
                    "notes": {"type": ["array", "null"], "items": {"type": "string"}, "maxItems": 3},
                    "status": {"$ref": "#/components/schemas/Status"}}},
        }}})
    }

    fn reference(name: &str) -> Value {
        json!({"$ref": format!("{SCHEMAS}{name}")})
    }

    #[test]
    fn members_of_an_object_are_listed_with_required_members_first() {
        let (document, hold) = (document(), reference("Hold"));
        let members = Document(&document).members(&hold).expect("members");
        let rows: Vec<&str> = members.trim_end().lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `status` | [Status](#status) | yes | A status. One of `open` or `closed`. |",
                "| `amount` | [Amount](#amount) or `null` | no | Absent: &lt;all&gt;. |",
                "| `notes` | array of string or `null` | no | At most 3 items. |",
            ]
        );
    }

    #[test]
    fn later_part_of_a_combined_schema_replaces_the_member_of_an_earlier_part() {
        let (document, small) = (document(), reference("Small"));
        let document = Document(&document);
        assert_eq!(document.only_value(&small, "code"), Some("too_small"));
        assert_eq!(document.only_value(&small, "title"), None);
        let members = document.members(&small).expect("members");
        assert_eq!(members.matches("`code`").count(), 1, "{members}");
    }

    #[test]
    fn section_of_a_string_type_contains_its_limits_its_pattern_and_an_example() {
        let document = document();
        let amount = &document["components"]["schemas"]["Amount"];
        assert_eq!(
            Document(&document).section("Amount", amount),
            "### `Amount`\n\nAn amount.\n\n- Type: string.\n- At most 20 characters.\n\
             - Pattern: `^[0-9]|x$`.\n- Example: `1.5`.\n\n"
        );
    }

    #[test]
    fn types_are_collected_through_references() {
        let (document, hold) = (document(), reference("Hold"));
        let mut types = BTreeMap::new();
        Document(&document).collect_types(&hold, &mut types);
        assert_eq!(types.keys().copied().collect::<Vec<_>>(), ["Amount", "Hold", "Status"]);
    }
}
