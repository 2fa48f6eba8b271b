//! Content negotiation by the header `Accept`.

use axum::http::{HeaderMap, header::ACCEPT};

/// Whether the client prefers HTML to JSON, as browsers do. Returns false for a client without a
/// preference, such as curl.
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT).iter().filter_map(|list| list.to_str().ok());
    let ranges: Vec<Range<'_>> =
        lists.flat_map(|list| list.split(',')).filter_map(Range::read).collect();
    quality(&ranges, ["text/html", "text/*"])
        > quality(&ranges, ["application/json", "application/*"])
}

/// A media range such as `text/*`, and its quality from 0 to 1.
struct Range<'a> {
    media: &'a str,
    quality: f32,
}

impl<'a> Range<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media = parts.next()?;
        let given = parts.find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then_some(value.trim())
        });
        let quality = match given {
            Some(text) => text.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value))?,
            None => 1.0,
        };
        Some(Self { media, quality })
    }
}

/// Returns the quality of a media type. Of the ranges that contain it, the narrowest one counts.
fn quality(ranges: &[Range<'_>], [media, family]: [&str; 2]) -> f32 {
    let find = |wanted: &str| ranges.iter().find(|range| range.media.eq_ignore_ascii_case(wanted));
    [media, family, "*/*"].into_iter().find_map(find).map_or(0.0, |range| range.quality)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn prefers(lists: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(ACCEPT, HeaderValue::from_static(list));
        }
        prefers_html(&headers)
    }

    #[test]
    fn only_a_client_that_ranks_html_above_json_prefers_html() {
        for lists in [
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"][..],
            &["text/html"],
            &["Text/HTML; charset=utf-8"],
            &["text/*, */*;q=0.1"],
            &["application/json;q=0.5, text/html;q=0.6"],
            &["application/json;q=0", "*/*"],
            &["image/png", "text/html"],
        ] {
            assert!(prefers(lists), "{lists:?}");
        }
        for lists in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/json"],
            &["application/json, text/html"],
            &["text/html;q=0.4, */*;q=0.5"],
            &["text/html;q=2"],
            &["text/html;q=NaN"],
            &["text/html;q=0"],
            &["text/plain"],
        ] {
            assert!(!prefers(lists), "{lists:?}");
        }
    }
}
