//! What a rule set promises, seen from outside.
use super::*;
use serde_json::json;

fn facts(input: &Value) -> Facts<'_> {
    static TASK: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| json!({"id": "t1", "priority": 5}));
    static AGENT: std::sync::LazyLock<Value> = std::sync::LazyLock::new(|| json!({"name": "Router"}));
    Facts { input, task: &TASK, agent: &AGENT, now: "2026-11-22T09:30:00Z".parse().unwrap() }
}

#[test]
fn probe() {
    let config = json!({"rules": [{"name": "big", "when": "input.amount > 10", "then": [{"output": {"x": "{{ input.amount * 1.5 }}"}}]}]});
    let set = compile(&config).unwrap();
    println!("{:?}", set.evaluate(&facts(&json!({"amount": 12.5}))));
    println!("{:?}", set.evaluate(&facts(&json!({"amount": 12}))));
    println!("{:?}", set.evaluate(&facts(&json!({"amunt": 12}))));
}
