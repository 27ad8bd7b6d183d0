//! Files of `src` that use one another in a circle, directly or through others.
//!
//! A path in code is a use of the file that defines its item. A name that another file imports or
//! re-exports is followed to its definition; a re-export by itself is no use.
//!
//! The check reads text and no types, so it has limits. A method called on a value, a name made by
//! a macro and a glob import are not followed. The call of a macro among a file's items, such as
//! the registry of the commands, is not read: a registry lists the files below it, and an envelope
//! there holds commands of any kind.

use std::collections::{BTreeMap, BTreeSet};

use super::source_text::{code_of, expand, has_word, is_identifier};
use super::{assert_none, is_test_file, sources};

#[test]
fn no_files_use_one_another_in_a_circle() {
    let sources = sources();
    let files = sources.iter().filter(|(path, _)| !is_test_file(path));
    let files: Vec<_> = files.map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert_none(&circles(&files));
}

/// The segments of a path from the crate's root.
type Path = Vec<String>;

/// A file, read as a module.
#[derive(Debug, Default)]
struct Module {
    file: String,
    /// Names of imports that stay in the file, and their paths.
    imports: BTreeMap<String, Path>,
    /// Names of imports for other modules, and their paths.
    reexports: BTreeMap<String, Path>,
    /// Other paths in the code.
    paths: BTreeSet<Path>,
}

/// All modules, by their paths.
type Modules = BTreeMap<Path, Module>;

/// The files that each file uses.
type Uses<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// Describes each circle by the uses among its files.
fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let modules = modules(files);
    let uses = uses(&modules);
    let reached: Uses = uses.keys().map(|file| (*file, reached_from(file, &uses))).collect();
    let is_circle = |a: &str, b: &str| reached[a].contains(b) && reached[b].contains(a);
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for first in uses.keys().filter(|file| is_circle(file, file)) {
        let members: Vec<_> = uses.keys().filter(|other| is_circle(first, other)).collect();
        if !seen.insert(members[0]) {
            continue;
        }
        let edges = members.iter().flat_map(|from| {
            let among = uses[**from].iter().filter(|to| is_circle(from, to));
            among.map(move |to| format!("\n  {from} uses {to}"))
        });
        let edges: String = edges.collect();
        found.push(format!("{} files use one another in a circle:{edges}", members.len()));
    }
    found
}

/// The files that a file uses directly or through others.
fn reached_from<'a>(file: &'a str, uses: &Uses<'a>) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![file]);
    while let Some(from) = open.pop() {
        let next = uses.get(from).into_iter().flatten();
        open.extend(next.filter(|to| reached.insert(**to)));
    }
    reached
}

fn uses(modules: &Modules) -> Uses<'_> {
    let of = |module: &Module| {
        let paths = module.imports.values().chain(&module.paths);
        let used = paths.filter_map(|path| defining_file(modules, path, 0));
        used.filter(|file| *file != module.file).collect()
    };
    modules.values().map(|module| (module.file.as_str(), of(module))).collect()
}

/// The file that defines the item of a path. `depth` bounds the chain of imports that is followed.
fn defining_file<'a>(modules: &'a Modules, path: &[String], depth: usize) -> Option<&'a str> {
    const DEPTH_MAX: usize = 8;
    let length = (1..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]))?;
    let module = &modules[&path[..length]];
    // A module below also sees the private imports of a module.
    let import = path
        .get(length)
        .and_then(|name| module.reexports.get(name).or_else(|| module.imports.get(name)));
    let Some(import) = import.filter(|_| depth < DEPTH_MAX) else { return Some(&module.file) };
    let beyond: Vec<_> = import.iter().chain(&path[length + 1..]).cloned().collect();
    defining_file(modules, &beyond, depth + 1).or(Some(&module.file))
}

fn modules(files: &[(&str, &str)]) -> Modules {
    let names: BTreeSet<Path> = files.iter().map(|(path, _)| module_of(path)).collect();
    files.iter().map(|(path, text)| (module_of(path), module(path, text, &names))).collect()
}

/// The module of a file: `http/edge/call.rs` is `http::edge::call`, and `http/mod.rs` is `http`.
fn module_of(path: &str) -> Path {
    let stem = path.strip_suffix(".rs").unwrap_or(path);
    match stem.strip_suffix("/mod").unwrap_or(stem) {
        "lib" => vec![],
        stem => stem.split('/').map(str::to_owned).collect(),
    }
}

fn module(path: &str, text: &str, names: &BTreeSet<Path>) -> Module {
    let code = without_macros(&without_visibility(&code_of(text)));
    let own = module_of(path);
    let below = names.iter().filter(|name| name.len() == own.len() + 1 && name.starts_with(&own));
    let below: BTreeSet<&str> = below.filter_map(|name| name.last().map(String::as_str)).collect();
    let mut module = Module { file: path.to_owned(), ..Module::default() };
    let (mut rest, mut end) = (String::new(), 0);
    for (start, next, is_public) in use_statements(&code) {
        rest.push_str(&code[end..start]);
        end = next;
        let mut found = Vec::new();
        expand("", code[start..end].trim_start_matches("use"), &mut found);
        for used in found {
            let Some(mut path) = from_root(&used, &own, &below) else { continue };
            path.pop_if(|last| last == "self");
            let Some(name) = path.last().cloned() else { continue };
            let names = if is_public { &mut module.reexports } else { &mut module.imports };
            names.insert(name, path);
        }
    }
    rest.push_str(&code[end..]);
    for used in inline_paths(&rest) {
        let (first, behind) = used.split_once("::").unwrap_or((&used, ""));
        let import = module.imports.get(first).or_else(|| module.reexports.get(first));
        let imported = import.map(|import| {
            import.iter().cloned().chain(behind.split("::").map(str::to_owned)).collect()
        });
        module.paths.extend(imported.or_else(|| from_root(&used, &own, &below)));
    }
    let both = module.reexports.iter().filter(|(name, _)| has_word(&rest, name));
    module.paths.extend(both.map(|(_, path)| path.clone()));
    module
}

/// The code with `pub` in the place of `pub(in crate::http)` and the like, which name no item.
fn without_visibility(code: &str) -> String {
    let mut parts = code.split("pub(");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + "pub" + part.split_once(')').map_or("", |(_, rest)| rest))
}

/// The code without the definitions and calls of macros among the items of the file.
fn without_macros(code: &str) -> String {
    let (mut kept, mut is_inside) = (String::with_capacity(code.len()), false);
    for line in code.lines() {
        let begins = line.starts_with(is_identifier)
            && line.split_once('!').is_some_and(|(name, rest)| {
                name.chars().all(is_identifier) && rest.trim_end().ends_with('{')
            });
        is_inside |= begins;
        if !is_inside {
            kept.push_str(line);
            kept.push('\n');
        }
        is_inside &= !line.starts_with('}');
    }
    kept
}

/// Start and end of each `use` statement. The flag is true if other modules see the names.
fn use_statements(code: &str) -> Vec<(usize, usize, bool)> {
    let starts = code.match_indices("use ").map(|(at, _)| at);
    let starts = starts.filter(|at| !code[..*at].ends_with(is_identifier));
    let statement = |at: usize| {
        let end = code[at..].find(';').map_or(code.len(), |length| at + length + 1);
        (at, end, code[..at].trim_end().ends_with("pub"))
    };
    starts.map(statement).collect()
}

/// Paths of at least two segments.
fn inline_paths(code: &str) -> BTreeSet<String> {
    let words = code.split(|c| !is_identifier(c) && c != ':').map(|word| word.trim_matches(':'));
    words.filter(|word| word.contains("::")).map(str::to_owned).collect()
}

/// The path from the crate's root; `None` for other crates.
fn from_root(path: &str, own: &[String], below: &BTreeSet<&str>) -> Option<Path> {
    let segments: Vec<&str> = path.split("::").collect();
    let (mut base, skipped) = match segments[0] {
        "crate" | "triggerd" => (vec![], 1),
        "self" => (own.to_vec(), 1),
        "super" => {
            let up = segments.iter().take_while(|segment| **segment == "super").count();
            (own.get(..own.len().checked_sub(up)?)?.to_vec(), up)
        }
        name if below.contains(name) => (own.to_vec(), 0),
        _ => return None,
    };
    base.extend(segments[skipped..].iter().map(|segment| (*segment).to_owned()));
    Some(base)
}

#[test]
fn a_circle_is_found_however_its_uses_are_written() {
    for (a, b) in [
        ("use super::b::B;", "use crate::x::a::A;"),
        ("use crate::x::{b::{self, B}};", "fn f() { super::a::g() }"),
        ("fn f() { crate::x::b::g() }", "use super::a; fn f() { a::g() }"),
        // Through a re-export, through a private import of the parent, and through a third file.
        ("use crate::x::B;", "use super::A;"),
        ("use super::c::C;", "use super::a;"),
        // A re-exported name that is used as well.
        ("pub use super::b::B; fn f(b: B) {}", "pub(in crate::x) use super::a::A; type X = A;"),
    ] {
        let parent = "mod a; mod b; mod c; pub use b::B; use a::A;";
        let files =
            [("x/mod.rs", parent), ("x/a.rs", a), ("x/b.rs", b), ("x/c.rs", "use crate::x::b::B;")];
        let found = circles(&files);
        assert_eq!(found.len(), 1, "{a} {b}: {found:?}");
        assert!(found[0].contains("x/b.rs uses x/a.rs"), "{found:?}");
    }
}

#[test]
fn two_circles_are_two_faults() {
    let files = [
        ("a.rs", "use crate::b;"),
        ("b.rs", "use crate::a;"),
        ("c/mod.rs", "mod d; fn f() { d::g() }"),
        ("c/d.rs", "fn g() { super::f() }"),
    ];
    assert_eq!(circles(&files).len(), 2);
}

#[test]
fn uses_in_one_direction_are_no_circle() {
    let files = [
        ("lib.rs", "pub mod x; pub mod y;"),
        // A parent that shows its children's items to others, and children that use them.
        ("x/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("x/a.rs", "use super::B; use std::fmt;"),
        ("x/b.rs", "pub(in crate::x) struct B; // see super::a::A\nlet x = \"crate::x::a\";"),
        // A registry lists the files below it.
        ("y/mod.rs", "mod c; pub trait Kind {}\nregistry! {\n    c::C,\n}\nfn f() {}"),
        ("y/c.rs", "use super::Kind; use crate::x::A; #[cfg(test)] mod tests { use super::*; }"),
    ];
    assert_eq!(circles(&files), Vec::<String>::new());
}
