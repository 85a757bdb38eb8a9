//! `${VAR}` in values: `${NAME}` is the environment's value, `$$` is a dollar, any other dollar stands for itself.
//!
//! Not a shell: no defaults, no nesting, and what a variable holds is taken as it is, never expanded again.

/// Where variables come from.
#[derive(Clone, Copy)]
pub enum Variables<'v> {
    /// They are not looked up: a value that uses one is unknown (`freshet check --syntax`).
    Unknown,
    /// Looked up by name.
    From(&'v dyn Fn(&str) -> Option<String>),
}

/// A value after expansion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expanded {
    /// Text.
    Text(String),
    /// It uses a variable that is not looked up.
    Unknown,
}

/// Whether a value is written with a variable.
pub fn uses_variable(text: &str) -> bool {
    !matches!(expand(text, Variables::Unknown), Ok(Expanded::Text(_)))
}

/// Expands a value; the error is a sentence that names the variable and never its value.
pub fn expand(text: &str, variables: Variables<'_>) -> Result<Expanded, String> {
    let mut out = String::with_capacity(text.len());
    let mut unknown = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = after.find('}').ok_or("\"${\" is not closed, write $$ for a dollar")?;
            match value(&after[..end], variables)? {
                Some(value) => out.push_str(&value),
                None => unknown = true,
            }
            rest = &after[end + 1..];
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    Ok(if unknown { Expanded::Unknown } else { Expanded::Text(out) })
}

fn value(name: &str, variables: Variables<'_>) -> Result<Option<String>, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(plain) {
        return Err("A variable's name is letters, digits and underscores, as in ${SHOP_PASSWORD}".to_owned());
    }
    match variables {
        Variables::Unknown => Ok(None),
        Variables::From(get) => {
            get(name).map(Some).ok_or_else(|| format!("Environment variable {name} is not set"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<&str, &str>) {
        let get = |name: &str| match name {
            "A" => Some("x${B}$$".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let got = expand(text, Variables::From(&get));
        let expect = expect.map(|t| Expanded::Text(t.to_owned())).map_err(str::to_owned);
        assert_eq!(got, expect, "{text}");
    }

    #[test]
    fn variables_are_expanded_once() {
        check("plain", Ok("plain"));
        check("a${A}b", Ok("ax${B}$$b"));
        check("${EMPTY}", Ok(""));
        check("pa$word$", Ok("pa$word$"));
        check("$${A} $$", Ok("${A} $"));
        check("${MISSING}", Err("Environment variable MISSING is not set"));
        check("${A", Err("\"${\" is not closed, write $$ for a dollar"));
        let bad = "A variable's name is letters, digits and underscores, as in ${SHOP_PASSWORD}";
        check("${A:-x}", Err(bad));
        check("${}", Err(bad));
    }

    #[test]
    fn without_an_environment_a_value_is_unknown() {
        assert_eq!(expand("a${X}", Variables::Unknown), Ok(Expanded::Unknown));
        assert!(uses_variable("${X}") && !uses_variable("$$x$y"));
    }
}
