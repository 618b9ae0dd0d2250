//! JSON values as an expression sees them, and back. What comes back is always JSON, bounded in size and depth.
use super::failure::Trouble;
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelDuration, CelInt, CelList, CelMap, CelMapKey, CelNull, CelOptional, CelString,
    CelTimestamp, CelType, CelUInt,
};
use cel::common::value::Val;
use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// Bytes of everything one evaluation produces: what the journal keeps of a step at most.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;

/// Levels of a produced value: what the API reads back.
pub const RESULT_DEPTH_MAX: usize = 64;

/// How much an evaluation may still produce.
#[derive(Debug)]
pub(super) struct Room {
    bytes_left: usize,
}

impl Room {
    pub fn new() -> Self {
        Self { bytes_left: RESULT_BYTES_MAX }
    }

    pub fn take(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    }
}

pub(super) fn too_large() -> Trouble {
    Trouble::too_large(format!("the rules produced more than {RESULT_BYTES_MAX} bytes"))
}

/// Whole numbers become `int` (`uint` beyond its range), others `double`; texts are borrowed, not copied.
pub(super) fn from_json<'v>(value: &'v Value) -> Box<dyn Val + 'v> {
    match value {
        Value::Null => Box::new(CelNull),
        Value::Bool(b) => Box::new(CelBool::from(*b)),
        Value::Number(n) => from_number(n),
        Value::String(s) => Box::new(CelString::from(s.as_str())),
        Value::Array(items) => Box::new(CelList::from(items.iter().map(from_json).collect::<Vec<_>>())),
        Value::Object(fields) => {
            let entries: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
                fields.iter().map(|(key, value)| (CelMapKey::from(key.as_str()), from_json(value))).collect();
            Box::new(CelMap::from(entries))
        }
    }
}

fn from_number(number: &Number) -> Box<dyn Val> {
    if let Some(int) = number.as_i64() {
        Box::new(CelInt::from(int))
    } else if let Some(uint) = number.as_u64() {
        Box::new(CelUInt::from(uint))
    } else {
        Box::new(CelDouble::from(number.as_f64().unwrap_or(f64::NAN)))
    }
}

/// Times become RFC 3339 in UTC with milliseconds, durations seconds such as `1.5s`, bytes base64, types their names.
pub(super) fn to_json(value: &dyn Val, room: &mut Room) -> Result<Value, Trouble> {
    to_json_at(value, room, RESULT_DEPTH_MAX)
}

fn to_json_at(value: &dyn Val, room: &mut Room, levels_left: usize) -> Result<Value, Trouble> {
    if let Some(list) = value.downcast_ref::<CelList>() {
        let levels_left = deeper(levels_left)?;
        room.take(2)?;
        let items = list.inner().iter().map(|item| to_json_at(item.as_ref(), room, levels_left));
        return items.collect::<Result<_, _>>().map(Value::Array);
    }
    if let Some(map) = value.downcast_ref::<CelMap>() {
        let levels_left = deeper(levels_left)?;
        let mut fields = Map::new();
        for (key, value) in map.inner() {
            let key = scalar_text(key.inner())?;
            room.take(key.len() + 4)?;
            fields.insert(key, to_json_at(value.as_ref(), room, levels_left)?);
        }
        return Ok(Value::Object(fields));
    }
    let json = scalar(value)?;
    room.take(json.as_str().map_or(4, |text| text.len() + 2))?;
    Ok(json)
}

fn deeper(levels_left: usize) -> Result<usize, Trouble> {
    levels_left
        .checked_sub(1)
        .ok_or_else(|| Trouble::too_large(format!("a produced value nests deeper than {RESULT_DEPTH_MAX} levels")))
}

/// A value inside a text: texts as they are, lists and objects as JSON.
pub(super) fn to_text(value: &dyn Val, room: &mut Room) -> Result<String, Trouble> {
    let is_compound = value.downcast_ref::<CelList>().is_some() || value.downcast_ref::<CelMap>().is_some();
    if is_compound { to_json(value, room).map(|json| json.to_string()) } else { scalar_text(value) }
}

fn scalar_text(value: &dyn Val) -> Result<String, Trouble> {
    match scalar(value)? {
        Value::String(text) => Ok(text),
        // `25.0` reads better as 25 in a sentence, and is what CEL's string() gives.
        Value::Number(number) => Ok(number
            .as_f64()
            .filter(|_| number.is_f64())
            .map_or_else(|| number.to_string(), |double| double.to_string())),
        other => Ok(other.to_string()),
    }
}

fn scalar(value: &dyn Val) -> Result<Value, Trouble> {
    if let Some(text) = value.downcast_ref::<CelString>() {
        return Ok(Value::String(text.inner().to_owned()));
    }
    if let Some(int) = value.downcast_ref::<CelInt>() {
        return Ok((*int.inner()).into());
    }
    if let Some(uint) = value.downcast_ref::<CelUInt>() {
        return Ok((*uint.inner()).into());
    }
    if let Some(double) = value.downcast_ref::<CelDouble>() {
        let number = Number::from_f64(*double.inner());
        return number
            .map(Value::Number)
            .ok_or_else(|| Trouble::failed("the result is infinite or not a number, which JSON cannot hold"));
    }
    if let Some(boolean) = value.downcast_ref::<CelBool>() {
        return Ok(Value::Bool(*boolean.inner()));
    }
    if value.downcast_ref::<CelNull>().is_some() {
        return Ok(Value::Null);
    }
    unusual_scalar(value)
}

fn unusual_scalar(value: &dyn Val) -> Result<Value, Trouble> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = if let Some(time) = value.downcast_ref::<CelTimestamp>() {
        time.inner().with_timezone(&Utc).to_rfc3339_opts(SecondsFormat::Millis, true)
    } else if let Some(duration) = value.downcast_ref::<CelDuration>() {
        seconds_text(duration.inner())
    } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
        BASE64_STANDARD.encode(bytes.inner())
    } else if let Some(named) = value.downcast_ref::<CelType>() {
        named.name().to_owned()
    } else if value.downcast_ref::<CelOptional>().is_some() {
        return Err(Trouble::failed("the result is optional; orValue(…) says what stands there when it is missing"));
    } else {
        return Err(Trouble::failed(format!("a value of type {} cannot be kept as JSON", value.get_type().name())));
    };
    Ok(Value::String(text))
}

fn seconds_text(duration: &chrono::Duration) -> String {
    let nanos = duration.subsec_nanos();
    let sign = if duration.num_seconds() < 0 || nanos < 0 { "-" } else { "" };
    let whole = duration.num_seconds().unsigned_abs();
    let fraction = format!("{:09}", nanos.unsigned_abs());
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}s"),
        fraction => format!("{sign}{whole}.{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            proptest::num::f64::NORMAL.prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(".{0,6}", inner, 0..6)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_comes_back_as_it_went_in(value in any_json()) {
            prop_assert_eq!(to_json(from_json(&value).as_ref(), &mut Room::new()), Ok(value));
        }
    }

    #[test]
    fn spans_are_written_in_seconds() {
        assert_eq!(seconds_text(&chrono::Duration::milliseconds(1_500)), "1.5s");
        assert_eq!(seconds_text(&chrono::Duration::milliseconds(-500)), "-0.5s");
        assert_eq!(seconds_text(&chrono::Duration::hours(24)), "86400s");
    }

    #[test]
    fn converting_stops_when_the_room_is_used_up() {
        let list = json!([1, 2, 3, 4]);
        assert!(to_json(from_json(&list).as_ref(), &mut Room { bytes_left: 18 }).is_ok());
        assert_eq!(to_json(from_json(&list).as_ref(), &mut Room { bytes_left: 17 }), Err(too_large()));
    }

    #[test]
    fn a_value_too_deep_to_be_read_back_is_refused() {
        let deep = (0..=RESULT_DEPTH_MAX).fold(json!(1), |inner, _| json!([inner]));
        assert!(to_json(from_json(&deep).as_ref(), &mut Room::new()).is_err());
    }
}
