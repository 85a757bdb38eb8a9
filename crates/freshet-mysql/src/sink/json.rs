//! A JSON text as an expression that the server's `json` stores as it was: its decimals too.
//!
//! MySQL reads every number of a JSON text that is no integer of 64 bits as a double. A document made by its own
//! functions may hold decimals (`json_object('price', price)`), which it prints with all their digits; read back, they
//! would be rounded, or lose their trailing zeros. Such numbers are put into the document by `json_replace`. Not a parser:
//! the text was written by a server, and what is no JSON is refused by the target.

use crate::sink::encode::Fault;
use crate::sink::form::quote;
use std::fmt::Write as _;
use std::ops::Range;

/// The most that DECIMAL holds, in digits and in digits behind the point.
const DIGITS_MAX: usize = 65;
const SCALE_MAX: usize = 30;
/// Doubles from here to here are printed without an exponent.
const PLAIN: Range<f64> = 1e-15..1e15;

/// The expression.
pub(crate) fn literal(text: &str) -> Result<Vec<u8>, Fault> {
    let decimals = decimals(text)?;
    let mut out = Vec::with_capacity(text.len() + 2);
    if decimals.is_empty() {
        quote(text.as_bytes(), &mut out);
        return Ok(out);
    }
    out.extend_from_slice(b"json_replace(cast(");
    quote(text.as_bytes(), &mut out);
    out.extend_from_slice(b" as json)");
    for Decimal { path, digits, precision, scale } in decimals {
        out.push(b',');
        quote(path.as_bytes(), &mut out);
        out.extend_from_slice(format!(",cast('{digits}' as decimal({precision},{scale}))").as_bytes());
    }
    out.push(b')');
    Ok(out)
}

/// A number that a double does not stand for.
#[derive(Debug, PartialEq, Eq)]
struct Decimal<'t> {
    /// `$."a"[1]`
    path: String,
    digits: &'t str,
    precision: usize,
    scale: usize,
}

/// Where in an array or an object we are.
enum Place<'t> {
    Element(usize),
    /// The key as it stands in the text, quotes and escapes included, which is how a path takes it.
    Member(&'t str),
}

fn decimals(text: &str) -> Result<Vec<Decimal<'_>>, Fault> {
    let (bytes, mut found, mut places, mut at) = (text.as_bytes(), Vec::new(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => places.push(Place::Member("")),
            b'[' => places.push(Place::Element(0)),
            b'}' | b']' => drop(places.pop()),
            b',' => {
                if let Some(Place::Element(number)) = places.last_mut() {
                    *number += 1;
                }
            }
            b'"' => {
                let end = string_end(bytes, at);
                if let Some(Place::Member(key)) = places.last_mut()
                    && bytes[end..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':')
                {
                    *key = &text[at..end];
                }
                at = end;
                continue;
            }
            b'-' | b'0'..=b'9' => {
                let rest = &bytes[at..];
                let is_end = |b: &u8| !matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let end = at + rest.iter().position(is_end).unwrap_or(rest.len());
                if let Some((precision, scale)) = decimal(&text[at..end])? {
                    found.push(Decimal { path: path(&places), digits: &text[at..end], precision, scale });
                }
                at = end;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(found)
}

/// The end of the string that begins here, behind its quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn path(places: &[Place<'_>]) -> String {
    let mut out = "$".to_owned();
    for place in places {
        // Writing to a string cannot fail.
        let _ = match place {
            Place::Element(number) => write!(out, "[{number}]"),
            Place::Member(key) => write!(out, ".{key}"),
        };
    }
    out
}

/// Precision and scale, if the number has to be a decimal to be stored and printed as it is.
fn decimal(number: &str) -> Result<Option<(usize, usize)>, Fault> {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return Ok(None);
    }
    // What is no number, or too large for one, is the target's to refuse.
    let Some(double) = number.parse::<f64>().ok().filter(|f| f.is_finite()) else { return Ok(None) };
    if number.contains(['e', 'E']) {
        return if significant(number) == significant(&format!("{double:e}")) {
            Ok(None)
        } else {
            Err(Fault::JsonNumber)
        };
    }
    let printed = double.to_string();
    let printed = if printed.contains('.') { printed } else { format!("{printed}.0") };
    if printed == number && (double == 0.0 || PLAIN.contains(&double.abs())) {
        return Ok(None);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (precision, scale) = (whole.trim_start_matches('-').len() + fraction.len(), fraction.len());
    // The nought before the point is no digit of a DECIMAL.
    let precision = if whole.trim_start_matches('-') == "0" { scale.max(1) } else { precision };
    if precision > DIGITS_MAX || scale > SCALE_MAX {
        return Err(Fault::JsonNumber);
    }
    Ok(Some((precision, scale)))
}

/// The digits of a number that tell it from others with the same leading digit's place.
fn significant(number: &str) -> String {
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    digits.trim_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(&str, &str, usize, usize)]) {
        let found = decimals(text).unwrap();
        let found: Vec<_> = found.iter().map(|d| (d.path.as_str(), d.digits, d.precision, d.scale)).collect();
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn m15_what_is_no_double_is_a_decimal() {
        for text in [
            r#"{"a": [1, -5, 1.5, -0.0, 0.1, 1e300, 1.5e-16, 18446744073709551615], "b": "1.50"}"#,
            "[100000000000000.0, 0.000000000000001, true, null]",
            "0.1",
            "1e400",
        ] {
            check(text, &[]);
        }
        check("12.50", &[("$", "12.50", 4, 2)]);
        check("[1, 0.00, -1.00]", &[("$[1]", "0.00", 2, 2), ("$[2]", "-1.00", 3, 2)]);
        check("[18446744073709551616]", &[("$[0]", "18446744073709551616", 20, 0)]);
        check("[1000000000000000.0]", &[("$[0]", "1000000000000000.0", 17, 1)]);
        check(
            r#"{"x": [{"a\"]": "}", "ü,": [[], {}, 1.2345678901234567890]}, 2.10]}"#,
            &[(r#"$."x"[0]."ü,"[2]"#, "1.2345678901234567890", 20, 19), (r#"$."x"[1]"#, "2.10", 3, 2)],
        );
        assert_eq!(decimals("1.2345678901234567890e5"), Err(Fault::JsonNumber));
        assert_eq!(decimals(&format!("0.{}", "1".repeat(31))), Err(Fault::JsonNumber));
    }
}
