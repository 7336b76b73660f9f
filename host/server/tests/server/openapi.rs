//! Bad input for every route of the server's own document: a new route is tested automatically.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::support::{Answer, Api};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

struct Route {
    method: String,
    path: String,
    operation: Value,
}

impl Route {
    fn needs_key(&self) -> bool {
        self.operation.get("security").is_none()
    }

    /// The schema of the body, with its properties in one place.
    fn body(&self, document: &Value) -> Option<Value> {
        let schema = &self.operation["requestBody"]["content"]["application/json"]["schema"];
        let name = schema["$ref"].as_str()?.rsplit('/').next().unwrap();
        let schema = &document["components"]["schemas"][name];
        Some(if schema["allOf"].is_array() { schema["allOf"][0].clone() } else { schema.clone() })
    }

    /// Whether an id in the path is that of a rotation instead of a connection.
    fn is_of_a_rotation(&self) -> bool {
        self.path.starts_with("/vault/rotations/")
    }

    /// The path with this id in it.
    fn with_id(&self, id: &str) -> String {
        self.path.replace("{id}", id)
    }
}

struct Tested {
    api: Api,
    key: String,
    connection: String,
    rotation: String,
    document: Value,
    routes: Vec<Route>,
}

impl Tested {
    async fn start() -> Self {
        let (api, connection) = Api::echo().await;
        let key = api.key_with(keyway::Scopes::ALL).await;
        let entry = json!({"permissioned_user_id": "acme-prod", "domain": "https://acme.com"});
        api.post("/vault", &entry).await.ok(201);
        let rotated = json!({"permissioned_user_id": "rotated", "domain": "https://acme.com"});
        let id = |answer: Answer| answer.ok(201)["id"].as_str().unwrap().to_owned();
        let rotated = json!({"entry_id": id(api.post("/vault", &rotated).await)});
        let rotation = id(api.request("POST", "/vault/rotations", &key, &rotated).await);
        let document = api.send("GET", "/openapi.json", &[], "").await.ok(200);
        let routes = document["paths"].as_object().unwrap().iter().flat_map(|(path, operations)| {
            operations.as_object().unwrap().iter().map(|(method, operation)| Route {
                method: method.to_uppercase(),
                path: path.clone(),
                operation: operation.clone(),
            })
        });
        let routes: Vec<_> = routes.collect();
        assert!(routes.len() >= 19, "{}", routes.len());
        Self { connection: connection.id.to_string(), rotation, key, routes, document, api }
    }

    /// The path with the id of an existing thing.
    fn path_of(&self, route: &Route) -> String {
        route.with_id(if route.is_of_a_rotation() { &self.rotation } else { &self.connection })
    }

    async fn send(&self, route: &Route, body: &Value) -> Answer {
        self.api.request(&route.method, &self.path_of(route), &self.key, body).await
    }

    fn with_body(&self) -> impl Iterator<Item = (&Route, Value)> {
        self.routes.iter().filter_map(|route| Some((route, route.body(&self.document)?)))
    }
}

/// A value of none of these types.
fn values_of_other_types(property: &Value, document: &Value) -> Vec<Value> {
    let named =
        property["$ref"].as_str().or_else(|| property["oneOf"].as_array()?.iter().find_map(|one| one["$ref"].as_str()));
    let property = named.map_or(property, |name| &document["components"]["schemas"][name.rsplit('/').next().unwrap()]);
    let types: BTreeSet<&str> = match &property["type"] {
        Value::String(one) => [one.as_str()].into(),
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return Vec::new(),
    };
    let examples = [
        ("string", json!("text")),
        ("integer", json!(7)),
        ("boolean", json!(true)),
        ("object", json!({"a": 1})),
        ("array", json!([[1]])),
        ("number", json!(1.5)),
    ];
    let mut others: Vec<_> =
        examples.into_iter().filter(|(of, _)| !types.contains(of)).map(|(_, value)| value).collect();
    if property["enum"].is_array() {
        others.push(json!("no such word"));
    }
    if property["minimum"].is_i64() {
        others.push(json!(-1));
    }
    if let Some(length) = property["maxLength"].as_u64() {
        others.push(json!("x".repeat(usize::try_from(length).unwrap() + 1)));
    }
    others
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_but_those_of_operation_needs_a_key() {
    let tested = Tested::start().await;
    let open: Vec<_> =
        tested.routes.iter().filter(|route| !route.needs_key()).map(|route| route.path.as_str()).collect();
    assert_eq!(open, ["/healthz", "/openapi.json", "/readyz"]);
    for route in tested.routes.iter().filter(|route| route.needs_key()) {
        let path = tested.path_of(route);
        for headers in [&[][..], &[("cc-key", "sk_guessed")], &[("cc-key", "")], &[("authorization", "Bearer x")]] {
            let answer = tested.api.send(&route.method, &path, headers, "").await;
            let message = answer.error(401, "UNAUTHENTICATED");
            assert!(message.contains("key"), "{} {path}: {message}", route.method);
            assert!(answer.headers.contains_key("www-authenticate"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_workspaces_is_answered_like_what_does_not_exist() {
    let tested = Tested::start().await;
    let other = tested.api.host.broker().workspaces().create("Other", keyway::Scopes::ALL).await.unwrap();
    let key = secrecy::ExposeSecret::expose_secret(&other.api_key);
    let (mut compared, mut of_rotations) = (0, 0);
    for route in tested.routes.iter().filter(|route| route.path.contains("{id}")) {
        let body = route.body(&tested.document).map_or(Value::Null, |_| json!({}));
        let foreign = tested.api.request(&route.method, &tested.path_of(route), key, &body).await;
        let unknown = route.with_id("25290e80-bbd5-41b3-861e-dea30cc26e27");
        let unknown = tested.api.request(&route.method, &unknown, key, &body).await;
        foreign.error(404, "NOT_FOUND");
        assert_eq!(foreign.text, unknown.text, "{} {}", route.method, route.path);
        let malformed = tested.api.request(&route.method, &route.with_id("not-a-uuid"), key, &body).await;
        malformed.error(400, "BAD_REQUEST");
        compared += 1;
        of_rotations += usize::from(route.is_of_a_rotation());
    }
    assert!(compared >= 11 && of_rotations >= 5, "{compared} {of_rotations}");
    // They are visible in their own workspace.
    for path in [format!("/secret-providers/{}", tested.connection), format!("/vault/rotations/{}", tested.rotation)] {
        tested.api.request("GET", &path, &tested.key, &Value::Null).await.ok(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_none_is_refused_wherever_there_is_one() {
    let tested = Tested::start().await;
    let json = [("cc-key", tested.key.as_str()), ("content-type", "application/json")];
    let large = format!("{{\"domain\": \"{}\"}}", "x".repeat(3 << 20));
    let mut bodies = 0;
    for (route, _) in tested.with_body() {
        let path = tested.path_of(route);
        let send = async |headers: &[(&str, &str)], body: &str| {
            tested.api.send(&route.method, &path, headers, body.to_owned()).await
        };
        if route.operation["requestBody"]["required"] == true {
            send(&json, "").await.error(400, "BAD_REQUEST");
        }
        for broken in ["{", "[]", "null", "7", "\"text\"", "{\"a\": 1,}", "{} {}", "\u{feff}{}"] {
            send(&json, broken).await.error(400, "BAD_REQUEST");
        }
        for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""] {
            let headers = [("cc-key", tested.key.as_str()), ("content-type", other)];
            send(&headers, "{}").await.error(415, "UNSUPPORTED_MEDIA_TYPE");
        }
        send(&json[..1], "{}").await.error(415, "UNSUPPORTED_MEDIA_TYPE");
        send(&json, &large).await.error(413, "PAYLOAD_TOO_LARGE");
        bodies += 1;
    }
    assert!(bodies >= 7, "{bodies}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_every_body_is_checked_and_named_when_it_is_wrong() {
    let tested = Tested::start().await;
    let (mut fields, mut cases) = (0, 0);
    for (route, schema) in tested.with_body() {
        let example = schema["example"].as_object().unwrap_or_else(|| panic!("{} has no example", route.path));
        for (name, property) in schema["properties"].as_object().unwrap() {
            if property["readOnly"] == true {
                continue;
            }
            let values = values_of_other_types(property, &tested.document);
            for value in &values {
                let mut body = example.clone();
                body.insert(name.clone(), value.clone());
                let answer = tested.send(route, &Value::Object(body)).await;
                cases += 1;
                // Any text is a valid name of an entry, and may name none.
                if value.is_string()
                    && ["permissioned_user_id", "domain"].contains(&name.as_str())
                    && answer.status == 404
                {
                    answer.error(404, "NOT_FOUND");
                    continue;
                }
                let shown: String = value.to_string().chars().take(40).collect();
                let message = answer.error(400, "VALIDATION_FAILED");
                assert!(message.contains(name.as_str()), "{} {} {name} = {shown}: {message}", route.method, route.path);
            }
            fields += usize::from(!values.is_empty());
        }
        for required in schema["required"].as_array().into_iter().flatten() {
            let mut body = example.clone();
            body.remove(required.as_str().unwrap());
            let message = tested.send(route, &Value::Object(body)).await.error(400, "VALIDATION_FAILED");
            assert!(message.contains(required.as_str().unwrap()), "{message}");
        }
        if schema["additionalProperties"] == false {
            let body = Map::from_iter([("no_such_field".to_owned(), json!(1))]);
            let body = example.clone().into_iter().chain(body).collect();
            let message = tested.send(route, &Value::Object(body)).await.error(400, "VALIDATION_FAILED");
            assert!(message.contains("`no_such_field`"), "{message}");
        }
    }
    assert!(fields >= 80 && cases >= 300, "{fields} {cases}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_refuses_other_methods_and_says_which_it_takes() {
    let tested = Tested::start().await;
    let paths: BTreeSet<_> = tested.routes.iter().map(|route| route.path.as_str()).collect();
    for path in paths {
        let taken: BTreeSet<_> =
            tested.routes.iter().filter(|route| route.path == path).map(|route| route.method.as_str()).collect();
        for method in METHODS.into_iter().filter(|method| !taken.contains(method)) {
            let answer = tested.api.send(method, &path.replace("{id}", &tested.connection), &[], "").await;
            answer.error(405, "METHOD_NOT_ALLOWED");
            let allow: BTreeSet<_> = answer.headers["allow"].to_str().unwrap().split(',').map(str::trim).collect();
            let without_head: BTreeSet<_> = allow.into_iter().filter(|method| *method != "HEAD").collect();
            assert_eq!(without_head, taken, "{path}");
        }
        for beyond in ["/", "/nowhere", "%00"] {
            let path = format!("{}{beyond}", path.replace("{id}", &tested.connection));
            let status = tested.api.send("GET", &path, &[("cc-key", &tested.key)], "").await;
            assert!(matches!(status.status.as_u16(), 400 | 404 | 405), "{path}: {status:?}");
            assert!(status.json()["message"].is_string());
        }
    }
}
