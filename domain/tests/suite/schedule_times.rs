//! When schedules fire: patterns on wall clocks, through the days on which those jump.
use chrono::{DateTime, Duration, Utc};
use marvin_domain::schedule::{AT_DAYS_MAX, CRON_CHARS_MAX, Plan, Timing, TimingError, When};
use proptest::prelude::*;

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

fn timing(cron: &str, timezone: &str) -> Timing {
    Timing { when: When::Cron(cron.into()), timezone: timezone.into() }
}

fn plan(cron: &str, timezone: &str) -> Plan {
    timing(cron, timezone).plan().unwrap()
}

/// What fires after this moment, in UTC.
fn fires(cron: &str, timezone: &str, after: &str, count: usize) -> Vec<String> {
    let plan = plan(cron, timezone);
    let next = |last: &DateTime<Utc>| plan.next_after(*last);
    let instants = std::iter::successors(next(&utc(after)), next).take(count);
    instants.map(|instant| instant.format("%Y-%m-%dT%H:%M").to_string()).collect()
}

#[test]
fn a_pattern_fires_when_the_clock_of_its_zone_says_so() {
    assert_eq!(
        fires("*/20 * * * *", "UTC", "2026-01-01T00:00", 3),
        ["2026-01-01T00:20", "2026-01-01T00:40", "2026-01-01T01:00"]
    );
    assert_eq!(fires("30 8 * * *", "Europe/Zurich", "2026-01-10T00:00", 1), ["2026-01-10T07:30"]);
    assert_eq!(fires("30 8 * * *", "America/New_York", "2026-07-10T00:00", 1), ["2026-07-10T12:30"]);
    assert_eq!(
        fires("0 9 * * MON-FRI", "Asia/Kathmandu", "2026-11-20T04:00", 2),
        ["2026-11-23T03:15", "2026-11-24T03:15"]
    );
    assert_eq!(fires("0 0 29 FEB *", "UTC", "2026-01-01T00:00", 2), ["2028-02-29T00:00", "2032-02-29T00:00"]);
    assert_eq!(fires("0 12 L * *", "UTC", "2026-02-01T00:00", 2), ["2026-02-28T12:00", "2026-03-31T12:00"]);
    assert_eq!(fires("0 12 * * 5#2", "UTC", "2026-02-01T00:00", 1), ["2026-02-13T12:00"]);
    assert_eq!(fires("0 12 15W * *", "UTC", "2026-08-01T00:00", 1), ["2026-08-14T12:00"]);
    // Where both days are named, either will do, as cron has always had it.
    assert_eq!(
        fires("0 0 13 * FRI", "UTC", "2026-06-06T00:00", 3),
        ["2026-06-12T00:00", "2026-06-13T00:00", "2026-06-19T00:00"]
    );
}

#[test]
fn an_instant_is_planned_strictly_behind_the_last_one() {
    let plan = plan("* * * * *", "Europe/Zurich");
    let noon = utc("2026-05-05T12:00");
    assert_eq!(plan.next_after(noon - Duration::milliseconds(1)), Some(noon));
    assert_eq!(plan.next_after(noon), Some(utc("2026-05-05T12:01")));
    assert_eq!(plan.next_after(noon + Duration::milliseconds(1)), Some(utc("2026-05-05T12:01")));
}

/// (pattern, zone, after, what fires from then on)
const JUMPS_FORWARD: [(&str, &str, &str, &[&str]); 9] = [
    // 02:00 to 03:00, which is 01:00 UTC.
    ("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T00:30"]),
    ("*/20 2 * * *", "Europe/Zurich", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T00:00"]),
    (
        "*/30 * * * *",
        "Europe/Zurich",
        "2026-03-29T00:15",
        &["2026-03-29T00:30", "2026-03-29T01:00", "2026-03-29T01:30"],
    ),
    // 03:00 is there: it is what the gap leads to, and fires once.
    ("0 2,3 * * *", "Europe/Zurich", "2026-03-28T12:00", &["2026-03-29T01:00", "2026-03-30T00:00"]),
    // 02:00 to 03:00, which is 07:00 UTC.
    ("15 2 * * *", "America/New_York", "2026-03-07T12:00", &["2026-03-08T07:00", "2026-03-09T06:15"]),
    // 02:00 to 02:30, which is 15:30 UTC of the day before.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", &["2026-10-03T15:30", "2026-10-04T15:15"]),
    ("45 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00", &["2026-10-03T15:45", "2026-10-04T15:45"]),
    // Behind Ramadan: 02:00 to 03:00, which is 02:00 UTC.
    ("30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00", &["2026-03-22T02:00", "2026-03-23T01:30"]),
    // The whole of 30 December 2011 was left out.
    ("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00", &["2011-12-29T19:00", "2011-12-30T10:00", "2011-12-30T19:00"]),
];

#[test]
fn a_time_that_a_jump_leaves_out_fires_at_the_jump_once() {
    for (cron, zone, after, expected) in JUMPS_FORWARD {
        assert_eq!(fires(cron, zone, after, expected.len()), expected, "{cron} in {zone}");
    }
}

const JUMPS_BACK: [(&str, &str, &str, &[&str]); 9] = [
    // 03:00 to 02:00, which is 01:00 UTC: 02:30 is 00:30 and 01:30 UTC.
    ("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00", &["2026-10-25T00:30", "2026-10-26T01:30"]),
    ("0 2,3 * * *", "Europe/Zurich", "2026-10-24T12:00", &["2026-10-25T00:00", "2026-10-25T02:00", "2026-10-26T01:00"]),
    (
        "30 * * * *",
        "Europe/Zurich",
        "2026-10-24T23:00",
        &["2026-10-24T23:30", "2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"],
    ),
    ("0 */2 * * *", "Europe/Zurich", "2026-10-24T23:00", &["2026-10-25T00:00", "2026-10-25T01:00", "2026-10-25T03:00"]),
    // 02:00 to 01:00, which is 06:00 UTC.
    ("15 1 * * *", "America/New_York", "2026-10-31T12:00", &["2026-11-01T05:15", "2026-11-02T06:15"]),
    // 02:00 to 01:30, which is 15:00 UTC of the day before.
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00", &["2026-04-04T14:45", "2026-04-05T15:15"]),
    (
        "*/15 * * * *",
        "Australia/Lord_Howe",
        "2026-04-04T14:40",
        &["2026-04-04T14:45", "2026-04-04T15:00", "2026-04-04T15:15", "2026-04-04T15:30"],
    ),
    // Before Ramadan: 03:00 to 02:00, which is 02:00 UTC.
    ("30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00", &["2026-02-15T01:30", "2026-02-16T02:30"]),
    // 00:00 to 23:00 of the day before: the last day of the pattern is longer than the pattern knows.
    (
        "59 * 14 3 *",
        "America/Asuncion",
        "2009-03-15T02:10",
        &["2009-03-15T02:59", "2009-03-15T03:59", "2010-03-14T03:59"],
    ),
];

#[test]
fn a_time_that_comes_twice_fires_the_first_time_unless_the_pattern_is_a_rhythm() {
    for (cron, zone, after, expected) in JUMPS_BACK {
        assert_eq!(fires(cron, zone, after, expected.len()), expected, "{cron} in {zone}");
    }
}

#[test]
fn in_the_second_of_two_like_hours_what_has_fired_in_the_first_is_over() {
    assert_eq!(fires("30 2 * * *", "Europe/Zurich", "2026-10-25T01:10", 1), ["2026-10-26T01:30"]);
    assert_eq!(fires("10-50/20 2 * * *", "Europe/Zurich", "2026-10-25T01:15", 1), ["2026-10-26T01:10"]);
    assert_eq!(fires("10 3 * * *", "Europe/Zurich", "2026-10-25T01:10", 1), ["2026-10-25T02:10"]);
}

#[test]
fn what_is_no_pattern_of_five_fields_is_refused_with_the_field() {
    let refused = |cron: &str| timing(cron, "UTC").plan().unwrap_err().to_string();
    for cron in [
        "",
        "* * * *",
        "0 * * * * *",
        "0 0 0 1 1 * 2027",
        "@daily",
        "@reboot now",
        "? * * * *",
        "* * * * +1",
        "ä * * * *",
    ] {
        assert!(matches!(timing(cron, "UTC").plan(), Err(TimingError::Cron(_))), "{cron}");
    }
    for (cron, field) in [
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 32 * *", "day of the month"),
        ("* * * FOO *", "month"),
        ("* * * * 9", "day of the week"),
        ("5-1/0 * * * *", "minute"),
    ] {
        assert!(refused(cron).ends_with(&format!("the {field} is not understood")), "{cron}: {}", refused(cron));
    }
    assert!(refused(&"*".repeat(100_000)).contains(&CRON_CHARS_MAX.to_string()));
    assert!(refused(&format!("{} * * * *", "0,".repeat(99))).len() < 200);
}

#[test]
fn a_zone_is_an_iana_name() {
    for zone in ["Europe/Zurich", "UTC", "America/Argentina/Ushuaia"] {
        assert!(timing("* * * * *", zone).plan().is_ok(), "{zone}");
    }
    for zone in ["", "Mars/Olympus", "CEST+1", "europe", "../UTC", "UTC\0"] {
        assert_eq!(timing("* * * * *", zone).plan().unwrap_err(), TimingError::Timezone, "{zone}");
    }
}

#[test]
fn what_never_fires_is_refused_and_a_moment_must_come() {
    let now = utc("2026-11-23T12:00");
    for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert_eq!(timing(cron, "Europe/Zurich").first_after(now), Err(TimingError::NeverFires), "{cron}");
    }
    let moment = |at| Timing { when: When::At(at), timezone: "UTC".into() }.first_after(now);
    let (second, century) = (Duration::seconds(1), Duration::days(AT_DAYS_MAX));
    assert_eq!(moment(now + second), Ok(now + second));
    assert_eq!([now, now - second, now + century + second].map(moment), [(); 3].map(|()| Err(TimingError::Moment)));
}

#[test]
fn the_latest_instants_are_found_without_going_through_all_of_them() {
    let (first, until) = (utc("2006-01-01T00:00"), utc("2026-01-01T00:00"));
    let minutes = plan("* * * * *", "Europe/Zurich");
    assert_eq!(minutes.latest(first, until, 2), [utc("2025-12-31T23:59"), until]);
    assert_eq!(minutes.latest(until - Duration::minutes(1), until, 100).len(), 2);
    let yearly = plan("0 0 1 1 *", "UTC");
    assert_eq!(yearly.latest(first, until, 3), [utc("2024-01-01T00:00"), utc("2025-01-01T00:00"), until]);
    assert_eq!(yearly.latest(first, until, 100).len(), 21);
}

proptest! {
    /// Whatever the zone does, a rhythm of minutes fires each minute of real time.
    #[test]
    fn every_minute_is_every_minute_of_real_time(zone in prop::sample::select(vec![
        "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kathmandu",
    ]), minute in 21_000_000_i64..30_000_000) {
        let at = DateTime::from_timestamp(minute * 60, 0).unwrap();
        prop_assert_eq!(plan("* * * * *", zone).next_after(at), Some(at + Duration::minutes(1)));
    }

    /// From wherever it is asked, the next instant is the same until it has come.
    #[test]
    fn the_next_instant_depends_on_the_pattern_alone(zone in prop::sample::select(vec![
        "Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia",
    ]), cron in prop::sample::select(vec!["30 2 * * *", "0 */3 * * *", "15 1,2,3 * * 7", "45 * 25 10 *", "0 0 31 12 *"]),
        second in 1_300_000_000_i64..1_900_000_000, share in 0.0..1.0_f64) {
        let at = DateTime::from_timestamp(second, 0).unwrap();
        let plan = plan(cron, zone);
        let next = plan.next_after(at).unwrap();
        prop_assert!(next > at);
        let between = at + Duration::seconds(((next - at).num_seconds() as f64 * share) as i64);
        prop_assert_eq!(plan.next_after(between.min(next - Duration::seconds(1))), Some(next));
    }
}
