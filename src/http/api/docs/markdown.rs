//! Markdown to HTML for the manual: CommonMark with tables, an anchor for each heading, and links
//! between the pages.

use std::collections::HashMap;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// Returns the page as HTML. Raw HTML in the page is shown as text.
pub(super) fn render(text: &str) -> String {
    let mut events: Vec<Event> =
        Parser::new_ext(text, Options::ENABLE_TABLES).map(as_text).collect();
    set_anchors(&mut events);
    set_links(&mut events);
    let mut page = String::new();
    html::push_html(&mut page, events.into_iter());
    // A wide table scrolls by itself; the page does not.
    page.replace("<table>", "<div class=\"wide\"><table>").replace("</table>", "</table></div>")
}

/// Returns the path of a page.
pub(super) fn address(name: &str) -> String {
    if name == "index" { "/docs".to_owned() } else { format!("/docs/{name}") }
}

fn as_text(event: Event) -> Event {
    match event {
        Event::Html(raw) | Event::InlineHtml(raw) => Event::Text(raw),
        other => other,
    }
}

/// Gives each heading an id, as the web pages of source code hosts do: lower case, hyphens for
/// spaces, no punctuation, and a number for each repetition.
fn set_anchors(events: &mut [Event]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut open = None;
    let mut heading = String::new();
    for place in 0..events.len() {
        match events.get(place) {
            Some(Event::Start(Tag::Heading { .. })) => {
                open = Some(place);
                heading.clear();
            }
            Some(Event::Text(text) | Event::Code(text)) if open.is_some() => heading.push_str(text),
            Some(Event::End(TagEnd::Heading(_))) => {
                let anchor = anchor(&heading, &mut seen);
                if let Some(Event::Start(Tag::Heading { id, .. })) =
                    open.take().and_then(|start| events.get_mut(start))
                {
                    *id = Some(CowStr::from(anchor));
                }
            }
            _ => {}
        }
    }
}

fn anchor(heading: &str, seen: &mut HashMap<String, usize>) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let anchor: String = kept.flat_map(char::to_lowercase).collect::<String>().replace(' ', "-");
    let repeated = seen.entry(anchor.clone()).and_modify(|number| *number += 1).or_default();
    if *repeated == 0 { anchor } else { format!("{anchor}-{repeated}") }
}

/// Makes links to other files of the manual links to their pages. A link to a file that the server
/// does not have becomes plain text.
fn set_links(events: &mut Vec<Event>) {
    let mut is_dropped = false;
    events.retain_mut(|event| match event {
        Event::Start(Tag::Link { dest_url, .. }) => {
            match target(dest_url) {
                Some(target) => *dest_url = CowStr::from(target),
                None => is_dropped = true,
            }
            !is_dropped
        }
        Event::End(TagEnd::Link) => !std::mem::take(&mut is_dropped),
        _ => true,
    });
}

/// Returns the target of a link as a browser needs it, or `None` for a file outside of the manual.
fn target(written: &str) -> Option<String> {
    if written.starts_with("https://") || written.starts_with('#') {
        return Some(written.to_owned());
    }
    let (file, anchor) = match written.split_once('#') {
        Some((file, anchor)) => (file, format!("#{anchor}")),
        None => (written, String::new()),
    };
    let name = file.strip_suffix(".md").filter(|name| !name.contains('/'))?;
    Some(address(name) + &anchor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_anchors_and_repeated_ones_a_number() {
        let page = render("# `dedup_mismatch`\n## [tiers.free], [tiers.pro]\n## A b\n## A b\n");
        for wanted in [
            "<h1 id=\"dedup_mismatch\">",
            "<h2 id=\"tiersfree-tierspro\">",
            "<h2 id=\"a-b\">",
            "<h2 id=\"a-b-1\">",
        ] {
            assert!(page.contains(wanted), "{wanted}: {page}");
        }
    }

    #[test]
    fn links_lead_to_pages_and_never_out_of_the_manual() {
        for (written, wanted) in [
            ("problems.md#not_found", Some("/docs/problems#not_found")),
            ("index.md", Some("/docs")),
            ("#here", Some("#here")),
            ("https://example.com/a.md", Some("https://example.com/a.md")),
            ("../src/lib.rs", None),
            ("../packaging/README.md", None),
            ("javascript:alert(1)", None),
        ] {
            assert_eq!(target(written).as_deref(), wanted, "{written}");
        }
        assert_eq!(render("a [b](../src/lib.rs) c"), "<p>a b c</p>\n");
    }

    #[test]
    fn raw_html_is_text() {
        let page = render("<script>alert(1)</script>\n\na <b>c</b>\n");
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
    }
}
