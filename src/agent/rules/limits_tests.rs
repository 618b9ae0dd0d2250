//! What is refused: wrong configurations, with a pointer to each mistake, and hostile ones, without a crash or a stall.
use super::budget::COST_UNITS_MAX;
use super::config::{ACTIONS_MAX, RULES_MAX};
use super::expression::SOURCE_CHARS_MAX;
use super::syntax::{EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX, check_depth};
use super::tests::{evaluate, facts, failure, holds, refusals, rule};
use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Less than the 2 MiB that worker threads have, and still enough for a debug build, whose frames are the largest.
const TEST_STACK_BYTES: usize = 1_280 * 1024;

fn pointers(config: &Value) -> Vec<String> {
    refusals(config).into_iter().map(|error| error.pointer).collect()
}

fn with_rule(change: impl FnOnce(&mut Value)) -> Value {
    let notify = json!({"notify": {"to": "requester", "severity": "info", "title": "t", "body": "b"}});
    let mut config =
        rule("true", json!([notify, {"task": {"agent_id": "018f0000-0000-7000-8000-000000000001", "input": {}}}]));
    change(&mut config["rules"][0]);
    config
}

#[test]
fn every_mistake_has_its_pointer() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 16] = [
        (|rule| rule["extra"] = json!(1), "/rules/0/extra"),
        (|rule| rule["name"] = json!(5), "/rules/0/name"),
        (|rule| rule["name"] = json!(" "), "/rules/0/name"),
        (|rule| rule["name"] = json!("a\u{7}"), "/rules/0/name"),
        (|rule| rule["name"] = json!("a".repeat(201)), "/rules/0/name"),
        (|rule| rule["when"] = json!("1 +"), "/rules/0/when"),
        (|rule| rule["then"] = json!({}), "/rules/0/then"),
        (|rule| rule["then"][0] = json!({"shout": 1}), "/rules/0/then/0/shout"),
        (|rule| rule["then"][0] = json!({"output": 1, "task": {}}), "/rules/0/then/0"),
        (|rule| rule["then"][0]["notify"]["to"] = json!("role:king"), "/rules/0/then/0/notify/to"),
        (
            |rule| rule["then"][0]["notify"]["to"] = json!("018f0000000070008000000000000001"),
            "/rules/0/then/0/notify/to",
        ),
        (|rule| rule["then"][0]["notify"]["severity"] = json!("loud"), "/rules/0/then/0/notify/severity"),
        (|rule| rule["then"][0]["notify"]["body"] = json!("{{ nobody }}"), "/rules/0/then/0/notify/body"),
        (|rule| rule["then"][0]["notify"]["title"] = json!(""), "/rules/0/then/0/notify/title"),
        (|rule| rule["then"][1]["task"]["agent_id"] = json!("7"), "/rules/0/then/1/task/agent_id"),
        (|rule| rule["then"][1]["task"]["input"] = json!({"a/b": ["{{ 1 +"]}), "/rules/0/then/1/task/input/a~1b/0"),
    ];
    for (change, pointer) in cases {
        assert_eq!(pointers(&with_rule(change)), [pointer]);
    }
    assert_eq!(pointers(&json!([])), [""]);
    assert_eq!(pointers(&json!({"rules": [{"name": "a"}, 7]})), ["/rules/0", "/rules/1"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let config = json!({"rules": [{"name": "a", "when": "x", "then": []}, {"name": "a", "when": "true", "then": [{"output": "{{ a }} {{ b }}"}]}]});
    assert_eq!(
        pointers(&config),
        ["/rules/0/when", "/rules/1/name", "/rules/1/then/0/output", "/rules/1/then/0/output"]
    );
}

#[test]
fn a_mistake_in_an_expression_is_told_with_its_column() {
    for (when, detail) in [
        ("input.a >", "column 10: the expression ends too early"),
        ("'é' + *", "column 7: `*` does not belong here"),
        ("(1 == 1))", "column 9: nothing is open that this ) could close"),
        ("true &&\n  imput.a", "line 2, column 3: unknown name `imput`; there are input, task, agent, now"),
        ("input.a.starts('x')", "column 15: there is no function starts()"),
        (
            "input.items.all(x)",
            "column 16: all() follows a list and takes a name and an expression, as in input.items.all(x, x.ok)",
        ),
        ("size(1, 2) > 1", "column 5: size() takes 1 arguments, not 2"),
        ("input.a.matches('(a')", "column 17: not a valid pattern: unclosed group"),
        ("input.a.matches(input.b)", "column 22: the pattern of matches() must be written out as a text"),
        ("input.a == 'x", "column 12: this text is not closed"),
        ("Order{id: 1}.id == 1", "column 6: there is no message type Order; write {\"key\": value}"),
        ("99999999999999999999 > 1", "column 1: invalid int literal"),
        ("[1].all(x, [1].all(y, [1].all(z, z > x)))", "column 30: all, exists, map and filter nest at most 2 deep"),
    ] {
        let told: Vec<String> = refusals(&rule(when, json!([]))).into_iter().map(|error| error.detail).collect();
        assert_eq!(told, [detail]);
    }
    let text = rule("true", json!([{"output": "Total {{ input.a }} of {{ input. }}"}]));
    assert_eq!(refusals(&text)[0].detail, "column 34: this cannot be read as an expression");
    let open = rule("true", json!([{"output": "Total {{ input.a }"}]));
    assert_eq!(refusals(&open)[0].detail, "column 18: this } closes nothing");
}

#[test]
fn too_many_of_anything_is_refused() {
    let rules = |count: usize| json!({"rules": (0..count).map(|i| json!({"name": format!("r{i}"), "when": "true", "then": []})).collect::<Vec<_>>()});
    assert!(compile(&rules(RULES_MAX)).is_ok());
    assert_eq!(pointers(&rules(RULES_MAX + 1)), ["/rules"]);
    let actions = |count: usize| rule("true", json!(vec![json!({"output": 1}); count]));
    assert!(compile(&actions(ACTIONS_MAX)).is_ok());
    assert_eq!(pointers(&actions(ACTIONS_MAX + 1)), ["/rules/0/then"]);
    let long = |chars: usize| rule(&format!("true{}", " ".repeat(chars - 4)), json!([]));
    assert!(compile(&long(EXPRESSION_CHARS_MAX)).is_ok());
    assert_eq!(pointers(&long(EXPRESSION_CHARS_MAX + 1)), ["/rules/0/when"]);
    let sum = format!("{{{{ {}1 }}}}", " ".repeat(4_000));
    let outputs = vec![json!({"output": [sum, sum]}); SOURCE_CHARS_MAX / 8_000 + 1];
    assert!(refusals(&rule("true", json!(outputs)))[0].detail.contains("all expressions together"));
}

/// Ways to nest, each a prefix, a core and a suffix to be repeated around it.
const NESTS: [(&str, &str, &str); 16] = [
    ("(", "1", ")"),
    ("[", "1", "]"),
    ("{'a':", "1", "}"),
    ("!", "true", ""),
    ("!(", "true", ")"),
    ("-", "1", ""),
    ("-(", "1", ")"),
    ("", "input", ".b"),
    ("", "input", "['b']"),
    ("string(", "1", ")"),
    ("", "1", "+1"),
    ("", "1", " in [1]"),
    ("false?1:", "1", ""),
    ("true?(", "1", "):1"),
    ("false&&true?1:", "1", ""),
    ("true&&(", "true", ")"),
];

fn nested((before, core, after): (&str, &str, &str), times: usize) -> String {
    format!("{}{core}{}", before.repeat(times), after.repeat(times))
}

#[test]
fn hostile_nesting_is_an_error_and_never_a_crash() {
    for nest in NESTS {
        for times in [EXPRESSION_DEPTH_MAX + 1, 250, 100_000] {
            assert_eq!(pointers(&rule(&nested(nest, times), json!([]))), ["/rules/0/when"], "{nest:?}");
            let unclosed = nested((nest.0, nest.1, ""), times);
            assert!(nest.0.is_empty() || compile(&rule(&unclosed, json!([]))).is_err(), "{nest:?}");
        }
    }
}

#[test]
fn the_deepest_expression_that_is_read_fits_on_a_small_stack() {
    let deep = (0..60).fold(json!(1), |inner, _| json!({"b": inner}));
    let deepest = |nest| {
        (1..=EXPRESSION_DEPTH_MAX)
            .rev()
            .map(|times| nested(nest, times))
            .find(|source| check_depth(source).is_ok())
            .unwrap()
    };
    let mut sources: Vec<String> = NESTS.into_iter().map(deepest).collect();
    sources.push(format!("[1].map(x, [1].map(y, input{}))", "['b']".repeat(EXPRESSION_DEPTH_MAX - 4)));
    let run = move || {
        for source in sources {
            assert!(
                evaluate(&rule("true", json!([{"output": format!("{{{{ {source} }}}}")}])), &deep).is_ok(),
                "{source}"
            );
        }
    };
    std::thread::Builder::new().stack_size(TEST_STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

#[test]
fn work_that_would_take_too_long_is_stopped() {
    let items: Vec<Value> = (0..3_000).map(|i| json!({"n": i, "name": format!("item {i}")})).collect();
    let input = json!({"items": items, "text": "abc ".repeat(20_000), "one": [1], "ns": vec![1; 10_000], "large": [vec![1; 5_000]]});
    let long_body = format!("input.ns.exists(x, {})", vec!["false"; 400].join(" || "));
    let grow = format!("input.one{}.size() > 0", ".map(x, [x,x,x,x,x,x,x,x,x,x,x,x])".repeat(7));
    for when in [
        "input.items.exists(x, input.items.exists(y, x.n + y.n < 0))",
        "input.items.all(x, input.items.exists(y, x.n + y.n < 0) || true) && false",
        "input.items.exists(x, input.text.contains('zzz'))",
        "input.items.exists(x, input.text.matches('a{3}z'))",
        "input.items.exists(x, input == 1)",
        "input.items.exists(x, input.items[{'a': input}.a] == 1)",
        "input.items.exists(x, (input.items + input.items).size() < 3)",
        "input.items.exists(x, [input, input].size() < 2)",
        "input.items.exists(x, input.?items.hasValue() && false)",
        "input.items.exists(x, (input.items + [1])[0] == 5)",
        "input.items.exists(x, input.large.exists(y, false))",
        long_body.as_str(),
        grow.as_str(),
    ] {
        let code = evaluate(&rule(when, json!([])), &input).map_err(|failure| failure.code);
        assert_eq!(code, Err(FailureCode::RuleTooCostly), "{when}");
    }
}

#[test]
fn an_error_that_copies_its_list_cannot_be_provoked_in_a_loop() {
    let input = json!({"items": vec![1; 3_000]});
    for position in ["0.5", "input.items[0] / 2.0"] {
        assert!(
            failure(&format!("input.items.exists(x, input.items[{position}] == 2)"), input.clone())
                .contains("must be a whole number")
        );
    }
}

#[test]
fn everyday_work_over_many_items_is_allowed() {
    let items: Vec<Value> =
        (0..10_000).map(|i| json!({"amount": i % 10, "sku": format!("A-{i}"), "tags": ["a", "b"]})).collect();
    let each = "input.items.exists(x, x.amount > 10 && x.sku.startsWith('B'))";
    assert!(!holds(&[each; 8].join(" || "), json!({"items": items})));
    assert_eq!(COST_UNITS_MAX, 5_000_000);
}

#[test]
fn a_result_beyond_a_mebibyte_is_too_large() {
    let input = json!({"half": "x".repeat(512 * 1024 - 200), "escaped": "\u{1}".repeat(200 * 1024)});
    let outputs = |text: &str, count: usize| rule("true", json!(vec![json!({"output": text}); count]));
    assert!(evaluate(&outputs("{{ input.half }}", 2), &input).is_ok());
    for (text, count) in [
        ("{{ input.half }}", 3),
        ("{{ [input.half, input.half, input.half] }}", 1),
        ("{{ input.half }}{{ input.half }}!{{ input.half }}", 1),
        ("{{ input.escaped }}", 1),
    ] {
        let error = evaluate(&outputs(text, count), &input).unwrap_err();
        assert_eq!(error.code.as_str(), "result_too_large", "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn no_mangled_expression_panics(edits in prop::collection::vec((0_usize..40, prop::sample::select(TOKENS.to_vec())), 0..4), base in prop::sample::select(BASES.to_vec())) {
        let mut parts: Vec<&str> = base.split(' ').collect();
        for (at, token) in edits {
            let at = at % parts.len();
            parts[at] = token;
        }
        let input = json!({"a": 1, "b": [1.5, "x", null], "c": {"a": "2026-11-22T09:30:00Z"}});
        if let Ok(rules) = compile(&rule(&parts.join(" "), json!([]))) {
            let _ = rules.evaluate(&facts(&input));
        }
    }
}

const TOKENS: [&str; 32] = [
    "input",
    "input.a",
    "input.b",
    "input.c",
    "now",
    "task",
    "x",
    ".",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "?",
    "&&",
    "!",
    "-",
    "+",
    "/",
    "%",
    "in",
    "1",
    "-9223372036854775808",
    "0",
    "1.5",
    "'x'",
    "null",
    "has(",
    "duration('1h')",
];

const BASES: [&str; 5] = [
    "input.b . all ( x , x + 1 > 1 && x in [ 1 , 2 ] ) ? 'x' : { 'a' : 1 , 'b' : - 2 } . a",
    "has ( input.c . a ) || ! input.a && size ( x ) == 1u",
    "input . ? a . optMap ( x , x + 1 ) . orValue ( 3 ) == input.b [ 0 ] / 2",
    "[ ? input . ? a , 2 ] [ 0 ] . map ( x , x > 1 , x * 2 ) . exists_one ( y , y )",
    "timestamp ( input.c . a ) - now > duration ( '1h' ) && now . getHours ( 'UTC' ) % 2 == 0",
];
