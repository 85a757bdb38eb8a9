//! One map of the file while it is being read: hands out its keys, collects every problem, and in the end knows
//! which keys nobody asked for.

use super::Secret;
use super::expand::{self, Expanded, Variables};
use super::problem::{Problem, closest};
use super::tree::{Entry, Node, Value};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// What all sections of one file share.
pub struct Context<'c> {
    /// Where variables come from. Files of secrets are read only if they are looked up.
    pub variables: Variables<'c>,
    /// Directory that relative paths are relative to.
    pub dir: &'c Path,
    /// What makes the file unusable.
    pub problems: RefCell<Vec<Problem>>,
    /// What is allowed and unwise.
    pub warnings: RefCell<Vec<Problem>>,
}

/// A scalar.
struct Scalar {
    /// Text after expansion; `None` if it cannot be known.
    text: Option<String>,
    line: u64,
}

/// One map.
pub struct Section<'s> {
    context: &'s Context<'s>,
    path: String,
    line: u64,
    entries: &'s [Entry],
    /// It is no map, which was noted; that its keys are missing goes without saying.
    broken: bool,
    asked: RefCell<Vec<&'static str>>,
}

impl<'s> Section<'s> {
    /// The section at `node`; a problem is noted if that is no map.
    pub fn new(context: &'s Context<'s>, path: String, node: &'s Node) -> Self {
        let entries: Option<&[Entry]> = match &node.value {
            Value::Map(entries) => Some(entries),
            Value::Null | Value::Scalar(_) | Value::List(_) => None,
        };
        if entries.is_none() {
            let message = "Must be a map of keys".to_owned();
            let problem = Problem { line: node.line, key: path.clone(), message, hint: None };
            context.problems.borrow_mut().push(problem);
        }
        Self {
            context,
            path,
            line: node.line,
            broken: entries.is_none(),
            entries: entries.unwrap_or_default(),
            asked: RefCell::default(),
        }
    }

    /// The section under `key`, which is required.
    pub fn section(&self, key: &'static str) -> Option<Section<'s>> {
        let section = self.optional_section(key);
        if section.is_none() {
            self.missing(key);
        }
        section
    }

    /// The section under `key`, if it is there.
    pub fn optional_section(&self, key: &'static str) -> Option<Section<'s>> {
        let entry = self.find(key)?;
        Some(Section::new(self.context, self.join(key), &entry.node))
    }

    /// The sections of the list under `key`, which is required and not empty.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'s>> {
        let Some(entry) = self.find(key) else {
            self.missing(key);
            return Vec::new();
        };
        match &entry.node.value {
            Value::List(items) if !items.is_empty() => items
                .iter()
                .enumerate()
                .map(|(i, item)| Section::new(self.context, format!("{}[{i}]", self.join(key)), item))
                .collect(),
            Value::List(_) | Value::Null | Value::Scalar(_) | Value::Map(_) => {
                self.problem(key, entry.line, "Must be a list with at least one entry", None);
                Vec::new()
            }
        }
    }

    /// Text that is required and not empty.
    pub fn text(&self, key: &'static str) -> String {
        match self.find(key) {
            Some(entry) => {
                self.not_empty(key, self.scalar(key, &entry.node)).and_then(|s| s.text).unwrap_or_default()
            }
            None => {
                self.missing(key);
                String::new()
            }
        }
    }

    /// Text that may be left out, but not empty.
    pub fn optional_text(&self, key: &'static str) -> Option<String> {
        let entry = self.find(key)?;
        self.not_empty(key, self.scalar(key, &entry.node))?.text
    }

    /// A path, relative to the file's directory.
    pub fn optional_path(&self, key: &'static str) -> Option<PathBuf> {
        self.optional_text(key).map(|text| self.context.dir.join(text))
    }

    /// A path that is required.
    pub fn path(&self, key: &'static str) -> PathBuf {
        self.context.dir.join(self.text(key))
    }

    /// A value that `parse` understands, or `None` if the key is not there (or a problem was noted).
    pub fn parsed<T>(
        &self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let entry = self.find(key)?;
        let scalar = self.scalar(key, &entry.node)?;
        let value = parse(scalar.text.as_ref()?);
        if value.is_none() {
            self.problem(key, scalar.line, &format!("Must be {expected}"), None);
        }
        value
    }

    /// One of a closed set of words, or `None` if the key is not there (or a problem was noted).
    pub fn optional_choice<T: Copy>(&self, key: &'static str, options: &[(&'static str, T)]) -> Option<T> {
        let entry = self.find(key)?;
        let scalar = self.scalar(key, &entry.node)?;
        // YAML reads a bare null as nothing; where it is one of the words, it is that word.
        let text = match &entry.node.value {
            Value::Null if options.iter().any(|(word, _)| *word == "null") => "null".to_owned(),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Map(_) => scalar.text?,
        };
        let found = options.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
            let hint = closest(&text, words.iter().copied()).map(|word| format!("Did you mean {word}?"));
            self.problem(key, scalar.line, &format!("\"{text}\" is not one of {}", words.join(", ")), hint);
        }
        found
    }

    /// One of a closed set of words; required.
    pub fn choice<T: Copy>(&self, key: &'static str, options: &[(&'static str, T)]) -> Option<T> {
        if self.find(key).is_none() {
            let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
            let hint = Some(format!("Write one of {}", words.join(", ")));
            self.problem(key, self.line, "Is missing", hint);
        }
        self.optional_choice(key, options)
    }

    /// A list of texts; `None` if the key is not there. A text that cannot be known is the pattern of everything.
    pub fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let entry = self.find(key)?;
        match &entry.node.value {
            Value::List(items) => {
                let text = |s: Scalar| s.text.unwrap_or_else(|| "*.*".to_owned());
                Some(items.iter().filter_map(|item| self.scalar(key, item).map(text)).collect())
            }
            Value::Null | Value::Scalar(_) | Value::Map(_) => {
                self.problem(key, entry.line, "Must be a list, as in [\"shop.*\"]", None);
                Some(Vec::new())
            }
        }
    }

    /// A map of texts to texts; empty if the key is not there.
    pub fn pairs(&self, key: &'static str) -> Vec<(String, String)> {
        let Some(entry) = self.find(key) else { return Vec::new() };
        match &entry.node.value {
            Value::Map(entries) => entries
                .iter()
                .filter_map(|e| {
                    let value = self.not_empty(key, self.scalar(key, &e.node))?.text?;
                    Some((e.key.clone(), value))
                })
                .collect(),
            Value::Null | Value::Scalar(_) | Value::List(_) => {
                self.problem(key, entry.line, "Must be a map, as in { shop: public }", None);
                Vec::new()
            }
        }
    }

    /// The secret under `password`, or in the file under `password_file`.
    pub fn password(&self) -> Option<Secret> {
        let (inline, file) = (self.find("password"), self.find("password_file"));
        if let (Some(_), Some(second)) = (inline, file) {
            self.problem(
                "password_file",
                second.line,
                "Is given together with password",
                Some("Keep one of them".to_owned()),
            );
            return None;
        }
        if let Some(entry) = inline {
            return self.inline_password(entry);
        }
        let path = self.optional_path("password_file")?;
        match self.context.variables {
            Variables::Unknown => None,
            Variables::From(_) => self.read_password(&path, file.map_or(0, |e| e.line)),
        }
    }

    fn inline_password(&self, entry: &Entry) -> Option<Secret> {
        if let Value::Scalar(text) = &entry.node.value
            && !text.is_empty()
            && !expand::uses_variable(text)
        {
            self.warning(
                "password",
                entry.line,
                "The password stands in the file",
                Some("Use password: \"${VAR}\" or password_file"),
            );
        }
        self.scalar("password", &entry.node)?.text.map(Secret::new)
    }

    fn read_password(&self, path: &Path, line: u64) -> Option<Secret> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                self.warn_if_readable_by_others(path, line);
                let text = text.strip_suffix('\n').unwrap_or(&text);
                Some(Secret::new(text.strip_suffix('\r').unwrap_or(text)))
            }
            Err(e) => {
                let message = format!("File {} cannot be read: {}", path.display(), io_reason(&e));
                self.problem("password_file", line, &message, None);
                None
            }
        }
    }

    fn warn_if_readable_by_others(&self, path: &Path, line: u64) {
        use std::os::unix::fs::PermissionsExt;
        if std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0) {
            let message = format!("File {} can be read by other users", path.display());
            self.warning("password_file", line, &message, Some(&format!("chmod 600 {}", path.display())));
        }
    }

    /// Notes every key that nobody asked for. The last thing to be called on a section.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|e| !asked.contains(&e.key.as_str())) {
            let mut known: Vec<&str> = asked.clone();
            known.sort_unstable();
            known.dedup();
            let hint = match closest(&entry.key, known.iter().copied()) {
                Some(word) => format!("Did you mean {word}?"),
                None => format!("Known keys here: {}", known.join(", ")),
            };
            self.problem(&entry.key, entry.line, "Is not a key that freshet knows", Some(hint));
        }
    }

    /// Notes a problem with a key that is there.
    pub fn invalid(&self, key: &'static str, message: &str, hint: Option<String>) {
        let line = self.find(key).map_or(self.line, |e| e.line);
        self.problem(key, line, message, hint);
    }

    /// Notes something unwise about a key.
    pub fn unwise(&self, key: &'static str, message: &str, hint: &str) {
        let line = self.find(key).map_or(self.line, |e| e.line);
        self.warning(key, line, message, Some(hint));
    }

    /// Whether the key stands in the file.
    pub fn has(&self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: &'static str) -> Option<&'s Entry> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|e| e.key == key)
    }

    fn scalar(&self, key: &'static str, node: &Node) -> Option<Scalar> {
        let text = match &node.value {
            Value::Scalar(text) => text,
            Value::Null => "",
            Value::List(_) | Value::Map(_) => {
                self.problem(key, node.line, "Must be a single value", None);
                return None;
            }
        };
        match expand::expand(text, self.context.variables) {
            Ok(Expanded::Text(text)) => Some(Scalar { text: Some(text), line: node.line }),
            Ok(Expanded::Unknown) => Some(Scalar { text: None, line: node.line }),
            Err(message) => {
                self.problem(key, node.line, &message, None);
                None
            }
        }
    }

    fn not_empty(&self, key: &'static str, scalar: Option<Scalar>) -> Option<Scalar> {
        let scalar = scalar?;
        if scalar.text.as_deref() == Some("") {
            self.problem(key, scalar.line, "Is empty", None);
            return None;
        }
        Some(scalar)
    }

    fn missing(&self, key: &'static str) {
        self.problem(key, self.line, "Is missing", None);
    }

    fn problem(&self, key: &str, line: u64, message: &str, hint: Option<String>) {
        if self.broken {
            return;
        }
        let problem = Problem { line, key: self.join(key), message: message.to_owned(), hint };
        self.context.problems.borrow_mut().push(problem);
    }

    fn warning(&self, key: &str, line: u64, message: &str, hint: Option<&str>) {
        let hint = hint.map(str::to_owned);
        let warning = Problem { line, key: self.join(key), message: message.to_owned(), hint };
        self.context.warnings.borrow_mut().push(warning);
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Why a file cannot be read, without the operating system's number.
pub fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
