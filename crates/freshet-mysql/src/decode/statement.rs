//! What a statement in a QUERY event does to tables: transaction control, DDL on named tables, DML, or unknown.
//!
//! A small reading of words, never a parser of SQL: column definitions come from the binlog's metadata, so all that is
//! needed is which tables a statement concerns. What does not fit is [`Statement::Unknown`], and that stops the
//! pipeline wherever a captured table might be meant.

use super::lexer::{Lexer, Quoting, Token};

/// A table as a statement names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) schema: Option<String>,
    pub(super) table: String,
}

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// Begins a transaction.
    Begin,
    /// Ends one.
    Commit,
    /// Takes one back.
    Rollback,
    /// Takes a part of one back.
    RollbackTo,
    /// Sets or forgets a savepoint.
    Savepoint,
    /// A distributed transaction.
    Xa,
    /// Neither rows nor definitions of tables.
    Harmless,
    /// Empties a table.
    Truncate(Name),
    /// Makes, changes, renames or drops these tables.
    Tables(Vec<Name>),
    /// Drops a database.
    DropDatabase(String),
    /// Changes rows, logged as a statement; [`mentioned`] tells what it names.
    Dml,
    /// None of the above.
    Unknown,
}

/// Kinds of things that DDL makes and that hold no captured rows.
const HARMLESS_KINDS: [&str; 19] = [
    "VIEW",
    "PROCEDURE",
    "FUNCTION",
    "TRIGGER",
    "EVENT",
    "USER",
    "ROLE",
    "SERVER",
    "SEQUENCE",
    "TABLESPACE",
    "LOGFILE",
    "RESOURCE",
    "REFERENCE",
    "PACKAGE",
    "LIBRARY",
    "INSTANCE",
    "TEMPORARY",
    "PREPARE",
    "CATALOG",
];
/// How far into a statement its kind may stand, behind options such as DEFINER.
const KIND_WITHIN_TOKENS: usize = 24;

/// Reads a statement.
pub(super) fn classify(text: &str, quoting: Quoting) -> Statement {
    let mut words = Words(Lexer::new(text, quoting));
    words.statement().unwrap_or(Statement::Unknown)
}

/// Every name that a statement mentions, with and without what stands before its dot.
pub(super) fn mentioned(text: &str, quoting: Quoting) -> impl Iterator<Item = Name> {
    let (mut before, mut is_dotted) = (None::<String>, false);
    Lexer::new(text, quoting).flat_map(move |token| {
        let found = match &token {
            Token::Word(word) => Some((*word).to_owned()),
            Token::Quoted(name) => Some(name.to_string()),
            Token::Text | Token::Mark(_) => None,
        };
        let bare = found.clone().map(|table| Name { schema: None, table });
        let schema = before.clone().filter(|_| is_dotted);
        let dotted = found.clone().zip(schema).map(|(table, schema)| Name { schema: Some(schema), table });
        is_dotted = token == Token::Mark('.');
        if !is_dotted {
            before = found;
        }
        [bare, dotted].into_iter().flatten()
    })
}

struct Words<'a>(Lexer<'a>);

impl Words<'_> {
    /// The next token if it is a word, in upper case.
    fn word(&mut self) -> Option<String> {
        match self.0.next()? {
            Token::Word(word) => Some(word.to_ascii_uppercase()),
            Token::Quoted(_) | Token::Text | Token::Mark(_) => None,
        }
    }

    /// Passes over these words if they come next.
    fn skip(&mut self, words: &[&str]) -> bool {
        let mut ahead = Words(self.0.clone());
        for word in words {
            if ahead.word().as_deref() != Some(*word) {
                return false;
            }
        }
        self.0 = ahead.0;
        true
    }

    fn skip_mark(&mut self, mark: char) -> bool {
        let mut ahead = self.0.clone();
        let is_there = ahead.next() == Some(Token::Mark(mark));
        if is_there {
            self.0 = ahead;
        }
        is_there
    }

    fn is_end(&self) -> bool {
        let mut ahead = Words(self.0.clone());
        ahead.skip_mark(';');
        ahead.0.next().is_none()
    }

    fn identifier(&mut self) -> Option<String> {
        match self.0.next()? {
            Token::Word(word) => Some(word.to_owned()),
            Token::Quoted(name) => Some(name.into_owned()),
            Token::Text | Token::Mark(_) => None,
        }
    }

    fn name(&mut self) -> Option<Name> {
        let first = self.identifier()?;
        if !self.skip_mark('.') {
            return Some(Name { schema: None, table: first });
        }
        Some(Name { schema: Some(first), table: self.identifier()? })
    }

    /// `WAIT n` and `NOWAIT`, MariaDB's.
    fn skip_wait(&mut self) {
        if self.skip(&["WAIT"]) {
            self.0.next();
        } else {
            self.skip(&["NOWAIT"]);
        }
    }

    fn statement(&mut self) -> Option<Statement> {
        let first = self.word()?;
        Some(match first.as_str() {
            "BEGIN" if self.is_end() || self.skip(&["WORK"]) => Statement::Begin,
            "START" if self.skip(&["TRANSACTION"]) => Statement::Begin,
            "COMMIT" if self.is_end() || self.skip(&["WORK"]) => Statement::Commit,
            "ROLLBACK" => self.rollback(),
            "SAVEPOINT" => Statement::Savepoint,
            "RELEASE" if self.skip(&["SAVEPOINT"]) => Statement::Savepoint,
            "XA" => Statement::Xa,
            "TRUNCATE" => self.truncate()?,
            "DROP" => self.drop()?,
            "CREATE" => self.create()?,
            "ALTER" => self.alter()?,
            "RENAME" => self.rename()?,
            "SET" => self.set()?,
            "LOAD" if self.skip(&["INDEX"]) => Statement::Harmless,
            "GRANT" | "REVOKE" | "FLUSH" | "ANALYZE" | "OPTIMIZE" | "CHECK" | "REPAIR" | "CHECKSUM"
            | "INSTALL" | "UNINSTALL" | "CACHE" | "RESET" | "PURGE" | "CHANGE" => Statement::Harmless,
            "INSERT" | "UPDATE" | "DELETE" | "REPLACE" | "LOAD" | "CALL" | "DO" | "SELECT" | "WITH"
            | "VALUES" | "EXECUTE" => Statement::Dml,
            _ => Statement::Unknown,
        })
    }

    fn rollback(&mut self) -> Statement {
        self.skip(&["WORK"]);
        if self.skip(&["TO"]) {
            Statement::RollbackTo
        } else if self.is_end() {
            Statement::Rollback
        } else {
            Statement::Unknown
        }
    }

    fn truncate(&mut self) -> Option<Statement> {
        self.skip(&["TABLE"]);
        let name = self.name()?;
        self.skip_wait();
        self.is_end().then_some(Statement::Truncate(name))
    }

    fn drop(&mut self) -> Option<Statement> {
        let kind = self.kind()?;
        let is_if = |words: &mut Self| words.skip(&["IF", "EXISTS"]);
        Some(match kind.as_str() {
            "TABLE" | "TABLES" => {
                is_if(self);
                let names = self.names()?;
                self.skip_wait();
                let _ = self.skip(&["RESTRICT"]) || self.skip(&["CASCADE"]);
                if !self.is_end() {
                    return None;
                }
                Statement::Tables(names)
            }
            "DATABASE" | "SCHEMA" => {
                is_if(self);
                Statement::DropDatabase(self.identifier()?)
            }
            "INDEX" => {
                is_if(self);
                self.identifier()?;
                self.index_table()?
            }
            _ => Statement::Harmless,
        })
    }

    fn create(&mut self) -> Option<Statement> {
        Some(match self.kind()?.as_str() {
            "TABLE" => {
                self.skip(&["IF", "NOT", "EXISTS"]);
                Statement::Tables(vec![self.name()?])
            }
            "INDEX" => {
                self.skip(&["IF", "NOT", "EXISTS"]);
                self.identifier()?;
                self.index_table()?
            }
            "TABLES" => return None,
            _ => Statement::Harmless,
        })
    }

    fn index_table(&mut self) -> Option<Statement> {
        for _ in 0..KIND_WITHIN_TOKENS {
            if matches!(self.0.next()?, Token::Word(word) if word.eq_ignore_ascii_case("ON")) {
                return Some(Statement::Tables(vec![self.name()?]));
            }
        }
        None
    }

    fn alter(&mut self) -> Option<Statement> {
        match self.kind()?.as_str() {
            "TABLE" => {}
            "INDEX" | "TABLES" => return None,
            _ => return Some(Statement::Harmless),
        }
        self.skip(&["IF", "EXISTS"]);
        let name = self.name()?;
        let mut ahead = Words(self.0.clone());
        let is_keys = (ahead.skip(&["DISABLE", "KEYS"]) || ahead.skip(&["ENABLE", "KEYS"])) && ahead.is_end();
        if is_keys {
            return Some(Statement::Harmless);
        }
        let mut names = vec![name];
        self.other_tables(&mut names)?;
        Some(Statement::Tables(names))
    }

    /// The tables that the rest of an ALTER TABLE names: its new name, partitions exchanged or converted.
    fn other_tables(&mut self, names: &mut Vec<Name>) -> Option<()> {
        while let Some(token) = self.0.next() {
            let Token::Word(word) = token else { continue };
            if word.eq_ignore_ascii_case("RENAME") {
                if self.skip(&["COLUMN"]) || self.skip(&["INDEX"]) || self.skip(&["KEY"]) {
                    continue;
                }
                let _ = self.skip(&["TO"]) || self.skip(&["AS"]) || self.skip_mark('=');
                names.push(self.name()?);
            } else if word.eq_ignore_ascii_case("TABLE") {
                names.push(self.name()?);
            }
        }
        Some(())
    }

    fn rename(&mut self) -> Option<Statement> {
        if self.skip(&["USER"]) {
            return Some(Statement::Harmless);
        }
        if !self.skip(&["TABLE"]) && !self.skip(&["TABLES"]) {
            return None;
        }
        self.skip(&["IF", "EXISTS"]);
        let mut names = Vec::new();
        loop {
            names.push(self.name()?);
            self.skip_wait();
            if !self.skip(&["TO"]) {
                return None;
            }
            names.push(self.name()?);
            if !self.skip_mark(',') {
                return self.is_end().then_some(Statement::Tables(names));
            }
        }
    }

    fn set(&mut self) -> Option<Statement> {
        if self.skip(&["PASSWORD"]) || self.skip(&["DEFAULT", "ROLE"]) {
            return Some(Statement::Harmless);
        }
        if !self.skip(&["STATEMENT"]) {
            return None;
        }
        while let Some(token) = self.0.next() {
            if matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("FOR")) {
                return self.statement();
            }
        }
        None
    }

    fn names(&mut self) -> Option<Vec<Name>> {
        let mut names = vec![self.name()?];
        while self.skip_mark(',') {
            names.push(self.name()?);
        }
        Some(names)
    }

    /// What a CREATE, ALTER or DROP is about: the first word that is a kind of thing.
    fn kind(&mut self) -> Option<String> {
        const KINDS: [&str; 5] = ["TABLE", "TABLES", "INDEX", "DATABASE", "SCHEMA"];
        for _ in 0..KIND_WITHIN_TOKENS {
            let Token::Word(word) = self.0.next()? else { continue };
            let word = word.to_ascii_uppercase();
            if KINDS.contains(&word.as_str()) || HARMLESS_KINDS.contains(&word.as_str()) {
                return Some(word);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        match text.split_once('.') {
            Some((schema, table)) => Name { schema: Some(schema.to_owned()), table: table.to_owned() },
            None => Name { schema: None, table: text.to_owned() },
        }
    }

    fn check(text: &str, expect: Statement) {
        assert_eq!(classify(text, Quoting::default()), expect, "{text}");
    }

    fn tables(text: &str, names: &[&str]) {
        check(text, Statement::Tables(names.iter().map(|n| name(n)).collect()));
    }

    #[test]
    fn transaction_control() {
        check("BEGIN", Statement::Begin);
        check("START TRANSACTION", Statement::Begin);
        check("COMMIT", Statement::Commit);
        check("ROLLBACK", Statement::Rollback);
        check("ROLLBACK TO `sp`", Statement::RollbackTo);
        check("rollback work to savepoint sp", Statement::RollbackTo);
        check("SAVEPOINT `sp`", Statement::Savepoint);
        check("XA START X'61',X'',1", Statement::Xa);
        check("BEGIN NOT ATOMIC SELECT 1; END", Statement::Unknown);
    }

    #[test]
    fn d5_tables_named_by_ddl() {
        tables("CREATE TABLE IF NOT EXISTS `a`.`b` (x int)", &["a.b"]);
        tables("create or replace table t like u", &["t"]);
        tables("DROP TABLE IF EXISTS `a`,b.c /* generated by server */", &["a", "b.c"]);
        tables("DROP TABLES a CASCADE", &["a"]);
        tables("RENAME TABLE a TO b, `x`.c TO y.d", &["a", "b", "x.c", "y.d"]);
        tables("rename tables if exists a nowait to b", &["a", "b"]);
        tables("ALTER ONLINE TABLE t ADD COLUMN c int, RENAME TO u", &["t", "u"]);
        tables("ALTER TABLE t RENAME COLUMN a TO b, RENAME INDEX i TO j", &["t"]);
        tables("ALTER TABLE t EXCHANGE PARTITION p WITH TABLE x.y", &["t", "x.y"]);
        tables("ALTER /*!40000 IGNORE */ TABLE /*M! t */ DROP c", &["t"]);
        tables("CREATE UNIQUE INDEX i USING BTREE ON a.b (c)", &["a.b"]);
        tables("drop index i on t", &["t"]);
        check("ALTER TABLE t DISABLE KEYS", Statement::Harmless);
        check("DROP DATABASE IF EXISTS `d`", Statement::DropDatabase("d".into()));
        check("TRUNCATE t", Statement::Truncate(name("t")));
        check("truncate table `a`.t;", Statement::Truncate(name("a.t")));
        check("TRUNCATE TABLE t PARTITION p", Statement::Unknown);
    }

    #[test]
    fn ddl_that_touches_no_table() {
        for text in [
            "CREATE DEFINER=`root`@`localhost` PROCEDURE p() BEGIN DROP TABLE t; END",
            "CREATE ALGORITHM=UNDEFINED DEFINER=root@localhost SQL SECURITY DEFINER VIEW v AS SELECT 1",
            "CREATE OR REPLACE DEFINER=CURRENT_USER TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a=1",
            "CREATE TEMPORARY TABLE t (a int)",
            "DROP TEMPORARY TABLE IF EXISTS t",
            "DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `t`",
            "CREATE SPATIAL REFERENCE SYSTEM 4 NAME 'x' DEFINITION 'y'",
            "CREATE USER 'a'@'%' IDENTIFIED BY 'TABLE'",
            "DROP FUNCTION f",
            "ALTER EVENT e DISABLE",
            "GRANT SELECT ON *.* TO a",
            "FLUSH TABLES",
            "SET PASSWORD FOR a = 'x'",
            "ANALYZE TABLE t",
            "OPTIMIZE TABLE t",
        ] {
            check(text, Statement::Harmless);
        }
        check("CREATE DATABASE d", Statement::Harmless);
        check("ALTER DATABASE d CHARACTER SET utf8mb4", Statement::Harmless);
    }

    #[test]
    fn r11_dml_and_the_unknown() {
        for text in [
            "INSERT INTO t VALUES (1)",
            "with x as (select 1) delete from t",
            "LOAD DATA INFILE 'f' INTO TABLE t",
        ] {
            check(text, Statement::Dml);
        }
        check("SET STATEMENT max_statement_time=1 FOR UPDATE t SET a=1", Statement::Dml);
        for text in [
            "",
            "# Dummy event",
            "IMPORT TABLE FROM 'x.sdi'",
            "ALTER",
            "DROP TABLE",
            "RENAME TABLE a b",
            "CREATE x",
        ] {
            check(text, Statement::Unknown);
        }
        let names: Vec<Name> = mentioned("DELETE FROM `a`.b USING c", Quoting::default()).collect();
        for expect in ["a.b", "b", "c"] {
            assert!(names.contains(&name(expect)), "{expect} in {names:?}");
        }
    }
}
