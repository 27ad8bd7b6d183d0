//! `/docs`: the manual, embedded in the binary. The pages are the Markdown files of `docs/`, shown
//! without scripts and without anything from another host.

mod markdown;

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};

use crate::http::edge::call::{Answer, Call};
use crate::http::error::Problem;

/// A page of the manual: its name in the URL, and its Markdown.
type Page = (&'static str, &'static str);

macro_rules! pages {
    ($($name:literal,)+) => {
        [$(($name, include_str!(concat!("../../../docs/", $name, ".md")))),+]
    };
}

/// The pages in the order of the navigation. The first one is `/docs` itself.
static PAGES: [Page; 13] = pages![
    "index",
    "api",
    "cli",
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

static STYLE: &str = include_str!("docs/style.css");
/// The drawing of the page about performance.
static YEAR: &str = include_str!("../../../docs/year.svg");

/// Allows nothing but the style sheet and the drawings of the manual (Content Security Policy Level
/// 3).
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The pages as HTML, made at the first request for a page.
static RENDERED: LazyLock<Vec<(&'static str, String)>> = LazyLock::new(|| {
    PAGES.iter().map(|(name, text)| (*name, document(name, &markdown::render(text)))).collect()
});

/// `GET /docs`: returns the first page of the manual.
pub(in crate::http) fn index() -> Answer {
    page("index")
}

/// `GET /docs/{page}`: returns a page of the manual, its style sheet, or a drawing.
pub(in crate::http) fn show(call: &Call) -> Answer {
    match call.path("page") {
        "style.css" => Ok(HttpResponse::Ok().content_type("text/css; charset=utf-8").body(STYLE)),
        "year.svg" => Ok(HttpResponse::Ok().content_type("image/svg+xml").body(YEAR)),
        name => page(name),
    }
}

fn page(name: &str) -> Answer {
    let found = RENDERED.iter().find(|(known, _)| *known == name);
    let (_, html) = found.ok_or_else(|| {
        Problem::not_found("the manual has no page of this name; `/docs` lists the pages")
    })?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_SECURITY_POLICY, POLICY));
    answer.insert_header((REFERRER_POLICY, "no-referrer"));
    Ok(answer.content_type("text/html; charset=utf-8").body(html.as_str()))
}

fn document(name: &str, body: &str) -> String {
    let link = |(other, text): &Page| {
        let here = if *other == name { " aria-current=\"page\"" } else { "" };
        format!("<li><a href=\"{}\"{here}>{}</a></li>\n", markdown::address(other), title(text))
    };
    let links: String = PAGES.iter().map(link).collect();
    let own_title =
        PAGES.iter().find(|(other, _)| *other == name).map_or("", |(_, text)| title(text));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{own_title} · triggerd {version}</title>\n\
         <link rel=\"stylesheet\" href=\"/docs/style.css\">\n</head>\n<body>\n\
         <nav aria-label=\"Manual\">\n<p>triggerd {version}</p>\n<ul>\n{links}</ul>\n</nav>\n\
         <main>\n{body}</main>\n</body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// Returns the heading of a page, which is its first line.
fn title(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches("# ")
}
