//! Checks a configuration and an input value by value, so that each refusal points at its place and says what would do.

use serde_json::{Map, Value};

use super::{InsightConfig, InsightInput};
use crate::error::FieldError;

/// Fewest values to say anything about.
pub(super) const VALUES_MIN: usize = 8;

/// Most values of one task: a minute for ten weeks, and still analysed within seconds.
pub(super) const VALUES_MAX: usize = 100_000;

/// Largest value either side of zero. Beyond it neighbouring numbers are no longer told apart to a tenth.
pub(super) const MAGNITUDE_MAX: f64 = 1e15;

/// Shortest season: with one value to a season there is none.
pub(super) const SEASON_MIN: usize = 2;

/// Longest season: two of them must fit into the longest series.
pub(super) const SEASON_MAX: usize = VALUES_MAX / 2;

/// Farthest forecast; what lies beyond is guesswork.
pub(super) const HORIZON_MAX: usize = 1_000;

/// Least probability with which a range may be asked to hold the value.
pub(super) const LEVEL_MIN: f64 = 0.01;

/// Greatest probability; a handful of held-out forecasts cannot speak of rarer misses.
pub(super) const LEVEL_MAX: f64 = 0.999;

/// Refused values that one answer lists: a wrong column should not make an answer as long as itself.
const ERRORS_MAX: usize = 20;

/// Checks the configuration of an agent.
///
/// # Errors
/// One entry for each refused field, with a pointer into the configuration.
pub fn check_config(config: &Value) -> Result<InsightConfig, Vec<FieldError>> {
    let mut reader = Reader::of(config, &["season", "horizon", "level"])?;
    let checked = InsightConfig {
        season: reader.whole("season", SEASON_MIN, SEASON_MAX),
        horizon: reader.whole("horizon", 1, HORIZON_MAX).unwrap_or_else(super::horizon_default),
        level: reader.level().unwrap_or_else(super::level_default),
    };
    reader.finish(checked)
}

/// Checks the input of a task.
///
/// # Errors
/// One entry for each refused field or value (at most 20), with a pointer into the input.
pub fn check_input(input: &Value) -> Result<InsightInput, Vec<FieldError>> {
    let mut reader = Reader::of(input, &["values", "season", "horizon", "level"])?;
    let values = reader.values();
    let longest = if values.is_empty() { SEASON_MAX } else { values.len() / 2 };
    let checked = InsightInput {
        season: reader.whole("season", SEASON_MIN, longest),
        horizon: reader.whole("horizon", 1, HORIZON_MAX),
        level: reader.level(),
        values,
    };
    reader.finish(checked)
}

/// Reads the fields of one object and gathers what is wrong.
struct Reader<'a> {
    fields: &'a Map<String, Value>,
    errors: Vec<FieldError>,
}

impl<'a> Reader<'a> {
    fn of(value: &'a Value, known: &[&str]) -> Result<Self, Vec<FieldError>> {
        let Value::Object(fields) = value else {
            return Err(vec![FieldError::new("", format!("must be an object with the fields {}", known.join(", ")))]);
        };
        let unknown = fields.keys().filter(|name| !known.contains(&name.as_str()));
        let errors = unknown
            .map(|name| {
                FieldError::new(pointer(name), format!("is not known here; the fields are {}", known.join(", ")))
            })
            .collect();
        Ok(Self { fields, errors })
    }

    fn refuse(&mut self, pointer: String, detail: String) {
        self.errors.push(FieldError { pointer, detail });
    }

    fn finish<T>(mut self, checked: T) -> Result<T, Vec<FieldError>> {
        self.errors.truncate(ERRORS_MAX);
        if self.errors.is_empty() { Ok(checked) } else { Err(self.errors) }
    }

    fn given(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn whole(&mut self, name: &str, least: usize, most: usize) -> Option<usize> {
        let value = self.given(name)?;
        // JSON knows one kind of number: 12.0 is a whole number too.
        let number = value.as_f64().filter(|number| number.fract() == 0.0);
        let fits = number.filter(|&number| number >= least as f64 && number <= most as f64);
        if fits.is_none() {
            let reach = if name == "season" { " (two full seasons must fit into the values)" } else { "" };
            self.refuse(pointer(name), format!("must be a whole number from {least} to {most}{reach}"));
        }
        fits.map(|number| number as usize)
    }

    fn level(&mut self) -> Option<f64> {
        let value = self.given("level")?;
        let fits = value.as_f64().filter(|level| (LEVEL_MIN..=LEVEL_MAX).contains(level));
        if fits.is_none() {
            self.refuse(pointer("level"), format!("must be a number from {LEVEL_MIN} to {LEVEL_MAX}, such as 0.95"));
        }
        fits
    }

    fn values(&mut self) -> Vec<Option<f64>> {
        let Some(Value::Array(items)) = self.fields.get("values") else {
            self.refuse(
                pointer("values"),
                "must be given: a list of numbers, oldest first, null where one is missing".into(),
            );
            return Vec::new();
        };
        if !(VALUES_MIN..=VALUES_MAX).contains(&items.len()) {
            let detail = format!("must hold {VALUES_MIN} to {VALUES_MAX} values, not {}", items.len());
            self.refuse(pointer("values"), detail);
            return Vec::new();
        }
        let mut values = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match number(item) {
                Ok(value) => values.push(value),
                Err(detail) if self.errors.len() < ERRORS_MAX => self.refuse(format!("/values/{at}"), detail),
                Err(_) => break,
            }
        }
        if self.errors.is_empty() && values.iter().all(Option::is_none) {
            self.refuse(pointer("values"), "must hold at least one number: all are null".into());
        }
        // Of a list that was refused anyway, only the length matters still (a season is measured by it).
        values.resize(items.len(), None);
        values
    }
}

fn number(item: &Value) -> Result<Option<f64>, String> {
    match item {
        Value::Null => Ok(None),
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.abs() <= MAGNITUDE_MAX => Ok(Some(value)),
            _ => Err(format!(
                "is too large: values must lie between -{MAGNITUDE_MAX:e} and {MAGNITUDE_MAX:e}; use a larger unit"
            )),
        },
        _ => Err("must be a number, or null where the value is missing".into()),
    }
}

/// RFC 6901: `~` and `/` in a name are written `~0` and `~1`.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers<T: std::fmt::Debug>(result: Result<T, Vec<FieldError>>) -> Vec<String> {
        result.unwrap_err().into_iter().map(|error| error.pointer).collect()
    }

    fn input(extra: Value) -> Value {
        let mut input = json!({ "values": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] });
        input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        input
    }

    #[test]
    fn an_empty_configuration_takes_the_defaults() {
        assert_eq!(check_config(&json!({})).unwrap(), InsightConfig { season: None, horizon: 12, level: 0.95 });
    }

    #[test]
    fn each_wrong_field_of_a_configuration_is_pointed_at() {
        let wrong = json!({ "season": 1, "horizon": 0, "level": 1, "colour": "red", "a/b": 1 });
        assert_eq!(pointers(check_config(&wrong)), ["/a~1b", "/colour", "/season", "/horizon", "/level"]);
        for wrong in [json!({ "horizon": 1001 }), json!({ "horizon": 1.5 }), json!({ "horizon": "12" })] {
            assert_eq!(pointers(check_config(&wrong)), ["/horizon"]);
        }
        assert_eq!(pointers(check_config(&json!([]))), [""]);
    }

    #[test]
    fn the_bounds_themselves_are_accepted() {
        assert!(check_config(&json!({ "season": 2, "horizon": 1, "level": 0.01 })).is_ok());
        assert!(check_config(&json!({ "season": 50000, "horizon": 1000, "level": 0.999 })).is_ok());
        assert!(check_input(&input(json!({ "season": 5, "horizon": 12.0, "level": null }))).is_ok());
        assert!(check_input(&json!({ "values": vec![1; 100_000] })).is_ok());
        assert!(check_input(&json!({ "values": [null, null, null, null, null, null, null, -1e15] })).is_ok());
    }

    #[test]
    fn a_season_that_does_not_fit_twice_is_refused() {
        assert_eq!(pointers(check_input(&input(json!({ "season": 6 })))), ["/season"]);
    }

    #[test]
    fn a_list_of_wrong_length_or_without_numbers_is_refused() {
        for values in
            [json!([1, 2, 3]), json!(vec![1; 100_001]), json!([null, null, null, null, null, null, null, null])]
        {
            assert_eq!(pointers(check_input(&json!({ "values": values }))), ["/values"]);
        }
        assert_eq!(pointers(check_input(&json!({}))), ["/values"]);
    }

    #[test]
    fn each_wrong_value_is_pointed_at() {
        let errors = check_input(&json!({ "values": [1, 2, "3", 4, 5, 6, 7, 2e15, true] })).unwrap_err();
        let places: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(places, ["/values/2", "/values/7", "/values/8"]);
        assert!(errors[1].detail.contains("1e15"), "{}", errors[1].detail);
    }

    #[test]
    fn an_answer_lists_at_most_twenty_errors() {
        assert_eq!(check_input(&json!({ "values": vec!["x"; 500] })).unwrap_err().len(), 20);
    }
}
