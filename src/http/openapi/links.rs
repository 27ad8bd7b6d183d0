//! The links of the OpenAPI document: from an answer with an id to the routes that take the id, and
//! from a page to the next one. They follow from the paths of the table.

use serde_json::{Map, Value, json};

use crate::http::edge::route::{Route, Verb};

/// Returns the links of the answers of this route. An answer of `POST` to a collection such as
/// `/api/events` has the id of an item, and so has each item of its list.
pub(in crate::http) fn links(route: &Route, routes: &[Route], is_list: bool) -> Map<String, Value> {
    let link = |to: &Route, parameter: &str, value: &str| json!({"operationId": to.operation.id, "parameters": {parameter: value}});
    let id = match (route.verb, is_list) {
        (Verb::Post, _) => "$response.body#/id",
        (Verb::Get, true) => "$response.body#/data/0/id",
        (Verb::Get | Verb::Patch | Verb::Delete, _) => return Map::new(),
    };
    let mut all = Map::new();
    if is_list {
        all.insert("nextPage".to_owned(), link(route, "cursor", "$response.body#/next_cursor"));
    }
    if let Some(parameter) = id_in(route.path, routes) {
        let with_id = routes.iter().filter(|to| to.path.contains(&format!("{{{parameter}}}")));
        all.extend(with_id.map(|to| (to.operation.id.to_owned(), link(to, parameter, id))));
    }
    all
}

/// Returns the parameter that names an item of this collection: `event_id` for `/api/events`.
fn id_in(collection: &str, routes: &[Route]) -> Option<&'static str> {
    routes.iter().find_map(|route| {
        route.path.strip_prefix(collection)?.strip_prefix("/{")?.strip_suffix('}')
    })
}
