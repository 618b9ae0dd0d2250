//! Numbers and lists as people write them.

/// Below this relative difference, in percent, two values are called about the same.
const SAME_PERCENT: f64 = 0.5;

/// From this many percent on a ratio says less than the difference.
const PERCENT_MAX: f64 = 300.0;

/// Numbers from here on are written as a power of ten.
const LARGE: f64 = 1e9;

/// Numbers below are written as a power of ten.
const SMALL: f64 = 1e-3;

/// Three significant digits and all digits before the point, with commas between thousands.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(SMALL..LARGE).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = (2 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    format!("{sign}{}{fraction}", with_commas(digits))
}

fn with_commas(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Whole percents, except where only a decimal tells them from 0 or 100.
pub(super) fn percent(value: f64) -> String {
    let decimals = usize::from((value - value.round()).abs() > 0.05 && !(1.0..=99.0).contains(&value));
    format!("{value:.decimals$}%")
}

/// How `now` stands to `past`: "12% above", "4.5 below", "about the same as".
pub(super) fn change(past: f64, now: f64) -> String {
    let side = if now > past { "above" } else { "below" };
    let size = (now - past).abs();
    let percents = 100.0 * size / past.abs();
    if size == 0.0 || percents < SAME_PERCENT {
        "about the same as".into()
    } else if past > 0.0 && now > 0.0 && percents < PERCENT_MAX {
        format!("{} {side}", percent(percents))
    } else {
        format!("{} {side}", number(size))
    }
}

/// "5", "5 and 17", "5, 17 and 80".
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    match items.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_all_whole_ones() {
        let written = [0.0, 12.0, 12.345, 0.04567, 476.4, -1234567.8, 3e12, -2e-7].map(number);
        assert_eq!(written, ["0", "12", "12.3", "0.0457", "476", "-1,234,568", "3.00e12", "-2.00e-7"]);
        assert_eq!(number(999.96), "1,000");
    }

    #[test]
    fn a_change_is_a_percentage_where_that_means_something() {
        assert_eq!(change(100.0, 112.0), "12% above");
        assert_eq!(change(100.0, 91.0), "9% below");
        assert_eq!(change(100.0, 100.2), "about the same as");
        assert_eq!(change(-2.0, 3.0), "5 above");
        assert_eq!(change(0.0, 0.0), "about the same as");
        assert_eq!(change(0.0, 4.0), "4 above");
    }

    #[test]
    fn percents_are_whole_unless_that_would_mislead() {
        assert_eq!([95.0, 99.9, 57.4, 0.6].map(percent), ["95%", "99.9%", "57%", "0.6%"]);
    }

    #[test]
    fn a_list_ends_with_and() {
        let of = |items: &[u32]| list(items.iter().map(u32::to_string));
        assert_eq!([of(&[5]), of(&[5, 17]), of(&[5, 17, 80])], ["5", "5 and 17", "5, 17 and 80"]);
    }
}
