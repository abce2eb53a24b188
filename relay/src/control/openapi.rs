//! `/api/v1/openapi.json`: the description of the API, for programs and for people.
//!
//! It is one file, written by hand; tests hold it against the routes, and the running program
//! against it.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("../../openapi.json");

/// `GET /api/v1/openapi.json`
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Method and path of each route under `/api/v1`, as `http.rs` writes them.
    fn routes() -> BTreeSet<(String, String)> {
        let mut routes = BTreeSet::new();
        let source = include_str!("http.rs");
        for line in source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"/api/v1")) {
            let (path, handlers) = line.split_once('"').unwrap();
            if path.ends_with('/') {
                continue;
            }
            for method in ["get", "post", "put", "delete"] {
                let starts = [format!(" {method}("), format!(").{method}(")];
                if starts.iter().any(|start| handlers.contains(start.as_str())) {
                    routes.insert((method.to_owned(), path.replace("{*", "{")));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods = item.as_object().unwrap().keys();
            for method in methods.filter(|key| *key != "parameters") {
                described.insert((method.clone(), path.clone()));
            }
        }
        let routes = routes();
        assert!(routes.len() >= 13, "{routes:?}");
        assert_eq!(described, routes);
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["servers"][0]["url"], "/api/v1");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_object_is_closed() {
        fn walk(value: &Value, document: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(reference)) = object.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    if object.get("type") == Some(&"object".into()) {
                        let closed = object.contains_key("additionalProperties");
                        assert!(closed, "{object:?} allows anything");
                    }
                    object.values().for_each(|value| walk(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, document)),
                _ => {}
            }
        }
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        walk(&document, &document);
    }
}
