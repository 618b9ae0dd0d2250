//! What rules promise to the people who write them.
use super::*;
use crate::error::FieldError;
use serde_json::json;
use std::sync::LazyLock;

pub(super) fn facts(input: &Value) -> Facts<'_> {
    static TASK: LazyLock<Value> = LazyLock::new(|| json!({"id": "t1", "priority": 7}));
    static AGENT: LazyLock<Value> = LazyLock::new(|| json!({"name": "Router"}));
    Facts { input, task: &TASK, agent: &AGENT, now: "2026-11-22T09:30:00.250Z".parse().unwrap() }
}

/// One rule with this condition and these actions.
pub(super) fn rule(when: &str, then: Value) -> Value {
    json!({"rules": [{"name": "big order", "when": when, "then": then}]})
}

pub(super) fn evaluate(config: &Value, input: &Value) -> Result<Evaluation, RuleFailure> {
    compile(config).unwrap().evaluate(&facts(input))
}

pub(super) fn holds(when: &str, input: Value) -> bool {
    !evaluate(&rule(when, json!([])), &input).unwrap_or_else(|failure| panic!("{when}: {failure}")).matched.is_empty()
}

pub(super) fn failure(when: &str, input: Value) -> String {
    evaluate(&rule(when, json!([])), &input).expect_err(when).to_string()
}

fn output(value: Value, input: Value) -> Value {
    evaluate(&rule("true", json!([{"output": value}])), &input).unwrap().outputs.remove(0)
}

pub(super) fn refusals(config: &Value) -> Vec<FieldError> {
    compile(config).unwrap_err()
}

fn notify(title: &str, body: &str) -> Value {
    json!([{"notify": {"to": "requester", "severity": "info", "title": title, "body": body}}])
}

fn notification(title: &str, body: &str, input: Value) -> (String, String) {
    match evaluate(&rule("true", notify(title, body)), &input).unwrap().actions.remove(0) {
        Action::Notify { title, body, .. } => (title, body),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_rule_set_can_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<RuleSet>();
}

#[test]
fn an_empty_list_of_rules_matches_nothing() {
    let evaluation = evaluate(&json!({"rules": []}), &json!([1, 2])).unwrap();
    assert_eq!(serde_json::to_value(evaluation.output()).unwrap(), json!({"matched": [], "outputs": []}));
}

#[test]
fn rules_match_in_order_and_do_what_they_say() {
    let config = json!({"rules": [
        {"name": "never", "when": "false", "then": [{"output": 0}]},
        {"name": "first", "when": "input.total >= 100", "then": [{"output": {"total": "{{ input.total }}"}},
            {"notify": {"to": "role:operator", "severity": "warning", "title": "Order over {{ input.total }}", "body": "By {{ agent.name }}"}}]},
        {"name": "second", "when": "task.priority > 5", "then": [{"task": {"agent_id": "018f0000-0000-7000-8000-000000000001", "input": ["{{ input }}"]}}]},
    ]});
    let evaluation = evaluate(&config, &json!({"total": 120.5})).unwrap();
    assert_eq!(evaluation.matched, ["first", "second"]);
    assert_eq!(evaluation.outputs, [json!({"total": 120.5})]);
    let actions = json!([
        {"notify": {"to": "role:operator", "severity": "warning", "title": "Order over 120.5", "body": "By Router"}},
        {"task": {"agent_id": "018f0000-0000-7000-8000-000000000001", "input": [{"total": 120.5}]}},
    ]);
    assert_eq!(serde_json::to_value(&evaluation.actions).unwrap(), actions);
}

#[test]
fn each_rule_says_what_its_condition_looked_at() {
    let long = "x".repeat(300);
    let input = json!({"total": 120.5, "lines": [{"sku": "a"}, {"sku": "b"}], "customer": {"name": long}});
    let explained = |when: &str| {
        let explanation = evaluate(&rule(when, json!([])), &input).unwrap().explanation;
        let [explained] = explanation.as_slice() else { panic!("{explanation:?}") };
        assert_eq!((explained.rule.as_str(), explained.when.as_str()), ("big order", when));
        (explained.matched, Value::Object(explained.read.clone()))
    };
    assert_eq!(explained("input.total >= 100"), (true, json!({"input.total": 120.5})));
    assert_eq!(
        explained("input.total < 100 || task.priority > 9"),
        (false, json!({"input.total": 120.5, "task.priority": 7}))
    );
    assert_eq!(explained("has(input.vip) && input.vip"), (false, json!({"input.vip": {"missing": true}})));
    // A loop's own names are no facts.
    assert_eq!(explained("input.lines.exists(line, line.sku == 'b')"), (true, json!({"input.lines": {"items": 2}})));
    assert_eq!(explained("input.lines[1].sku == 'b'"), (true, json!({"input.lines[1].sku": "b"})));
    assert_eq!(explained("input['customer'] != null"), (true, json!({"input[\"customer\"]": {"fields": 1}})));
    let (_, read) = explained("input.customer.name.startsWith('x')");
    assert_eq!(read["input.customer.name"].as_str().unwrap().chars().count(), 200);
    assert_eq!(explained("true"), (true, json!({})));
}

#[test]
fn an_explanation_never_costs_an_evaluation_its_place() {
    let when = format!("{:4096}", "input.text != ''");
    let config = rule(&when, json!([{"output": "{{ input.text }}"}]));
    let length = |spare: usize| json!({"text": "x".repeat(1024 * 1024 - spare)});
    let with = evaluate(&config, &length(10_000)).unwrap();
    assert_eq!(with.explanation.len(), 1);
    let without = evaluate(&config, &length(1_000)).unwrap();
    assert_eq!((without.matched.len(), without.outputs.len(), without.explanation.len()), (1, 1, 0));
}

#[test]
fn an_evaluation_recorded_before_explanations_were_is_read() {
    let recorded = json!({"matched": ["r"], "outputs": [1], "actions": []});
    let evaluation: Evaluation = serde_json::from_value(recorded.clone()).unwrap();
    assert_eq!(evaluation.explanation, []);
    assert_eq!(serde_json::to_value(evaluation).unwrap(), recorded);
}

#[test]
fn an_evaluation_survives_being_recorded_and_read_back() {
    for to in ["requester", "018f0000-0000-7000-8000-000000000001", "role:auditor"] {
        let config = rule(
            "true",
            json!([{"notify": {"to": to, "severity": "critical", "title": "t", "body": "b"}}, {"output": 1.5}]),
        );
        let evaluation = evaluate(&config, &json!(null)).unwrap();
        let recorded = serde_json::to_string(&evaluation).unwrap();
        assert_eq!(serde_json::from_str::<Evaluation>(&recorded).unwrap(), evaluation);
        assert!(recorded.contains(to));
    }
}

#[test]
fn whole_and_fractional_numbers_compare_and_calculate_with_each_other() {
    for amount in [json!(12), json!(12.5), json!(12.0), json!(u64::MAX)] {
        assert!(
            holds("input.amount > 10 && input.amount >= 10.5 && input.amount != 10", json!({"amount": amount})),
            "{amount}"
        );
    }
    assert!(!holds("input.amount > 10", json!({"amount": 9.99})));
    assert!(holds(
        "input.price * input.quantity + 1 == 38.5 && input.quantity - 0.5 == 2.5 && input.quantity / 2.0 == 1.5",
        json!({"price": 12.5, "quantity": 3})
    ));
    assert!(holds("12.0 == 12 && 12 in [12.0] && input.n / 2 == 3", json!({"n": 7})));
}

#[test]
fn now_is_a_time_one_can_calculate_with() {
    assert!(holds(r#"now - timestamp(input.at) > duration("24h")"#, json!({"at": "2026-11-21T09:00:00Z"})));
    assert!(!holds(r#"now - timestamp(input.at) > duration("24h")"#, json!({"at": "2026-11-21T10:00:00Z"})));
    assert!(holds(
        "now.getHours() == 9 && now.getHours('Europe/Vienna') == 10 && now.getDayOfWeek() == 0",
        json!(null)
    ));
    assert_eq!(output(json!("{{ now }}"), json!(null)), "2026-11-22T09:30:00.250Z");
    assert_eq!(output(json!("{{ now - timestamp('2026-11-22T09:00:00Z') }}"), json!(null)), "1800.25s");
}

#[test]
fn lists_objects_texts_and_optionals_can_be_asked() {
    let input = json!({"items": [{"sku": "A-1", "n": 2}, {"sku": "B-2", "n": 0}], "by": {"b": 1, "a": 2}, "mail": "ann@example.org"});
    for when in [
        "input.items.exists(x, x.n == 0) && !input.items.all(x, x.n > 0) && input.items.exists_one(x, x.sku == 'A-1')",
        "input.items.filter(x, x.n > 0).map(x, x.sku) == ['A-1'] && size(input.items) == 2 && input.items.size() == 2",
        "input.mail.matches('^[^@ ]+@example[.]org$') && !matches(input.mail, 'net$') && input.mail.endsWith('.org')",
        "has(input.mail) && !has(input.fax) && input.?fax.orValue('none') == 'none' && !(input.?fax.hasValue())",
        "'a' in input.by && input['by']['a'] == 2 && input.by.all(k, input.by[k] > 0) && type(input.mail) == string",
        "input.?mail.optMap(m, m.size() > 3).orValue(false) && optional.of(1).value() == 1 && {'x': [1]}.x[0] == 1",
    ] {
        assert!(holds(when, input.clone()), "{when}");
    }
}

#[test]
fn an_object_is_gone_through_in_the_order_of_its_keys() {
    let input: Value = (0..50).map(|i| (format!("k{i:02}"), json!(i))).collect::<serde_json::Map<_, _>>().into();
    let keys: Vec<String> = (0..50).map(|i| format!("k{i:02}")).collect();
    assert_eq!(output(json!("{{ input.map(k, k) }}"), input), json!(keys));
}

#[test]
fn a_text_that_is_one_expression_keeps_the_type_of_its_value() {
    let input = json!({"n": 5, "list": [1, {"a": null}], "half": 2.0});
    assert_eq!(output(json!("{{ input.n }}"), input.clone()), json!(5));
    assert_eq!(
        output(json!({"deep": [{"l": "{{input.list}}"}], "fix": true}), input.clone()),
        json!({"deep": [{"l": [1, {"a": null}]}], "fix": true})
    );
    assert_eq!(output(json!(" {{ input.n }}"), input.clone()), json!(" 5"));
    assert_eq!(output(json!("{{ input.half }} {{ input.list }} {{ null }}"), input), json!("2 [1,{\"a\":null}] null"));
}

#[test]
fn braces_inside_an_expression_do_not_end_it() {
    assert_eq!(output(json!("{{ {'a': {'b': '}}'}}.a.b }}!"), json!(null)), json!("}}!"));
    assert_eq!(output(json!("{{{'a': {}}}}"), json!(null)), json!({"a": {}}));
    assert_eq!(output(json!("{{ '{{' }} }} { {"), json!(null)), json!("{{ }} { {"));
}

#[test]
fn titles_and_bodies_are_cut_with_an_ellipsis() {
    let input = json!({"long": "ä".repeat(5_000), "exact": "ä".repeat(200), "lines": "a\nb\u{0}c"});
    let (title, body) = notification("{{ input.long }}", "{{ input.long }}", input.clone());
    assert_eq!((title.chars().count(), body.chars().count()), (200, 4_000));
    assert!(title.ends_with("ä…") && body.ends_with("ä…"));
    assert_eq!(notification("{{ input.exact }}", "b", input.clone()).0, "ä".repeat(200));
    assert_eq!(notification("{{ input.lines }}", "{{ input.lines }}", input), ("a b c".into(), "a\nb c".into()));
}

#[test]
fn a_title_that_comes_out_empty_is_a_failure() {
    let error = evaluate(&rule("true", notify("{{ input }}", "b")), &json!(" ")).unwrap_err();
    assert_eq!((error.place.as_str(), error.code), ("then/0/notify/title", FailureCode::RuleFailed));
}

#[test]
fn a_failure_names_the_rule_the_place_and_the_reason() {
    assert_eq!(
        failure("input.amount > 1", json!({})),
        "rule \"big order\", when: unknown key `input.amount`; has(input.amount) tells whether it is there"
    );
    assert!(
        failure("input['a'].b == 1 || input.c.b == 1", json!({"a": {"b": 2}, "c": {}}))
            .contains("unknown key `input.c.b`")
    );
    assert!(failure("input.items.all(x, x.n > 1)", json!({"items": [{}]})).contains("unknown key `x.n`"));
    assert!(
        failure("input.n", json!({"n": 5})).contains("the condition must be true or false, not a value of type int")
    );
    let nested = rule(
        "true",
        json!([{"task": {"agent_id": "018f0000-0000-7000-8000-000000000001", "input": {"a/b": ["{{ input.x }}"]}}}]),
    );
    assert_eq!(evaluate(&nested, &json!({})).unwrap_err().place, "then/0/task/input/a~1b/0");
}

#[test]
fn what_cannot_be_computed_fails_in_words() {
    let input = json!({"zero": 0, "max": i64::MAX, "min": i64::MIN, "text": "tomorrow", "none": null, "list": [1], "half": 0.5});
    for (when, reason) in [
        ("1 / input.zero == 1", "division by zero"),
        ("1 % input.zero == 1", "division by zero"),
        ("input.max + 1 > 0", "leaves the range"),
        ("input.min - 1 > 0", "leaves the range"),
        ("input.max * 2 > 0", "leaves the range"),
        ("-input.min > 0", "leaves the range"),
        ("input.min / -1 > 0", "leaves the range"),
        ("input.list[7] == 1", "no element at the position"),
        ("input.list[-1] == 1", "no element at the position"),
        ("input.list[input.half] == 1", "must be a whole number"),
        ("input.list['a'] == 1", "nothing inside to select"),
        ("timestamp(input.text) < now", "timestamp() needs a time"),
        ("now + duration(input.text) < now", "duration() needs a span"),
        ("timestamp('9999-12-31T23:59:59Z') + duration('1h') > now", "leaves the range"),
        ("now.getHours('Mars/Base') == 1", "time zone is not known"),
        ("int(input.text) == 1", "int() was given"),
        ("input.none.name == 'x'", "a value of type null has nothing inside"),
        ("input.text > 5", "> cannot be applied to string and int"),
        ("input.text + 5 == ''", "+ cannot be applied to string and int"),
        ("input.text && true", "&&, || and !"),
        ("!input.zero", "&&, || and !"),
        ("input.zero.all(x, x)", "only a list or an object"),
        ("input.zero.size() == 1", "size() cannot be applied to (int)"),
        ("input.zero.matches('a')", "matches() cannot be applied"),
        ("input.?fax.value() == 1", "the optional value is not there"),
        ("{'a': 1, 'a': 2}.a == 1", "the same key twice"),
    ] {
        let failure = failure(when, input.clone());
        assert!(failure.contains(reason), "{when}: {failure}");
        assert!(!failure.contains("tomorrow"), "quotes the input: {failure}");
    }
}

#[test]
fn what_json_cannot_hold_is_a_failure() {
    for expression in
        ["1.0 / 0.0", "-1.0 / 0.0", "0.0 / 0.0", "[double('NaN')]", "{'a': double('Infinity')}", "input.?a"]
    {
        let error =
            evaluate(&rule("true", json!([{"output": format!("{{{{ {expression} }}}}")}])), &json!({})).unwrap_err();
        assert_eq!(error.code, FailureCode::RuleFailed, "{expression}: {error}");
    }
}

#[test]
fn a_configuration_matches_its_schema_types() {
    let config = rule("true", notify("t", "b"));
    let parsed: RulesConfig = serde_json::from_value(config).unwrap();
    assert_eq!(parsed.rules[0].then.len(), 1);
    let schema = serde_json::to_value(schemars::schema_for!(RulesConfig)).unwrap();
    assert_eq!(schema["required"], json!(["rules"]));
    assert_eq!(schema["$defs"]["Rule"]["required"], json!(["name", "when", "then"]));
    assert_eq!(schema["$defs"]["Notify"]["additionalProperties"], json!(false));
    assert_eq!(serde_json::to_value(schemars::schema_for!(RulesInput)).unwrap()["type"], Value::Null);
    assert_eq!(
        serde_json::to_value(schemars::schema_for!(RulesOutput)).unwrap()["required"],
        json!(["matched", "outputs"])
    );
}
