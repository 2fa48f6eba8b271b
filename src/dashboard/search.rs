//! Searches, sorts and paginates the lists of the pages.

use axum::response::Response;

use super::pages::search::SearchForm;
use crate::{
    domain::api_key::KeyText,
    web::{fields::Choice, forms::Form, links::link, respond::see_other},
};

/// Maximum length of a search text, in characters. Further characters are ignored.
pub const MAX_CHARACTERS: usize = 100;

/// Maximum number of items that one request reads while it searches.
const MAX_SCANNED: usize = 2_000;

/// Number of items that one statement reads while it searches.
const SCANNED_AT_ONCE: usize = 500;

/// Maximum number of items on a page of a list.
pub const LENGTH: usize = 50;

/// A list with more items than this has a search form.
pub const SHORT: usize = 8;

/// If the search is a whole API key, returns a redirect to the same list, which searches for the
/// key's hint instead. No page or link then repeats the key, and the browser's address bar no
/// longer shows it.
pub fn without_key(path: &str, query: &Form) -> Option<Response> {
    let key = KeyText::parse(query.text("q").trim()).ok()?;
    let hint = key.hint();
    let parameters: Vec<(&str, &str)> = query
        .pairs()
        .map(|(name, value)| (name, if name == "q" { hint.as_str() } else { value }))
        .collect();
    Some(see_other(&link(path, &parameters)))
}

/// The input of the search field of a list.
pub struct Search {
    /// The input without leading and trailing spaces.
    text: String,
    lowercase: String,
}

impl Search {
    /// Reads the field `q` of a query.
    pub fn of(query: &Form) -> Self {
        let text: String = query.text("q").trim().chars().take(MAX_CHARACTERS).collect();
        Self { lowercase: text.to_lowercase(), text }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn is_active(&self) -> bool {
        !self.text.is_empty()
    }

    /// Whether any of these texts contains the search text, ignoring case. An empty search matches
    /// everything.
    pub fn matches<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        !self.is_active()
            || texts.into_iter().any(|text| text.to_lowercase().contains(&self.lowercase))
    }
}

/// Fills one page of a list that is read part by part, because the list can have any length.
///
/// Without a search, the first part fills the page. With a search, parts are read until the page is
/// full, the list ends, or 2,000 items are read.
pub struct Scan<T, C> {
    length: usize,
    searching: bool,
    found: Vec<T>,
    read: usize,
    last_read: Option<C>,
    ended: bool,
}

impl<T, C: Copy> Scan<T, C> {
    /// Creates an empty page of at most `length` items. The items begin after `start`.
    pub fn new(search: &Search, length: usize, start: Option<C>) -> Self {
        Self {
            length,
            searching: search.is_active(),
            found: Vec::new(),
            read: 0,
            last_read: start,
            ended: false,
        }
    }

    /// Returns the item after which to read, and how many items to read. `None` ends the search.
    pub fn next_read(&self) -> Option<(Option<C>, i64)> {
        let full = self.found.len() > self.length || self.read >= MAX_SCANNED;
        (!self.ended && !full).then(|| (self.last_read, to_i64(self.at_once())))
    }

    /// Adds items that were read. `position` identifies the item after which the list can continue.
    pub fn add(&mut self, items: Vec<T>, position: impl Fn(&T) -> C, matches: impl Fn(&T) -> bool) {
        self.read += items.len();
        self.ended = items.len() < self.at_once() || !self.searching;
        for item in items {
            if self.found.len() > self.length {
                return;
            }
            self.last_read = Some(position(&item));
            if matches(&item) {
                self.found.push(item);
            }
        }
    }

    /// Returns the items of the page and the position after which the list continues, if it does.
    pub fn finish(mut self, position: impl Fn(&T) -> C) -> (Vec<T>, Option<C>) {
        if self.found.len() > self.length {
            self.found.truncate(self.length);
            let last = self.found.last().map(position);
            return (self.found, last);
        }
        let next = self.last_read.filter(|_| !self.ended);
        (self.found, next)
    }

    fn at_once(&self) -> usize {
        if self.searching { SCANNED_AT_ONCE } else { self.length + 1 }
    }
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).expect("pages are short")
}

/// Divides a list that is completely in memory into numbered pages.
pub struct Pages {
    number: usize,
    length: usize,
}

impl Pages {
    /// Reads the field `page` of a query. An invalid number means the first page.
    pub fn of(query: &Form, length: usize) -> Self {
        Self { number: query.text("page").parse().unwrap_or(1).max(1), length }
    }

    /// Keeps the items of the page. Returns the numbers of the pages before and after it.
    pub fn cut<T>(&self, items: &mut Vec<T>) -> (Option<usize>, Option<usize>) {
        let last = items.len().div_ceil(self.length).max(1);
        let number = self.number.min(last);
        let start = (number - 1) * self.length;
        *items = items.drain(..).skip(start).take(self.length).collect();
        ((number > 1).then(|| number - 1), (number < last).then(|| number + 1))
    }
}

/// Returns the order that the field `sort` of a query names. Each order has a name and a label. An
/// unknown name means the first order.
pub fn chosen<S: Copy>(orders: &[(S, &str, &str)], query: &Form) -> S {
    let wanted = query.text("sort");
    orders.iter().find(|(_, name, _)| *name == wanted).unwrap_or(&orders[0]).0
}

/// Returns the choices of the field `sort`.
pub fn choices<S: Copy + PartialEq>(orders: &[(S, &str, &str)], chosen: S) -> Vec<Choice> {
    let name = |wanted: S| orders.iter().find(|(sort, ..)| *sort == wanted).map(|order| order.1);
    let chosen = name(chosen).unwrap_or_default();
    orders.iter().map(|(_, name, label)| Choice::new(*name, *label, chosen)).collect()
}

/// Returns the link to another page of a list, with the same search.
pub fn page_url(path: &str, query: &Form, kept: &[&str], number: usize) -> String {
    let number = number.to_string();
    let mut parameters: Vec<(&str, &str)> =
        kept.iter().map(|name| (*name, query.text(name))).collect();
    parameters.push(("page", &number));
    link(path, &parameters)
}

/// Returns the search form of a list. A search keeps the parameters in `kept`.
pub fn form(
    query: &Form,
    search: &Search,
    action: &'static str,
    label: &'static str,
    kept: &[&'static str],
    sorts: Vec<Choice>,
) -> SearchForm {
    let kept = kept.iter().map(|name| (*name, query.text(name).to_owned()));
    let kept: Vec<_> = kept.filter(|(_, value)| !value.is_empty()).collect();
    let parameters: Vec<_> = kept.iter().map(|(name, value)| (*name, value.as_str())).collect();
    SearchForm {
        clear_url: link(action, &parameters),
        action,
        label,
        text: search.text().to_owned(),
        search_length: MAX_CHARACTERS,
        active: search.is_active() || !query.text("sort").is_empty(),
        sorts,
        kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(text: &str) -> Search {
        Search::of(&Form::filled([("q", text.to_owned())]))
    }

    /// Returns one page of the numbers below `end`, newest first, that contain `text`.
    fn page(end: i64, text: &str, start: Option<i64>) -> (Vec<i64>, Option<i64>) {
        let search = search(text);
        let mut scan = Scan::new(&search, 3, start);
        while let Some((after, limit)) = scan.next_read() {
            let below = after.unwrap_or(end);
            let items = (0..below).rev().take(usize::try_from(limit).expect("small")).collect();
            scan.add(items, |item| *item, |item| search.matches([item.to_string().as_str()]));
        }
        scan.finish(|item| *item)
    }

    #[test]
    fn search_ignores_case_and_spaces_around_it() {
        assert!(search("  GRID ").matches(["other", "Grid bot"]));
        assert!(!search("grid").matches(["other"]));
        assert!(search(" ").matches([]));
        assert_eq!(search(&"x".repeat(500)).text().len(), MAX_CHARACTERS);
    }

    #[test]
    fn list_without_a_search_continues_after_its_last_item() {
        assert_eq!(page(5, "", None), (vec![4, 3, 2], Some(2)));
        assert_eq!(page(5, "", Some(2)), (vec![1, 0], None));
        assert_eq!(page(3, "", None), (vec![2, 1, 0], None));
    }

    #[test]
    fn search_reads_on_until_the_page_is_full_or_the_list_ends() {
        assert_eq!(page(1_900, "777", None), (vec![1_777, 777], None));
        assert_eq!(page(1_900, "1", None), (vec![1_899, 1_898, 1_897], Some(1_897)));
    }

    #[test]
    fn search_stops_after_2000_items_and_continues_there() {
        let (found, next) = page(9_000, "7778", None);
        assert_eq!((found, next), (vec![7_778], Some(7_000)));
        let (found, next) = page(9_000, "7778", next);
        assert_eq!((found, next), (vec![], Some(5_000)));
    }

    #[test]
    fn numbered_page_links_to_the_previous_and_the_next_page() {
        let cut = |number: &str| {
            let pages = Pages::of(&Form::filled([("page", number.to_owned())]), 2);
            let mut items = vec![1, 2, 3, 4, 5];
            let neighbours = pages.cut(&mut items);
            (items, neighbours)
        };
        assert_eq!(cut(""), (vec![1, 2], (None, Some(2))));
        assert_eq!(cut("2"), (vec![3, 4], (Some(1), Some(3))));
        assert_eq!(cut("3"), (vec![5], (Some(2), None)));
        assert_eq!(cut("0"), cut(""));
        assert_eq!(cut("x"), cut(""));
        // A number after the last page means the last page.
        assert_eq!(cut(&usize::MAX.to_string()), cut("3"));
    }
}
