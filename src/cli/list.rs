//! Lists of the API: the options that all of them share, and their pages as one table, one
//! document or JSON Lines.

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use url::form_urlencoded::Serializer;

use super::Failure;
use super::answer::Answer;
use super::arguments::at_least_one;
use super::client::{Client, Method};
use super::form::Form;
use super::output::{one_line, print, print_json, remark, require_a_reader};
use super::table::{Column, Table};
use crate::base::exit_code::ExitCode;
use crate::base::library_errors::json_fault;

/// Maximum number of items on a page of the API.
const PAGE_MAX: u32 = 500;
/// Maximum number of pages without items in a row. The server looks through thousands of events for
/// each.
const EMPTY_PAGES_MAX: u32 = 10_000;

/// The option for the length of a list.
#[derive(Args)]
pub(super) struct Limit {
    /// Maximum number of items; the command reads as many pages as it takes
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = at_least_one)]
    limit: u32,
}

/// Returns the path with the parameters that have a value as its query, or behind its query.
pub(super) fn with_query<const N: usize>(
    path: &str,
    parameters: [(&str, Option<&str>); N],
) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let (query, joint) = (query.finish(), if path.contains('?') { '&' } else { '?' });
    if query.is_empty() { path.to_owned() } else { format!("{path}{joint}{query}") }
}

/// A list of the API.
pub(super) struct List<'a> {
    /// The path with the query.
    pub(super) path: String,
    pub(super) columns: &'a [Column],
    /// Printed in the place of a table without rows.
    pub(super) empty: &'a str,
}

/// The end of a list that was read.
struct End {
    has_more: bool,
    next_cursor: Option<String>,
}

impl List<'_> {
    /// Reads the list and prints it. With JSON Lines, each page is printed when it comes.
    pub(super) fn print(
        &self,
        client: &Client,
        form: Form,
        Limit { limit }: &Limit,
    ) -> Result<ExitCode, Failure> {
        require_a_reader()?;
        let mut items = Vec::new();
        let mut table = Table::of(&[], self.columns);
        let end = read(client, &self.path, *limit, &mut |item| {
            if form.is_lines() {
                return print_json(item.as_text());
            }
            if form.is_json() {
                items.push(one_line(item.as_text()));
            } else {
                table.add_item(&item, self.columns);
            }
            Ok(())
        })?;
        if form.is_json() {
            if !form.is_lines() {
                print(&document(&items, &end))?;
            }
        } else if table.is_empty() {
            print(self.empty)?;
        } else {
            table.print()?;
        }
        if end.has_more {
            remark(&format!("Only the first {limit} are shown; a larger --limit shows more."));
        }
        Ok(ExitCode::Clean)
    }
}

/// Passes every item of a list to `take`.
pub(super) fn each(
    client: &Client,
    path: &str,
    take: &mut dyn FnMut(Answer) -> Result<(), Failure>,
) -> Result<(), Failure> {
    read(client, path, u32::MAX, take).map(drop)
}

/// Passes the items of a list to `take`, page by page, until the limit.
fn read(
    client: &Client,
    path: &str,
    limit: u32,
    take: &mut dyn FnMut(Answer) -> Result<(), Failure>,
) -> Result<End, Failure> {
    let (mut left, mut empty_pages) = (limit, 0);
    let mut end = End { has_more: true, next_cursor: None };
    while end.has_more && left > 0 {
        let limit = left.min(PAGE_MAX).to_string();
        let parameters = [("limit", Some(limit.as_str())), ("cursor", end.next_cursor.as_deref())];
        let path = with_query(path, parameters);
        let answer = client.call(Method::GET, &path, None, &["data", "has_more"])?;
        let page = page(&answer)?;
        empty_pages = if page.data.is_empty() { empty_pages + 1 } else { 0 };
        if empty_pages > EMPTY_PAGES_MAX {
            return Err(invalid("page after page of the list has no item, and none is the last"));
        }
        left = left.saturating_sub(u32::try_from(page.data.len()).unwrap_or(u32::MAX));
        for item in page.data {
            let item = Answer::read(item.get().to_owned());
            take(item.map_err(|_no_json| invalid("an item is not JSON"))?)?;
        }
        // Another program that repeats its cursor would never come to an end.
        let goes_on = page.has_more && page.next_cursor != end.next_cursor;
        end = End { has_more: page.has_more, next_cursor: page.next_cursor };
        if !goes_on {
            break;
        }
    }
    Ok(end)
}

/// A page as the API answers it. Items stay in their JSON spelling, because a Rust string cannot
/// hold every JSON string.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    has_more: bool,
    next_cursor: Option<String>,
}

fn page(answer: &Answer) -> Result<Page<'_>, Failure> {
    serde_json::from_str(answer.as_text()).map_err(|error| invalid(&json_fault(&error)))
}

fn invalid(why: &str) -> Failure {
    Failure::new(ExitCode::Failed, format!("the answer is not valid: {why}"))
}

/// The list as one document, in the form of a page.
fn document(items: &[String], End { has_more, next_cursor }: &End) -> String {
    let (data, next_cursor) = (items.join(","), json!(next_cursor));
    format!("{{\"data\":[{data}],\"has_more\":{has_more},\"next_cursor\":{next_cursor}}}")
}
