//! Words, names and marks of a statement in a QUERY event.
//!
//! Not a parser. It knows comments, strings and quoted names under the statement's own `sql_mode`. What stands in an
//! executable comment (`/*! */`, `/*!80013 */`, `/*M! */`) counts as written: whether the server ran it depends on
//! its version, and reading more than was run can only stop us once too often (D10).

use std::borrow::Cow;

/// One piece of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// An unquoted word: keyword, name or number.
    Word(&'a str),
    /// A name in backticks, or in double quotes under ANSI_QUOTES.
    Quoted(Cow<'a, str>),
    /// A string; nothing here needs its text.
    Text,
    /// Any other character.
    Mark(char),
}

/// The parts of `sql_mode` that change how text is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quoting {
    pub(crate) ansi_quotes: bool,
    pub(crate) no_backslash_escapes: bool,
}

/// The tokens of a statement.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    rest: &'a str,
    quoting: Quoting,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str, quoting: Quoting) -> Self {
        Lexer { rest: text, quoting }
    }

    /// Bytes of the text from the next token on.
    pub(crate) fn left(&mut self) -> usize {
        self.skip_blank();
        self.rest.len()
    }

    /// Bytes of the text behind the token that was given last.
    pub(crate) fn left_behind(&self) -> usize {
        self.rest.len()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    fn skip_past(&mut self, end: &str) {
        self.rest = self.rest.split_once(end).map_or("", |(_, rest)| rest);
    }

    /// Passes over white space and comments, and over the marks of executable comments.
    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
            let dashes = self.rest.strip_prefix("--");
            if let Some(inner) = self.rest.strip_prefix("/*!").or_else(|| self.rest.strip_prefix("/*M!")) {
                self.rest = inner.trim_start_matches(|c: char| c.is_ascii_digit());
            } else if self.rest.starts_with("*/") {
                self.skip(2);
            } else if self.rest.starts_with("/*") {
                self.skip(2);
                self.skip_past("*/");
            } else if self.rest.starts_with('#')
                || dashes.is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || c.is_control()))
            {
                self.skip_past("\n");
            } else {
                return;
            }
        }
    }

    /// A string or name up to its closing quote, which stands doubled inside for itself.
    fn quoted(&mut self, quote: char, backslash: bool) -> Cow<'a, str> {
        let body = self.rest.get(1..).unwrap_or("");
        let mut chars = body.char_indices().peekable();
        let mut has_doubled = false;
        while let Some((at, c)) = chars.next() {
            if c == '\\' && backslash {
                chars.next();
            } else if c == quote && chars.peek().is_some_and(|next| next.1 == quote) {
                chars.next();
                has_doubled = true;
            } else if c == quote {
                self.rest = body.get(at + quote.len_utf8()..).unwrap_or("");
                let inner = body.get(..at).unwrap_or("");
                let doubled = [quote, quote].iter().collect::<String>();
                return match has_doubled {
                    true => Cow::Owned(inner.replace(&doubled, &quote.to_string())),
                    false => Cow::Borrowed(inner),
                };
            }
        }
        self.rest = "";
        Cow::Borrowed(body)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || c >= '\u{80}'
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        let backslash = !self.quoting.no_backslash_escapes;
        Some(match first {
            '`' => Token::Quoted(self.quoted('`', false)),
            '"' if self.quoting.ansi_quotes => Token::Quoted(self.quoted('"', false)),
            '"' | '\'' => {
                self.quoted(first, backslash);
                Token::Text
            }
            c if is_word(c) => {
                let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                Token::Word(word)
            }
            other => {
                self.skip(other.len_utf8());
                Token::Mark(other)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_comments_quotes_and_executable_comments() {
        let lex = |text: &'static str, quoting| Lexer::new(text, quoting).collect::<Vec<_>>();
        let name = |text: &'static str| Token::Quoted(Cow::Borrowed(text));
        let plain = Quoting::default();
        assert_eq!(
            lex("DROP /* a */ TABLE -- b\n `x``y`.\"s\\\"\" # c", plain),
            [Token::Word("DROP"), Token::Word("TABLE"), name("x`y"), Token::Mark('.'), Token::Text]
        );
        assert_eq!(
            lex("/*!50001 CREATE*/ /*M!100100 é*/ 'it''s\\' ' a--b", plain),
            [
                Token::Word("CREATE"),
                Token::Word("é"),
                Token::Text,
                Token::Word("a"),
                Token::Mark('-'),
                Token::Mark('-'),
                Token::Word("b")
            ]
        );
        let ansi = Quoting { ansi_quotes: true, no_backslash_escapes: true };
        assert_eq!(lex("\"a\"\"b\" '\\'", ansi), [name("a\"b"), Token::Text]);
        for open in ["`a", "'a", "/*", "/*!", "\"", "--", "#", "'\\"] {
            assert!(lex(open, plain).len() <= 2, "{open}");
        }
    }
}
