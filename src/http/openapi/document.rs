//! The OpenAPI document, made from the table of routes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::http::edge::auth::Who;
use crate::http::edge::route::Route;
use crate::http::error::{Code, PROBLEM_JSON, ProblemDocument};
use crate::http::input::declare::Described;
use crate::http::openapi::links::links;
use crate::http::openapi::operation::{Content, Operation, Reply, RequestHeader, Tag};
use crate::http::openapi::schemas::{Schemas, unwrapped};
use crate::http::openapi::webhooks::webhooks;

const WORDS: &str = "\
triggerd takes events over HTTP, stores them durably before it answers, and pushes them, signed, to
endpoints. Consumers can also pull them from an inbox.

An answer of 2xx means that the change is on stable storage. An answer of 4xx means that nothing was
done. After 5xx or no answer, send an event again with the same `dedup_id`.

Errors are problem documents (RFC 9457) with a stable `code`. A request whose head cannot be read
gets one, too. Lists take `limit` and `cursor`. The manual at `/docs` explains everything.";

/// Headers of answers that the document names: name, schema type and meaning.
const HEADERS: [(&str, &str, &str); 9] = [
    ("X-Request-Id", "string", "The id of the request: the caller's own, or a new one."),
    ("RateLimit-Policy", "string", "The budget that the request was charged to: burst and window."),
    ("RateLimit", "string", "What remains of the budget, and the seconds until it is full."),
    ("X-RateLimit-Limit", "integer", "The burst of the budget."),
    ("X-RateLimit-Remaining", "integer", "What remains of the budget."),
    ("X-RateLimit-Reset", "integer", "Seconds until the budget is full."),
    ("Retry-After", "integer", "Whole seconds to wait before the next try."),
    ("WWW-Authenticate", "string", "The way to authenticate."),
    ("Accept-Encoding", "string", "The content coding that is supported."),
];

/// Returns the document for these routes.
pub(in crate::http) fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::default();
    let mut refusals = Map::new();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let operation = operation(route, routes, &mut schemas, &mut refusals);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.verb.name().to_lowercase(), operation);
        }
    }
    let webhooks = webhooks(&mut schemas);
    let tag = |tag: &Tag| json!({"name": tag.name(), "description": tag.words()});
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "triggerd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": unwrapped(WORDS),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The server that shows this document."}],
        "tags": Tag::ALL.iter().map(tag).collect::<Vec<_>>(),
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "schemas": schemas.into_map(),
            "responses": refusals,
            "headers": headers(),
            "securitySchemes": security_schemes(),
        },
    })
}

fn headers() -> Map<String, Value> {
    let header = |(name, of_type, words): (&str, &str, &str)| {
        (name.to_owned(), json!({"description": words, "schema": {"type": of_type}}))
    };
    HEADERS.into_iter().map(header).collect()
}

fn security_schemes() -> Value {
    let header = |words| {
        json!({"type": "apiKey", "in": "header", "name": "X-API-Key",
        "description": words})
    };
    let bearer = |words| json!({"type": "http", "scheme": "bearer", "description": words});
    json!({
        "key": header("An API key of an organization."),
        "keyAsBearer": bearer("An API key of an organization."),
        "admin": header("The admin token."),
        "adminAsBearer": bearer("The admin token."),
    })
}

/// Returns the requirements of the callers that a route lets in. The roles are scopes.
fn security(who: Who) -> Value {
    let key = |scopes: Value| vec![json!({"key": scopes}), json!({"keyAsBearer": scopes})];
    let admin = || vec![json!({"admin": []}), json!({"adminAsBearer": []})];
    let all = match who {
        Who::Public => vec![],
        Who::AnyKey => key(json!([])),
        Who::Scope(scope) => key(json!([scope.name()])),
        Who::AdminOrAnyKey => [admin(), key(json!([]))].concat(),
        Who::AdminOr(scope) => [admin(), key(json!([scope.name()]))].concat(),
        Who::Admin => admin(),
    };
    Value::Array(all)
}

fn operation(
    route: &Route,
    routes: &[Route],
    schemas: &mut Schemas,
    refusals: &mut Map<String, Value>,
) -> Value {
    let Operation { id, tag, summary, words, .. } = *route.operation;
    let parameters = parameters(route, schemas);
    let is_cursor = |parameter: &Value| parameter.get("name").is_some_and(|name| name == "cursor");
    let is_list = parameters.iter().any(is_cursor);
    let mut responses = responses(route, schemas, refusals);
    link(&mut responses, &links(route, routes, is_list));
    let mut shown = json!({
        "operationId": id,
        "tags": [tag.name()],
        "summary": summary,
        "security": security(route.who),
        "responses": responses,
    });
    if let Some(shown) = shown.as_object_mut() {
        if !words.is_empty() {
            shown.insert("description".to_owned(), unwrapped(words).into());
        }
        if !parameters.is_empty() {
            shown.insert("parameters".to_owned(), parameters.into());
        }
        if !route.operation.bodies.is_empty() {
            shown.insert("requestBody".to_owned(), request_body(route.operation, schemas));
        }
    }
    shown
}

/// Adds the links to the answers of success.
fn link(responses: &mut Map<String, Value>, links: &Map<String, Value>) {
    let of_success = responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
    for response in of_success.filter_map(|(_, response)| response.as_object_mut()) {
        if !links.is_empty() {
            response.insert("links".to_owned(), links.clone().into());
        }
    }
}

/// Returns the parameters of path, query and headers.
fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let in_path = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut all: Vec<Value> = in_path
        .map(|name| {
            let schema = json!({"type": "string"});
            json!({"name": name, "in": "path", "required": true, "schema": schema})
        })
        .collect();
    let of_query = route.operation.query.map(|describe| describe(schemas)).unwrap_or_default();
    all.extend(of_query.into_iter().map(|Described { name, mut schema, .. }| {
        let words = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        json!({"name": name, "in": "query", "description": words, "schema": schema})
    }));
    all.extend(route.operation.headers.iter().map(|RequestHeader { name, words }| {
        let schema = json!({"type": "string"});
        json!({"name": name, "in": "header", "description": words, "schema": schema})
    }));
    all
}

fn request_body(operation: &Operation, schemas: &mut Schemas) -> Value {
    let content = |Content { media_type, schema, example }: &Content| {
        let example: Value = serde_json::from_str(example).unwrap_or_default();
        let content = json!({"schema": schema(schemas), "example": example});
        ((*media_type).to_owned(), content)
    };
    let content: Map<String, Value> = operation.bodies.iter().map(content).collect();
    json!({"required": !operation.is_body_optional, "content": content})
}

/// Returns the answers by their status. Routes share `refusals`, which have names.
fn responses(
    route: &Route,
    schemas: &mut Schemas,
    refusals: &mut Map<String, Value>,
) -> Map<String, Value> {
    let is_public = route.who == Who::Public;
    let mut all = Map::new();
    for reply in route.operation.replies {
        all.insert(reply.status.to_string(), response(reply, is_public, schemas));
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in route.codes() {
        let codes = by_status.entry(code.status()).or_default();
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    for (status, codes) in by_status {
        let refusal = refusal(status, &codes, is_public, schemas);
        // A check of `/health` fails with the status of a problem.
        if let Some(Value::Object(reply)) = all.get_mut(&status.to_string()) {
            add_content(reply, &refusal);
        } else {
            let words: Vec<_> = codes.iter().map(|code| code.word()).collect();
            let of_whom = if is_public { ".public" } else { "" };
            let name = words.join(".") + of_whom;
            let shared = json!({"$ref": format!("#/components/responses/{name}")});
            refusals.insert(name, refusal);
            all.insert(status.to_string(), shared);
        }
    }
    all
}

/// Adds the body of a refusal to an answer with the same status.
fn add_content(reply: &mut Map<String, Value>, refusal: &Value) {
    for part in ["content", "headers"] {
        if let (Some(Value::Object(known)), Some(more)) =
            (reply.get_mut(part), refusal.get(part).and_then(Value::as_object))
        {
            known.extend(more.clone());
        }
    }
}

fn response(reply: &Reply, is_public: bool, schemas: &mut Schemas) -> Value {
    let mut shown =
        json!({"description": unwrapped(reply.words), "headers": of_answers(is_public)});
    if let (Some((media_type, schema)), Some(shown)) = (reply.body, shown.as_object_mut()) {
        let mut content = Map::from_iter([("schema".to_owned(), schema(schemas))]);
        if let Ok(example) = serde_json::from_str::<Value>(reply.example) {
            content.insert("example".to_owned(), example);
        }
        let mut contents = Map::from_iter([(media_type.to_owned(), Value::from(content))]);
        for (media_type, schema) in reply.more {
            contents.insert((*media_type).to_owned(), json!({"schema": schema(schemas)}));
        }
        shown.insert("content".to_owned(), contents.into());
    }
    shown
}

/// Returns an answer with one of these codes.
fn refusal(status: u16, codes: &[Code], is_public: bool, schemas: &mut Schemas) -> Value {
    let words = codes.iter().map(|code| format!("`{}`: {}.", code.word(), code.title()));
    let words: Vec<_> = words.collect();
    let names: Vec<_> = codes.iter().map(|code| code.word()).collect();
    let schema = json!({"allOf": [
        schemas.of::<ProblemDocument>(),
        {"properties": {"status": {"const": status}, "code": {"enum": names}}},
    ]});
    let mut headers = of_answers(is_public || status == Code::Unauthorized.status());
    let more = match status {
        401 => &["WWW-Authenticate"][..],
        415 => &["Accept-Encoding"],
        429 | 503 | 507 => &["Retry-After"],
        _ => &[],
    };
    headers.extend(more.iter().map(|name| header(name)));
    json!({"description": words.join(" "), "headers": headers,
        "content": {PROBLEM_JSON: {"schema": schema}}})
}

/// Returns the headers of every answer to a caller.
fn of_answers(is_to_nobody: bool) -> Map<String, Value> {
    let of_callers = [
        "RateLimit-Policy",
        "RateLimit",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
    ];
    let of_callers = of_callers.iter().filter(|_| !is_to_nobody);
    ["X-Request-Id"].iter().chain(of_callers).map(|name| header(name)).collect()
}

fn header(name: &str) -> (String, Value) {
    (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))
}
