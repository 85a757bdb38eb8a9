//! Blanks out what is not code in a Rust file: comments, strings and characters become spaces, lines stay lines.
//!
//! Not a parser: it knows just enough to tell a lifetime from a character and where a raw string ends.

/// The text with every character of comments and literals replaced by a space.
pub(super) fn blank(text: &str) -> String {
    let mut blanker = Blanker { rest: text, out: String::with_capacity(text.len()) };
    while !blanker.rest.is_empty() {
        blanker.step();
    }
    blanker.out
}

struct Blanker<'a> {
    rest: &'a str,
    out: String,
}

impl Blanker<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            self.blank_bytes(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank_bytes(block_comment_bytes(self.rest));
        } else if let Some(bytes) = self.at_word_start().then(|| raw_string_bytes(self.rest)).flatten() {
            self.blank_bytes(bytes);
        } else if self.rest.starts_with('"') {
            self.blank_bytes(quoted_bytes(self.rest, '"'));
        } else if let Some(bytes) = char_bytes(self.rest) {
            self.blank_bytes(bytes);
        } else if let Some(c) = self.rest.chars().next() {
            self.out.push(c);
            self.rest = &self.rest[c.len_utf8()..];
        }
    }

    fn at_word_start(&self) -> bool {
        !self.out.ends_with(|c: char| c.is_alphanumeric() || c == '_') || self.out.ends_with('b')
    }

    fn blank_bytes(&mut self, bytes: usize) {
        let (blanked, rest) = self.rest.split_at(bytes);
        self.out.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

/// Block comments nest.
fn block_comment_bytes(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// `r"..."`, `r#"..."#` and so on; nothing when none starts here.
fn raw_string_bytes(text: &str) -> Option<usize> {
    let after_r = text.strip_prefix('r')?;
    let hashes = after_r.len() - after_r.trim_start_matches('#').len();
    let body = after_r[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let body_bytes = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + body_bytes)
}

/// From an opening quote to the closing one, backslashes minded.
fn quoted_bytes(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if !escaped && c == quote {
            return at + 1;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

/// A character literal; nothing when it is a lifetime or no quote at all.
fn char_bytes(text: &str) -> Option<usize> {
    let body = text.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let is_literal = first == '\\' || body[first.len_utf8()..].starts_with('\'');
    is_literal.then(|| quoted_bytes(text, '\''))
}

#[cfg(test)]
mod tests {
    use super::blank;

    fn check(text: &str, expect: &str) {
        assert_eq!(blank(text), expect, "{text}");
    }

    #[test]
    fn literals_and_comments_become_spaces() {
        check("a // b\nc", "a     \nc");
        check("a /* b /* c */ d */ e", "a                   e");
        check(r#"f("{", x)"#, "f(   , x)");
        check(r#"f("\"{", x)"#, "f(     , x)");
        check(r###"f(r#"a"{"#)"###, "f(        )");
        check(r###"f(br#"{"#)"###, "f(b      )");
        check(r"'{' '\'' x", "         x");
        check("'é' + x", "    + x");
    }

    #[test]
    fn lifetimes_and_names_stay() {
        check("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check("for r in rows { r }", "for r in rows { r }");
    }
}
