//! Whether an answer is what the description says.

use http::HeaderMap;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// A description, `/openapi.json`, as it is served.
#[derive(Debug, Clone)]
pub struct Described(pub Value);

impl Described {
    /// The operations: path, method, and what is said of them.
    pub fn operations(&self) -> Vec<(String, String, Value)> {
        let paths = self.0["paths"].as_object().unwrap();
        let methods = ["get", "post", "put", "delete", "patch", "head"];
        let mut found = Vec::new();
        for (path, item) in paths {
            for method in methods {
                if let Some(operation) = item.get(method) {
                    found.push((path.clone(), method.to_owned(), operation.clone()));
                }
            }
        }
        found
    }

    /// What is at a pointer, a reference followed.
    pub fn at<'a>(&'a self, node: &'a Value) -> &'a Value {
        node.get("$ref").map_or(node, |reference| {
            let pointer = reference.as_str().unwrap().trim_start_matches('#');
            self.0
                .pointer(pointer)
                .unwrap_or_else(|| panic!("{reference} leads nowhere"))
        })
    }

    /// A validator of this schema, which stands somewhere in the description.
    fn validator(&self, schema: &Value) -> Validator {
        let mut root = json!({"components": self.0["components"], "allOf": [schema]});
        root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        jsonschema::validator_for(&root).unwrap_or_else(|error| panic!("{error}: {schema}"))
    }

    /// What is wrong with a value of this schema.
    pub fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self.validator(schema);
        let faults = validator.iter_errors(value);
        faults
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect()
    }

    /// The same description with every field of an answer that it does not name forbidden, so that none is forgotten.
    pub fn closed(&self) -> Self {
        let mut document = self.0.clone();
        let answers = [
            "Failure",
            "Balance",
            "BalancesOf",
            "Settled",
            "Written",
            "Invalidated",
            "Warmed",
            "PostedBalance",
            "SettledTransaction",
            "SettledTrade",
            "StoredTransaction",
            "StoredTrade",
            "UserTrade",
            "StatementRow",
            "AssetTotal",
            "RatesResult",
            "UserTotal",
            "PricedBalance",
        ];
        for name in answers {
            let schema = &mut document["components"]["schemas"][name];
            assert!(schema["properties"].is_object(), "{name}");
            schema["additionalProperties"] = json!(false);
        }
        for item in document["paths"].as_object_mut().unwrap().values_mut() {
            for operation in item.as_object_mut().unwrap().values_mut() {
                let Some(responses) = operation.get_mut("responses") else {
                    continue;
                };
                for response in responses.as_object_mut().unwrap().values_mut() {
                    let schema = response.pointer_mut("/content/application~1json/schema");
                    if let Some(schema) = schema.filter(|schema| {
                        schema["type"] == "object" && schema.get("properties").is_some()
                    }) {
                        schema["additionalProperties"] = json!(false);
                    }
                }
            }
        }
        Self(document)
    }

    /// An answer to that question is one that is described: its status, type, headers and body.
    #[track_caller]
    pub fn check(&self, method: &str, path: &str, status: u16, headers: &HeaderMap, body: &str) {
        let place = format!("{method} {path} {status}");
        // The last segment of a path may be a parameter.
        let (front, _) = path.rsplit_once('/').unwrap_or_default();
        let with_id = format!("{front}/{{id}}");
        let paths = &self.0["paths"];
        let known = if paths[path].is_object() {
            path
        } else {
            with_id.as_str()
        };
        let operation = &paths[known][method.to_lowercase()];
        assert!(operation.is_object(), "{place} is not described");
        let response = self.at(&operation["responses"][status.to_string()]);
        assert!(response.is_object(), "{place} is not described: {body}");
        self.check_response(&place, response, headers, body);
    }

    /// The same for an answer that belongs to no operation.
    #[track_caller]
    pub fn check_named(&self, name: &str, headers: &HeaderMap, body: &str) {
        let response = &self.0["components"]["responses"][name];
        self.check_response(name, response, headers, body);
    }

    #[track_caller]
    fn check_response(&self, place: &str, response: &Value, headers: &HeaderMap, body: &str) {
        self.check_headers(place, response, headers);
        let Some(content) = response.get("content").and_then(Value::as_object) else {
            assert_eq!(body, "", "{place}");
            return;
        };
        let kind = headers["content-type"].to_str().unwrap();
        let media = content
            .get(kind)
            .unwrap_or_else(|| panic!("{place}: {kind} is not described"));
        let value = if kind == "application/json" {
            serde_json::from_str(body).unwrap()
        } else {
            json!(body)
        };
        let faults = self.faults(&media["schema"], &value);
        assert!(faults.is_empty(), "{place}: {faults:?}\n{body}");
    }

    #[track_caller]
    fn check_headers(&self, place: &str, response: &Value, headers: &HeaderMap) {
        let none = Map::new();
        let described = response
            .get("headers")
            .map_or(&none, |headers| headers.as_object().unwrap());
        for (name, header) in described {
            let header = self.at(header);
            let sent = headers
                .get(name)
                .unwrap_or_else(|| panic!("{place}: no {name}"));
            let sent = sent.to_str().unwrap();
            let value = if header["schema"]["type"] == "integer" {
                json!(sent.parse::<i64>().unwrap())
            } else {
                json!(sent)
            };
            let faults = self.faults(&header["schema"], &value);
            assert!(faults.is_empty(), "{place}: {name}: {faults:?}");
        }
        // What every HTTP answer may have is not described.
        let usual = [
            "content-type",
            "content-length",
            "date",
            "content-security-policy",
            "x-content-type-options",
            "referrer-policy",
        ];
        for name in headers.keys().map(http::HeaderName::as_str) {
            assert!(
                usual.contains(&name) || described.contains_key(name),
                "{place}: {name} is not described"
            );
        }
    }

    /// Every example, and what is wrong with it.
    pub fn bad_examples(&self) -> (usize, Vec<String>) {
        let (mut count, mut found) = (0, Vec::new());
        let mut check = |place: String, schema: &Value, value: &Value| {
            count += 1;
            found.extend(
                self.faults(schema, value)
                    .into_iter()
                    .map(|fault| format!("{place}: {fault}")),
            );
        };
        for (path, method, operation) in self.operations() {
            let place = format!("{method} {path}");
            for parameter in operation["parameters"].as_array().unwrap() {
                let parameter = self.at(parameter);
                if let Some(example) = parameter.get("example") {
                    check(
                        format!("{place} {}", parameter["name"]),
                        &parameter["schema"],
                        example,
                    );
                }
            }
            let mut bodies: Vec<(String, &Value)> =
                vec![("body".to_owned(), &operation["requestBody"])];
            let responses = operation["responses"].as_object().unwrap();
            bodies.extend(
                responses
                    .iter()
                    .map(|(status, response)| (status.clone(), self.at(response))),
            );
            for (which, body) in bodies {
                let media = &body["content"]["application/json"];
                for example in media["examples"]
                    .as_object()
                    .into_iter()
                    .flat_map(Map::values)
                {
                    check(
                        format!("{place} {which}"),
                        &media["schema"],
                        &example["value"],
                    );
                }
            }
        }
        (count, found)
    }
}
