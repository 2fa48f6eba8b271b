//! Links, and paths with query parameters.

use form_urlencoded::Serializer;

/// A link to a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub label: String,
    pub url: String,
}

/// Builds a path with a query. Omits parameters without a value.
pub fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    match query.finish().as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_encoded_and_empty_parameters_are_omitted() {
        assert_eq!(link("/a", &[]), "/a");
        assert_eq!(link("/a", &[("x", ""), ("y", "1 &=é")]), "/a?y=1+%26%3D%C3%A9");
        assert_eq!(link("/a", &[("x", "1"), ("y", "2")]), "/a?x=1&y=2");
    }
}
