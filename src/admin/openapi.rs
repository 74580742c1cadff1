//! The description of the API, made from the types that answer.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{transfers::PARAMETERS, view};

/// The description in OpenAPI 3.1.
pub fn description() -> Value {
    let mut types = types();
    let (status, sessions, session) = (
        json_of::<view::Status>(&mut types),
        json_of::<view::Sessions>(&mut types),
        json_of::<view::Session>(&mut types),
    );
    let (nodes, done, refused) =
        (json_of::<view::Nodes>(&mut types), json_of::<view::Done>(&mut types), json_of::<view::Refused>(&mut types));
    let config = json!({ "application/json": { "schema": { "type": "object", "description": "A config; `fallgate schema` prints its schema." } } });
    let (words, page) = (text("text/plain"), text("text/html"));
    let events = text("text/event-stream");
    let id = json!({
        "name": "id", "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 },
        "description": "What `sessions` calls it.",
    });
    let query: Vec<_> = PARAMETERS.iter().map(|(name, description)| parameter(name, description)).collect();
    let read = |summary, good: &Value| {
        operation(
            summary,
            false,
            &[
                (200, "As asked.", good),
                (401, "The token is wrong or missing.", &refused),
                (403, "The request comes from where it may not.", &refused),
            ],
        )
    };
    let found = |mut operation: Value, status: u16, why: &str| {
        operation["responses"][status.to_string()] = answer(why, &refused);
        operation
    };
    let with = |mut operation: Value, parameters: &[Value]| {
        operation["parameters"] = parameters.into();
        operation
    };
    let command = |summary, rejects: bool| {
        let mut operation = operation(
            summary,
            true,
            &[
                (200, "It is done, or under way.", &done),
                (401, "The token is wrong or missing.", &refused),
                (403, "There is no token, or the request comes from where it may not.", &refused),
            ],
        );
        if rejects {
            operation["responses"]["400"] = answer("Nothing has changed; `problems` says why.", &refused);
        }
        operation
    };
    let of_node = |summary| {
        let name = json!({
            "name": "name", "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 },
            "description": "The node's configured name.",
        });
        let upstream = parameter("upstream", "Which node is meant, where several upstreams have one of this name.");
        let operation = found(with(command(summary, true), &[name, upstream]), 404, "There is no node of this name.");
        found(operation, 409, "Several have this name, or the config drains it.")
    };
    let mut change = command("Change the log level or the caps on bandwidth until the next reload", true);
    change["requestBody"] = json!({
        "required": true,
        "content": { "application/json": { "schema": change_schema() } },
    });
    let open = |summary, good: &Value| {
        operation(
            summary,
            false,
            &[(200, "As asked.", good), (403, "The request comes from where it may not.", &refused)],
        )
    };
    let mut ready = open("Whether new sessions are welcome", &words);
    ready["responses"]["200"] =
        answer("They are. What does not go as it should meanwhile is named after `degraded: `.", &words);
    ready["responses"]["503"] = answer("They are not; the body says why.", &words);
    let mut streamed = read("How all is and what is open, once a second", &events);
    streamed["responses"]["503"] = answer("There are as many streams as there may be.", &refused);
    let paths = json!({
        "/livez": { "get": open("Whether the process serves", &words) },
        "/readyz": { "get": ready },
        "/metrics": { "get": open("Metrics for Prometheus", &words) },
        "/": { "get": read("The status page", &page) },
        "/api/v1/status": { "get": read("How all is", &status) },
        "/api/v1/sessions": { "get": found(with(read("What is open", &sessions), &query), 400, "The query is none.") },
        "/api/v1/sessions/{id}": { "get": found(with(read("One of those that are open", &session), std::slice::from_ref(&id)), 404, "Nothing of this name is open.") },
        "/api/v1/sessions/{id}/cancel": { "post": found(found(with(command("End it", false), &[id]), 404, "Nothing of this name is open."), 409, "It cannot be ended by itself.") },
        "/api/v1/nodes/{name}/drain": { "post": of_node("Let nothing new go to a node; what is there goes on") },
        "/api/v1/nodes/{name}/undrain": { "post": of_node("Let new sessions go to a node again") },
        "/api/v1/nodes": { "get": read("The nodes", &nodes) },
        "/api/v1/config": { "get": read("The config that holds, passwords masked", &config), "post": change },
        "/api/v1/events": { "get": streamed },
        "/api/v1/openapi.json": { "get": read("This description", &json!({ "application/json": { "schema": { "type": "object" } } })) },
        "/api/v1/reload": { "post": command("Read the config anew", true) },
        "/api/v1/upgrade": { "post": command("Have a new process of the installed program take over; this one carries what it has to its end", true) },
        "/api/v1/drain": { "post": command("Refuse new sessions, carry the running ones to their end, then stop", false) },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "fallgate admin",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "What an edge gateway for file transfer shows and can be told. Reading is free over loopback and needs the token else; commands need it always.",
        },
        "paths": paths,
        "components": {
            "schemas": types.take_definitions(true),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" },
            },
        },
    })
}

/// An answer that there may be: its status and its shape.
type Answers<'a> = &'a [(u16, &'static str, &'a Value)];

/// Where shapes are described once and named by all who have them.
fn types() -> SchemaGenerator {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator()
}

fn json_of<T: JsonSchema>(types: &mut SchemaGenerator) -> Value {
    json!({ "application/json": { "schema": types.subschema_for::<T>() } })
}

fn text(kind: &str) -> Value {
    json!({ kind: { "schema": { "type": "string" } } })
}

fn answer(why: &str, content: &Value) -> Value {
    json!({ "description": why, "content": content })
}

fn operation(summary: &str, is_command: bool, answers: Answers<'_>) -> Value {
    let answers: Map<_, _> =
        answers.iter().map(|(status, why, content)| (status.to_string(), answer(why, content))).collect();
    let token = [json!({ "bearer": [] }), json!({ "basic": [] })];
    let security: Vec<_> = if is_command { token.to_vec() } else { [json!({})].into_iter().chain(token).collect() };
    json!({ "summary": summary, "responses": answers, "security": security })
}

fn parameter(name: &str, description: &str) -> Value {
    let schema = match name {
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": super::transfers::MOST }),
        _ => json!({ "type": "string" }),
    };
    json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
}

/// The part of a config that can be changed while it runs.
fn change_schema() -> Value {
    let bandwidth = json!({ "type": "string", "pattern": "^(off|[0-9]+((k|M|G)bit|(K|M|G)B)/s)$" });
    let cap = json!({
        "description": "For each direction, or for each by itself; such as `200Mbit/s`, or `off`.",
        "anyOf": [
            bandwidth,
            { "type": "object", "additionalProperties": false, "properties": { "upload": bandwidth, "download": bandwidth } },
        ],
    });
    let caps: Map<_, _> =
        ["total", "per_client", "per_session", "per_node"].iter().map(|key| ((*key).to_owned(), cap.clone())).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "properties": {
            "log": {
                "type": "object", "additionalProperties": false, "required": ["level"],
                "properties": { "level": { "enum": ["error", "warn", "info", "debug", "trace"] } },
            },
            "bandwidth": { "type": "object", "additionalProperties": false, "minProperties": 1, "properties": caps },
        },
    })
}
