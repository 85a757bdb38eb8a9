//! A YAML document as a tree whose nodes know their line, so that every problem of a file can be told at once.
//!
//! Not the configuration: what the keys mean is in [`super::read`]. Scalars are kept as the text that was written
//! (`0123` stays `0123`, `yes` stays `yes`), so the reader of a key decides what it is, never YAML's guesses.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use std::fmt;

/// A place in the document and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Line, from 1; 0 if unknown.
    pub line: u64,
    /// What stands there.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Text as written, without its quotes.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Key.
    pub key: String,
    /// Its line.
    pub line: u64,
    /// Its value.
    pub node: Node,
}

/// A document that is not YAML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, 0 if unknown.
    pub line: u64,
    /// What is wrong. Never a piece of the document, which may hold a password.
    pub message: String,
}

/// Reads a document.
pub fn parse(source: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(source, options).map_err(|e| SyntaxError {
            line: e.location().map_or(0, |l| l.line()),
            message: sentence(&e.without_snippet().to_string()),
        })?;
    Ok(resolve(raw, source))
}

/// The parser's message in our form: one line, capital first, no place (it is shown apart), no full stop.
fn sentence(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    let line = line.strip_prefix("error: ").unwrap_or(line).trim_end_matches('.');
    let mut chars = line.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// What serde's untyped visitor tells, before the text of plain scalars is looked up in the source.
enum Raw {
    Null,
    Text(String),
    /// YAML took it for a number or a boolean; this is its own printing of it, in case the place is unknown.
    Plain(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

fn resolve(raw: Spanned<Raw>, source: &str) -> Node {
    let line = raw.referenced.line();
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(text) => Value::Scalar(text),
        Raw::Plain(fallback) => Value::Scalar(written(raw.defined, source).unwrap_or(fallback)),
        Raw::List(items) => Value::List(items.into_iter().map(|item| resolve(item, source)).collect()),
        Raw::Map(pairs) => Value::Map(pairs.into_iter().map(|(k, v)| entry(k, v, source)).collect()),
    };
    Node { line, value }
}

fn entry(key: Spanned<Raw>, value: Spanned<Raw>, source: &str) -> Entry {
    let key = resolve(key, source);
    let name = match key.value {
        Value::Scalar(text) => text,
        Value::Null => "null".to_owned(),
        Value::List(_) => "[...]".to_owned(),
        Value::Map(_) => "{...}".to_owned(),
    };
    Entry { key: name, line: key.line, node: resolve(value, source) }
}

/// The text at a scalar's place.
fn written(place: Location, source: &str) -> Option<String> {
    let span = place.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let len = usize::try_from(span.byte_len()?).ok()?;
    let text = source.get(start..start.checked_add(len)?)?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(v.to_string()))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Text(v.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Raw::Map(pairs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => format!("{}:null", node.line),
            Value::Scalar(text) => format!("{}:{text:?}", node.line),
            Value::List(items) => {
                format!("{}:[{}]", node.line, items.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Value::Map(entries) => {
                let entries = entries.iter().map(|e| format!("{}@{}={}", e.key, e.line, show(&e.node)));
                format!("{}:{{{}}}", node.line, entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn scalars_stay_as_written_and_know_their_line() {
        for (yaml, expect) in [
            ("a: 0123", r#"1:{a@1=1:"0123"}"#),
            (
                "a: yes\nb:  1e3   # c\nc: -7\nd: true",
                r#"1:{a@1=1:"yes" b@2=2:"1e3" c@3=3:"-7" d@4=4:"true"}"#,
            ),
            ("a: '12'\nb: \"t\\x41\"", r#"1:{a@1=1:"12" b@2=2:"tA"}"#),
            (
                "a: { type: mariadb, port: 3306, p: 0x1F }",
                r#"1:{a@1=1:{type@1=1:"mariadb" port@1=1:"3306" p@1=1:"0x1F"}}"#,
            ),
            ("a:\nb: ~\nc: [1, x.*]", r#"1:{a@1=1:null b@2=2:null c@3=3:[3:"1" 3:"x.*"]}"#),
            ("ü: 007 # ä\nb: 1_0", r#"1:{ü@1=1:"007" b@2=2:"1_0"}"#),
            ("12: a", r#"1:{12@1=1:"a"}"#),
        ] {
            assert_eq!(show(&parse(yaml).expect("valid")), expect, "{yaml}");
        }
    }

    #[test]
    fn o10_syntax_errors_show_nothing_of_the_document() {
        for (yaml, line) in [
            ("name: x\npassword: \"hunter2", 2),
            ("source: { password: hunter2\nname: x", 2),
            ("a: 1\n\tpassword: hunter2", 1),
            ("a: b: hunter2", 1),
            ("password: hunter2\npassword: hunter2", 2),
            ("password: !!int hunter2", 1),
            ("password: *hunter2", 1),
        ] {
            let error = parse(yaml).expect_err(yaml);
            assert!(!error.message.contains("hunter2"), "{yaml}: {}", error.message);
            assert_eq!(error.line, line, "{yaml}: {}", error.message);
        }
    }
}
