//! Every limit of an agent is held within its bounds, whenever it is set.
use marvin_domain::agent::{Agent, AgentCommand, AgentCreated, AgentError, AgentEvent, Limits};
use serde_json::json;

use crate::{
    given::{given, given_nothing},
    samples::name,
};

const DAY_MS: u64 = 86_400_000;
const DEFAULT: Limits = Limits {
    max_attempts: 5,
    timeout_ms: 60_000,
    backoff_initial_ms: 1_000,
    backoff_max_ms: 60_000,
    max_concurrency: 4,
};

fn refused(field: &'static str, min: u64, max: u64) -> Result<(), AgentError> {
    Err(AgentError::LimitOutOfBounds { field, min, max })
}

#[test]
fn the_defaults_are_those_of_the_contract_and_within_bounds() {
    assert_eq!(Limits::default(), DEFAULT);
    assert_eq!(DEFAULT.check(), Ok(()));
}

#[test]
fn an_agent_makes_1_to_20_attempts() {
    let check = |max_attempts| Limits { max_attempts, ..DEFAULT }.check();
    assert_eq!([1, 20].map(check), [Ok(()), Ok(())]);
    assert_eq!([0, 21].map(check), [refused("max_attempts", 1, 20), refused("max_attempts", 1, 20)]);
}

#[test]
fn an_attempt_takes_a_millisecond_to_a_day() {
    let check = |timeout_ms| Limits { timeout_ms, ..DEFAULT }.check();
    assert_eq!([1, DAY_MS].map(check), [Ok(()), Ok(())]);
    assert_eq!([0, DAY_MS + 1].map(check), [refused("timeout_ms", 1, DAY_MS), refused("timeout_ms", 1, DAY_MS)]);
}

#[test]
fn the_first_pause_is_none_to_a_day() {
    let check = |backoff_initial_ms| Limits { backoff_initial_ms, backoff_max_ms: DAY_MS, ..DEFAULT }.check();
    assert_eq!([0, DAY_MS].map(check), [Ok(()), Ok(())]);
    assert_eq!(check(DAY_MS + 1), refused("backoff_initial_ms", 0, DAY_MS));
}

#[test]
fn the_longest_pause_is_the_first_one_to_a_day() {
    let check = |backoff_max_ms| Limits { backoff_max_ms, ..DEFAULT }.check();
    assert_eq!([1_000, DAY_MS].map(check), [Ok(()), Ok(())]);
    assert_eq!(check(999), refused("backoff_max_ms", 1_000, DAY_MS));
    assert_eq!(check(DAY_MS + 1), refused("backoff_max_ms", 1_000, DAY_MS));
}

#[test]
fn an_agent_runs_1_to_1000_tasks_at_once() {
    let check = |max_concurrency| Limits { max_concurrency, ..DEFAULT }.check();
    assert_eq!([1, 1_000].map(check), [Ok(()), Ok(())]);
    assert_eq!([0, 1_001].map(check), [refused("max_concurrency", 1, 1_000), refused("max_concurrency", 1, 1_000)]);
}

#[test]
fn limits_are_checked_when_an_agent_is_created_and_when_it_is_changed() {
    let limits = Limits { max_attempts: 0, ..DEFAULT };
    let refusal = AgentError::LimitOutOfBounds { field: "max_attempts", min: 1, max: 20 };
    let (kind, config) = (String::from("rules"), || json!({}).into());
    given_nothing::<Agent>()
        .when(AgentCommand::Create {
            name: name("Scribe"),
            description: String::new(),
            kind: kind.clone(),
            config: config(),
            limits,
        })
        .then_error(refusal);
    let created: AgentEvent =
        AgentCreated { name: name("Scribe"), description: String::new(), kind, config: config(), limits: DEFAULT }
            .into();
    given([created])
        .when(AgentCommand::Change { name: None, description: None, config: None, limits: Some(limits) })
        .then_error(refusal);
}

#[test]
fn a_refused_limit_is_named_with_its_bounds() {
    let refusal = Limits { max_attempts: 21, ..DEFAULT }.check().unwrap_err();
    assert_eq!(refusal.to_string(), "limits.max_attempts must be 1 to 20");
}

#[test]
fn limits_that_are_not_given_take_their_defaults_and_unknown_ones_are_refused() {
    let read = |json: &str| serde_json::from_str::<Limits>(json);
    assert_eq!(read(r#"{"max_attempts":2}"#).unwrap(), Limits { max_attempts: 2, ..DEFAULT });
    assert!(read(r#"{"max_attempt":2}"#).is_err());
}
