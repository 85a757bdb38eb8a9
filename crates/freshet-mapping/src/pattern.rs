//! Patterns over table names: `schema.table`, `*` for any run of characters, `?` for one, backticks around a part
//! that holds a dot (`` `odd.name`.* ``), a doubled backtick inside them for itself.

use freshet_core::source::Selects;
use freshet_core::{Error, Result, TableName};

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    schema: String,
    table: String,
    text: String,
}

impl Pattern {
    /// Reads a pattern; both parts are required.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::invalid(format!("Table pattern \"{text}\" {why}")).with_hint(
                "Write schema.table, with * and ? as wildcards and backticks around a part with a dot",
            )
        };
        let (schema, rest) = part(text).ok_or_else(|| bad("has an open backtick"))?;
        let rest = rest.strip_prefix('.').ok_or_else(|| bad("names no table"))?;
        let (table, rest) = part(rest).ok_or_else(|| bad("has an open backtick"))?;
        if schema.is_empty() || table.is_empty() || !rest.is_empty() {
            return Err(bad("is not of the form schema.table"));
        }
        Ok(Self { schema, table, text: text.to_owned() })
    }

    /// Whether the table's name matches.
    pub fn matches(&self, table: &TableName) -> bool {
        glob(&self.schema, &table.schema) && glob(&self.table, &table.table)
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// One part of a pattern and what follows it.
fn part(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('`') else {
        let end = text.find('.').unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    loop {
        let end = rest.find('`')?;
        out.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('`') {
            Some(more) => {
                out.push('`');
                rest = more;
            }
            None => return Some((out, rest)),
        }
    }
}

/// Wildcard match, iterative: on a mismatch after a `*` the star takes one character more.
fn glob(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut pi, mut ni) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while ni < n.len() {
        if pi < p.len() && p[pi] == '*' {
            star = Some((pi, ni));
            pi += 1;
        } else if pi < p.len() && (p[pi] == '?' || p[pi] == n[ni]) {
            (pi, ni) = (pi + 1, ni + 1);
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            (pi, ni) = (star_at + 1, taken + 1);
        } else {
            return false;
        }
    }
    p[pi..].iter().all(|c| *c == '*')
}

/// Schemas that belong to the servers themselves and are never captured.
const SYSTEM_SCHEMAS: [&str; 6] =
    ["mysql", "information_schema", "performance_schema", "sys", "pg_catalog", "pg_toast"];

/// Which tables a pipeline captures: those that an include pattern matches and no exclude pattern does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Selection {
    /// A selection of these patterns; at least one include pattern is required.
    pub fn new<S: AsRef<str>>(include: &[S], exclude: &[S]) -> Result<Self> {
        if include.is_empty() {
            return Err(Error::invalid("No table is included")
                .with_hint("List at least one pattern in tables.include"));
        }
        let parse = |list: &[S]| list.iter().map(|s| Pattern::parse(s.as_ref())).collect::<Result<Vec<_>>>();
        Ok(Self { include: parse(include)?, exclude: parse(exclude)? })
    }

    /// The schemas that the include patterns name, sorted; empty if one of them has a wildcard there.
    pub fn schemas(&self) -> Vec<&str> {
        if self.include.iter().any(|p| p.schema.contains(['*', '?'])) {
            return Vec::new();
        }
        let mut schemas: Vec<&str> = self.include.iter().map(|p| p.schema.as_str()).collect();
        schemas.sort_unstable();
        schemas.dedup();
        schemas
    }

    /// The selection as canonical text, for noticing that it changed between runs.
    pub fn digest(&self) -> String {
        let join = |list: &[Pattern]| {
            let mut texts: Vec<&str> = list.iter().map(Pattern::text).collect();
            texts.sort_unstable();
            texts.join(" ")
        };
        format!("include={}; exclude={}", join(&self.include), join(&self.exclude))
    }
}

impl Selects for Selection {
    fn selects(&self, table: &TableName) -> bool {
        !SYSTEM_SCHEMAS.contains(&table.schema.as_str())
            && self.include.iter().any(|p| p.matches(table))
            && !self.exclude.iter().any(|p| p.matches(table))
    }

    fn selects_schema(&self, schema: &str) -> bool {
        !SYSTEM_SCHEMAS.contains(&schema) && self.include.iter().any(|p| glob(&p.schema, schema))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, schema, table, expect) in [
            ("shop.*", "shop", "orders", true),
            ("shop.*", "shop2", "orders", false),
            ("shop.tmp_*", "shop", "tmp_", true),
            ("shop.t?p*x", "shop", "tappyx", true),
            ("shop.t?p*x", "shop", "tpx", false),
            ("*.*", "a.b", "c.d", true),
            ("`a.b`.`c``d`", "a.b", "c`d", true),
            ("shop.orders", "shop", "Orders", false),
            ("s.*a*b*", "s", "xxaxxbxxab", true),
            ("s.ü?", "s", "üß", true),
        ] {
            let p = Pattern::parse(pattern).expect("valid");
            assert_eq!(p.matches(&TableName::new(schema, table)), expect, "{pattern} on {schema}.{table}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in ["shop", "shop.", ".t", "a.b.c", "`a.b", "`a`b.c", ""] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
        assert!(Selection::new::<&str>(&[], &[]).is_err());
    }

    #[test]
    fn schemas_are_named_or_any() {
        let schemas = |include: &[&str]| {
            let s = Selection::new(include, &[]).expect("valid");
            s.schemas().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(schemas(&["b.*", "`a.b`.c", "b.x"]), ["a.b", "b"]);
        assert_eq!(schemas(&["b.*", "a?.c"]), Vec::<String>::new());
    }

    #[test]
    fn exclude_wins_and_system_schemas_are_never_selected() {
        let s = Selection::new(&["*.*"], &["shop.tmp_*"]).expect("valid");
        assert!(s.selects(&TableName::new("shop", "orders")));
        assert!(s.selects_schema("shop") && !s.selects_schema("mysql"));
        assert!(!Selection::new(&["shop.*"], &[]).expect("valid").selects_schema("other"));
        assert!(!s.selects(&TableName::new("shop", "tmp_1")) && !s.selects(&TableName::new("mysql", "user")));
    }
}
