//! What is wrong with a configuration file: a place, a sentence and, where there is one, the next step.

use std::fmt;

/// One problem. Never holds a secret: values are shown only of keys that are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file; 0 if unknown.
    pub line: u64,
    /// Path of the key, `sinks[0].port`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.key.as_str()) {
            (0, "") => {}
            (0, key) => write!(f, "{key}: ")?,
            (line, "") => write!(f, "line {line}: ")?,
            (line, key) => write!(f, "line {line}, {key}: ")?,
        }
        f.write_str(&self.message)
    }
}

/// The word of `known` that was probably meant by `word`: at most a third of its letters differ.
pub fn closest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word = word.to_lowercase();
    let edits_max = (word.chars().count() / 3).max(1);
    let scored = known.into_iter().map(|k| (edits(&word, &k.to_lowercase()), k));
    scored.filter(|(edits, _)| *edits <= edits_max).min_by_key(|(edits, _)| *edits).map(|(_, k)| k)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (above[j - 1] + differs).min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions() {
        let known = ["host", "port", "password", "password_file", "user"];
        for (word, expect) in [
            ("pasword", Some("password")),
            ("Host", Some("host")),
            ("prot", Some("port")),
            ("passwd_file", Some("password_file")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(closest(word, known), expect, "{word}");
        }
    }
}
