//! Values out of bounds, and rules that were written to do harm.
use serde_json::{Value, json};

use super::{House, agent};
use crate::support::user;

#[tokio::test]
async fn values_outside_their_bounds_are_422_and_pointed_at() {
    let house = House::build().await;
    let person = |field: &str, value: Value| {
        let mut person = user("bob@example.org", "Bob", &["member"]);
        person[field] = value;
        ("/api/v1/users".to_owned(), person, format!("/{field}"))
    };
    let named = |field: &str, value: Value| {
        let mut body = agent(json!({ "rules": [] }));
        body[field] = value;
        ("/api/v1/agents".to_owned(), body, format!("/{field}"))
    };
    let mut cases = vec![
        person("email", json!("")),
        person("email", json!("bob")),
        person("email", json!("bob@")),
        person("email", json!("bob\0@example.org")),
        person("email", json!("bob\n@example.org")),
        person("email", json!(format!("{}@example.org", "b".repeat(300)))),
        person("display_name", json!("")),
        person("display_name", json!(" \t ")),
        person("display_name", json!("Bob\0")),
        person("display_name", json!("ä".repeat(201))),
        person("password", json!("short")),
        person("password", json!("p".repeat(201))),
        person("roles", json!([])),
        named("name", json!("")),
        named("name", json!("A\0")),
        named("name", json!("A\u{7f}")),
        named("name", json!("x".repeat(201))),
        named("description", json!("d".repeat(4_001))),
        named("description", json!("a\0b")),
        named("kind", json!("rules\0")),
        named("kind", json!("k".repeat(100_000))),
    ];
    for (input, pointer) in [
        (json!({ "values": vec![1; 7] }), "/input/values"),
        (json!({ "values": vec![1; 100_001] }), "/input/values"),
        (json!({ "values": vec!["1"; 8] }), "/input/values/0"),
        (json!({ "values": [1, 2, 3, 4, 5, 6, 7, 1e16] }), "/input/values/7"),
        (json!({ "values": [1, 2, 3, 4, 5, 6, 7, [8]] }), "/input/values/7"),
        (json!({ "values": vec![Value::Null; 8] }), "/input/values"),
        (json!({ "values": vec![1; 8], "horizon": 0 }), "/input/horizon"),
        (json!({ "values": vec![1; 8], "horizon": 1001 }), "/input/horizon"),
        (json!({ "values": vec![1; 8], "horizon": 1e308 }), "/input/horizon"),
        (json!({ "values": vec![1; 8], "level": 1 }), "/input/level"),
        (json!({ "values": vec![1; 8], "season": -1 }), "/input/season"),
        (json!("values"), "/input"),
    ] {
        for call in ["tasks", "try"] {
            let path = format!("/api/v1/agents/{}/{call}", house.insight);
            cases.push((path, json!({ "input": input }), pointer.to_owned()));
        }
    }
    for (path, body, pointer) in cases {
        let refused = house.admin.post(&path, &body).await;
        assert_eq!(refused.status, 422, "{pointer} at {path}: {refused:?}");
        refused.problem(422);
        assert_eq!(refused.pointers()[0], pointer, "{path}");
    }
    house.is_untouched().await;
}

#[tokio::test]
async fn hostile_rules_are_refused_at_once() {
    let house = House::build().await;
    let chain = format!("input{}", ".a".repeat(2_000));
    let sum = format!("1{} == 1", " + 1".repeat(4_000));
    let hostile = [
        String::new(),
        " ".to_owned(),
        "1 +".to_owned(),
        "input.a ===".to_owned(),
        "\0".to_owned(),
        "\"unclosed".to_owned(),
        "\"\\x\"".to_owned(),
        "(".repeat(4_000),
        format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000)),
        format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000)),
        format!("{}true", "!".repeat(4_000)),
        format!("{}1 == 1", "-".repeat(4_000)),
        format!("{}1{}", "{1:".repeat(1_000), "}".repeat(1_000)),
        format!("{}true{}", "true ? ".repeat(500), " : false".repeat(500)),
        "x".repeat(4_097),
        chain,
        sum,
        "[1].all(a, [1].all(b, [1].all(c, true)))".to_owned(),
        "input.matches('(a+)+$') && input.matches('[')".to_owned(),
        "system('rm')".to_owned(),
        "1 == 99999999999999999999".to_owned(),
    ];
    for when in hostile {
        let shown: String = when.chars().take(40).collect();
        let rule = json!([{ "name": "r", "when": when, "then": [] }]);
        let refused = house.admin.post("/api/v1/agents", &agent(json!({ "rules": rule }))).await;
        assert_eq!(refused.status, 422, "{shown}: {refused:?}");
        refused.problem(422);
        assert_eq!(refused.pointers()[0], "/config/rules/0/when", "{shown}");
    }
    let many = vec![json!({ "name": "r", "when": "true", "then": [] }); 201];
    let actions = vec![json!({ "output": 1 }); 21];
    for (rules, pointer) in [
        (json!(many), "/config/rules"),
        (json!([{ "name": "r", "when": "true", "then": actions }]), "/config/rules/0/then"),
        (json!([{ "name": "n".repeat(201), "when": "true", "then": [] }]), "/config/rules/0/name"),
        (
            json!([{ "name": "r", "when": "true", "then": [{ "output": "{{ ".repeat(100) }] }]),
            "/config/rules/0/then/0/output",
        ),
    ] {
        let refused = house.admin.post("/api/v1/agents", &agent(json!({ "rules": rules }))).await;
        refused.problem(422);
        assert_eq!(refused.pointers()[0], pointer);
    }
    house.is_untouched().await;
}
