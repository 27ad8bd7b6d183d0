//! Reads source text: its paths, its names, and its code without comments, texts and tests.

use super::LAYERS;

/// The top-level module of a path: `http` of `http/inbox.rs`, and `app` of `app.rs`; none for the
/// crate's root.
pub(super) fn top_module(path: &str) -> Option<&str> {
    let module = path.split('/').next()?;
    let module = module.strip_suffix(".rs").unwrap_or(module);
    (module != "lib").then_some(module)
}

pub(super) fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The paths in code from the crate's root: through `crate::`, in the binary through `triggerd::`,
/// or through enough `super::`.
pub(super) fn crate_paths(path: &str, code: &str) -> Vec<String> {
    let depth = path.matches('/').count() + usize::from(!path.ends_with("mod.rs"));
    let roots = ["crate::".to_owned(), "triggerd::".to_owned(), "super::".repeat(depth)];
    let mut found = Vec::new();
    for root in roots {
        for (at, _) in code.match_indices(&root) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| is_identifier(c) || c == ':') {
                expand("", &code[at + root.len()..], &mut found);
            }
        }
    }
    found
}

/// Expands a use tree such as `a::{b, c::d}` to `a::b`, `a::c::d`; returns its length in bytes.
pub(super) fn expand(prefix: &str, text: &str, found: &mut Vec<String>) -> usize {
    let start = text.len() - text.trim_start().len();
    let rest = &text[start..];
    if rest.starts_with('{') {
        let mut at = start + 1;
        while let Some(next) =
            text[at..].find(|c: char| !c.is_whitespace() && c != ',').map(|skip| at + skip)
        {
            if text[next..].starts_with('}') {
                return next + 1;
            }
            let used = expand(prefix, &text[next..], found);
            // Skips `as name` and the like, up to the next comma or brace.
            let ends = text[next + used..].find([',', '}']).unwrap_or(text.len() - next - used);
            at = next + used + ends;
        }
        return text.len();
    }
    let length = rest.find(|c: char| !is_identifier(c) && c != '*').unwrap_or(rest.len());
    let name = &rest[..length];
    let joined = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    if let Some(below) = rest[length..].strip_prefix("::") {
        return start + length + 2 + expand(&joined, below, found);
    }
    found.push(joined);
    start + length
}

/// True if code names this path: as a whole word at its start, followed by `::` or the end.
pub(super) fn names(code: &str, needle: &str) -> bool {
    code.match_indices(needle).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + needle.len()..];
        let is_path = needle.contains("::");
        let in_use = code[..at].trim_end().ends_with("use") || after.starts_with("::");
        // `env::var` also stands for `env::vars_os`; the name of a crate must match completely.
        let ends = is_path || !after.starts_with(is_identifier);
        let qualified = !is_path
            && before == Some(':')
            && !code[..at].ends_with("{::")
            && !code[..at].ends_with(" ::");
        !before.is_some_and(is_identifier) && !qualified && ends && (is_path || in_use)
    })
}

pub(super) fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(is_identifier) && !text[at + word.len()..].starts_with(is_identifier)
    })
}

pub(super) fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks comments, texts and test items, so that only code remains.
pub(super) fn code_of(text: &str) -> String {
    let blank = blanked(text);
    without_tests(&blank, text)
}

/// `text` (or its blanked form) without the test items of `original`.
pub(super) fn without_tests(text: &str, original: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in test_items(&blanked(original)) {
        kept.push_str(&text[from..start]);
        from = end;
    }
    kept + &text[from..]
}

/// Start and end of the items under `#[cfg(test)]`, in blanked text.
pub(super) fn test_items(code: &str) -> Vec<(usize, usize)> {
    let mut items: Vec<(usize, usize)> = Vec::new();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        if items.last().is_some_and(|(_, end)| start < *end) {
            continue;
        }
        let mut depth = 0_usize;
        let end = code[start + attribute.len()..].char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            (depth == 0 && (c == ';' || c == '}')).then_some(start + attribute.len() + at + 1)
        });
        items.push((start, end.unwrap_or(code.len())));
    }
    items
}

/// Overwrites comments and the contents of texts and characters with spaces; length and lines stay
/// the same.
pub(super) fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal_length(rest, out.chars().next_back()).unwrap_or(0);
        if length == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    out
}

/// The length of the comment, text or character that begins here, if any.
fn literal_length(rest: &str, before: Option<char>) -> Option<usize> {
    let upto = |end: &str, from: usize| {
        rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(upto("*/", 2));
    }
    if rest.starts_with('"') {
        return Some(quoted_length(rest, '"'));
    }
    if rest.starts_with('\'') {
        let mut chars = rest.chars().skip(1);
        let (first, second) = (chars.next(), chars.next());
        // Otherwise it is a lifetime.
        return (first == Some('\\') || second == Some('\'')).then(|| quoted_length(rest, '\''));
    }
    let hashes = rest.strip_prefix('r')?.chars().take_while(|c| *c == '#').count();
    let raw = rest[1 + hashes..].starts_with('"')
        && !before.is_some_and(|c| is_identifier(c) && c != 'b');
    raw.then(|| upto(&format!("\"{}", "#".repeat(hashes)), hashes + 2))
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == quote && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |(at, c)| at + c.len_utf8())
}
