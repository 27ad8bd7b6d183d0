//! `/docs`: the manual, embedded in the binary. The pages are the Markdown files of `docs/`, shown
//! without scripts and without anything from another host. Only the page about the API has one: the
//! explorer at its end, which sends requests to this server only.

mod markdown;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use actix_web::web::Bytes;

use crate::http::edge::call::{Answer, Call};
use crate::http::error::Problem;
use crate::http::openapi::operation::{Operation, Reply, Tag, any_text};

/// A page of the manual: its name in the URL, and its Markdown.
type Page = (&'static str, &'static str);

macro_rules! pages {
    ($($name:literal,)+) => {
        [$(($name, include_str!(concat!("../../../docs/", $name, ".md")))),+]
    };
}

/// The script of the explorer.
static SCRIPT: &str = include_str!("docs/explorer.js");
/// The page with the explorer.
const EXPLORED: &str = "api";
/// The place of the explorer: a form for each operation of the OpenAPI document, which sends
/// requests to this server.
const EXPLORER: &str = "<h2 id=\"explorer\">Explorer</h2>\n<p>Each operation of <a \
    href=\"/openapi.json\">the OpenAPI document</a> with a form. A request goes to this server and \
    does what it says. The key stays in this page, and is gone when the page is left.</p>\n<div \
    id=\"operations\"><p>The explorer needs JavaScript.</p></div>\n<script \
    src=\"/docs/explorer.js\" defer></script>\n";

/// The end of the first list of that page, its contents.
const CONTENTS_END: &str = "</ul>";
/// The line of the contents for the explorer, which only the server's page has.
const EXPLORER_LINK: &str = "<li><a href=\"#explorer\">Explorer</a></li>\n";

/// The pages in the order of the navigation. The first one is `/docs` itself.
static PAGES: [Page; 14] = pages![
    "index",
    "api",
    "cli",
    "clients",
    "problems",
    "operational-events",
    "configuration",
    "operations",
    "guarantees",
    "performance",
    "design",
    "glossary",
    "testing",
    "contributing",
];

/// The icon of the pages in a browser.
static ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">\
    <path fill=\"#0b57b5\" d=\"M9 0 2 9h5l-1 7 8-10H8z\"/></svg>";
static STYLE: &str = include_str!("docs/style.css");
/// The drawing of the page about performance.
static YEAR: &str = include_str!("../../../docs/year.svg");

/// Allows nothing but the style sheet and the drawings of the manual (Content Security Policy Level
/// 3).
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// Allows the script of the explorer, too, and its requests to this server.
const EXPLORER_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

pub(in crate::http) static INDEX: Operation = Operation::new(
    "showManual",
    Tag::Operations,
    "Show the manual",
    &[Reply::of(200, "The first page.", ("text/html", any_text))],
);

pub(in crate::http) static SHOW: Operation = Operation::new(
    "showManualPage",
    Tag::Operations,
    "Show a page of the manual; `/docs/api` has an explorer of this document",
    &[Reply::of(200, "The page, or a file that pages use.", ("text/html", any_text)).also(&[
        ("text/css", any_text),
        ("text/javascript", any_text),
        ("image/svg+xml", any_text),
    ])],
);

/// The pages as HTML, made at the first request for a page.
static RENDERED: LazyLock<Vec<(&'static str, Bytes)>> = LazyLock::new(|| {
    let page = |(name, text): &Page| {
        let manual = markdown::render(text);
        let body = match (*name, manual.split_once(CONTENTS_END)) {
            (EXPLORED, Some((contents, rest))) => {
                format!("{contents}{EXPLORER_LINK}{CONTENTS_END}{rest}{EXPLORER}")
            }
            _ => manual,
        };
        (*name, Bytes::from(document(name, title(text), &body)))
    };
    PAGES.iter().map(page).collect()
});

/// `GET /docs`: returns the first page of the manual.
pub(in crate::http) fn index(call: &Call) -> Answer {
    page("index").map(|answer| call.api.bounds.answers.in_common(call.principal(), answer))
}

/// `GET /docs/{page}`: returns a page of the manual, its style sheet, or a drawing.
pub(in crate::http) fn show(call: &Call) -> Answer {
    let file = |content_type, text: &'static str| {
        Ok(HttpResponse::Ok().content_type(content_type).body(text))
    };
    let answer = match call.path("page") {
        "style.css" => file("text/css; charset=utf-8", STYLE),
        "explorer.js" => file("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => file("image/svg+xml", ICON),
        "year.svg" => file("image/svg+xml", YEAR),
        name => page(name),
    };
    answer.map(|answer| call.api.bounds.answers.in_common(call.principal(), answer))
}

fn page(name: &str) -> Answer {
    let found = RENDERED.iter().find(|(known, _)| *known == name);
    let (_, html) = found.ok_or_else(|| {
        Problem::not_found("the manual has no page of this name; `/docs` lists the pages")
    })?;
    let mut answer = HttpResponse::Ok();
    let policy = if name == EXPLORED { EXPLORER_POLICY } else { POLICY };
    answer.insert_header((CONTENT_SECURITY_POLICY, policy));
    answer.insert_header((REFERRER_POLICY, "no-referrer"));
    Ok(answer.content_type("text/html; charset=utf-8").body(html.clone()))
}

fn document(name: &str, own_title: &str, body: &str) -> String {
    let link = |(other, title): (&str, &str)| {
        let here = if other == name { " aria-current=\"page\"" } else { "" };
        format!("<li><a href=\"{}\"{here}>{title}</a></li>\n", markdown::address(other))
    };
    let pages = PAGES.iter().map(|(other, text)| (*other, title(text)));
    let links: String = pages.map(link).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{own_title} · triggerd {version}</title>\n\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\n\
         <link rel=\"icon\" href=\"/docs/icon.svg\">\n</head>\n<body>\n\
         <nav aria-label=\"Manual\">\n<p>triggerd {version}</p>\n<ul>\n{links}</ul>\n</nav>\n\
         <main>\n{body}</main>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Returns the heading of a page, which is its first line.
fn title(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("# ")
}
