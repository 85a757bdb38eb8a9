//! A table as SHOW CREATE TABLE prints it, cut into its columns, indexes, constraints and partitions.
//!
//! Cut, not parsed: strings, names and comments are passed over whole, and the text is cut at the commas between. What a
//! part says is not read, but for its first words and name. `information_schema` would need no cutting, but it does not
//! give the text back: MySQL prints expressions there with their quotes escaped, and neither server shows whether a
//! character set was declared or inherited, how an index is to be made beside its columns, or the text of partitions.
//! Settings of a table do come from there.
//!
//! Invariant: the columns are those of the catalogue, in its order; a text that is not cut into these gives nothing, and
//! the table is made as for another product.

use freshet_core::error::{Error, Result};
use freshet_core::schema::TableName;
use freshet_core::table::{Object, ObjectKind, Piece, Printed, TableInfo};
use freshet_core::types::DataType;

use super::keys::{self, ForeignKey};
use super::{sql_ident, sql_name, sure};
use crate::decode::lexer::{Lexer, Quoting, Token};
use crate::wire::Connection;

/// A part of the text between two commas.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part<'a> {
    /// Name, and what stands behind it.
    Column(String, &'a str),
    /// Kind, name and the whole part.
    Object(ObjectKind, String, &'a str),
}

/// Reads the text of a table and adds it to what the catalogue tells, `outer` among it; the table's foreign keys.
pub(super) async fn read(
    connection: &mut Connection,
    info: &mut TableInfo,
    outer: Printed,
) -> Result<Vec<ForeignKey>> {
    let rows = connection.query(&format!("SHOW CREATE TABLE {}", sql_name(info.name()))).await?;
    let ddl = rows.first(1).ok_or_else(|| {
        Error::invalid(format!("The server does not show how table {} is made", info.name()))
    })?;
    let mut found = Vec::new();
    let Some((parts, partitions)) = cut(ddl) else {
        let text = format!("How the server prints table {} is not understood", info.name());
        return Err(Error::unsupported(text).with_hint("Exclude the table, and report the statement"));
    };
    let mut columns = Vec::new();
    for part in parts {
        match part {
            Part::Column(name, text) => columns.push((name, text)),
            Part::Object(ObjectKind::ForeignKey, _, text) => {
                let (key, object) = foreign_key(info.name(), text).ok_or_else(|| {
                    Error::unsupported(format!("A foreign key of table {} is not understood", info.name()))
                })?;
                info.native.objects.push(object);
                found.push(key);
            }
            Part::Object(kind, name, text) => info.native.objects.push(object(info, kind, name, text)),
        }
    }
    let names = info.schema.columns().iter().map(|column| &column.name);
    if names.eq(columns.iter().map(|(name, _)| name)) {
        let columns = columns.iter().enumerate().map(|(at, (_, text))| column(info, at, text)).collect();
        info.native.printed = Some(Printed { columns, partitions, ..outer });
    }
    Ok(found)
}

/// The parts, and the text of the partitions.
fn cut(ddl: &str) -> Option<(Vec<Part<'_>>, String)> {
    let mut lexer = Lexer::new(ddl, Quoting::default());
    while lexer.next()? != Token::Mark('(') {}
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_u32, ddl.len() - lexer.left());
    loop {
        let end = ddl.len() - lexer.left();
        match lexer.next()? {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') if depth > 0 => depth -= 1,
            Token::Mark(mark @ (',' | ')')) if depth == 0 => {
                parts.push(part(ddl.get(start..end)?.trim())?);
                start = ddl.len() - lexer.left();
                if mark == ')' {
                    return Some((parts, partitions(ddl.get(start..)?)));
                }
            }
            Token::Mark(_) | Token::Word(_) | Token::Quoted(_) | Token::Text => {}
        }
    }
}

fn part(text: &str) -> Option<Part<'_>> {
    let mut lexer = Lexer::new(text, Quoting::default());
    let first = match lexer.next()? {
        Token::Quoted(name) => {
            let behind = text.get(text.len() - lexer.left_behind()..)?.trim_start();
            return Some(Part::Column(name.into_owned(), behind));
        }
        Token::Word(word) => word,
        Token::Text | Token::Mark(_) => return None,
    };
    let mut named = || match lexer.find(|token| !matches!(token, Token::Word(_)))? {
        Token::Quoted(name) => Some(name.into_owned()),
        Token::Word(_) | Token::Text | Token::Mark(_) => None,
    };
    Some(match first {
        "PRIMARY" => Part::Object(ObjectKind::Key, String::new(), text),
        "UNIQUE" => Part::Object(ObjectKind::Unique, named()?, text),
        "KEY" | "FULLTEXT" | "SPATIAL" | "VECTOR" => Part::Object(ObjectKind::Index, named()?, text),
        "CONSTRAINT" => {
            let name = named()?;
            let kind = match lexer.next()? {
                Token::Word("CHECK") => ObjectKind::Check,
                Token::Word("FOREIGN") => ObjectKind::ForeignKey,
                Token::Word(_) | Token::Quoted(_) | Token::Text | Token::Mark(_) => return None,
            };
            Part::Object(kind, name, text)
        }
        // Nothing that rows depend on: a pair of columns that a statement may cut by.
        "PERIOD" => Part::Object(ObjectKind::Check, String::new(), text),
        _ => return None,
    })
}

/// `PARTITION BY ..` without the comment that it may stand in, and without the source's own directories.
fn partitions(tail: &str) -> String {
    let mut lexer = Lexer::new(tail, Quoting::default());
    let (mut out, mut from, mut before) = (String::new(), None, String::new());
    loop {
        let start = tail.len() - lexer.left();
        let Some(token) = lexer.next() else { break };
        let word = if let Token::Word(word) = token { word.to_ascii_uppercase() } else { String::new() };
        let is_place = (word == "DIRECTORY" && ["DATA", "INDEX"].contains(&before.as_str()))
            || (word == "TABLESPACE" && from.is_some());
        if word == "PARTITION" && from.is_none() {
            from = Some(start);
        } else if let (true, Some(begun)) = (is_place, from) {
            let begins = start - if word == "DIRECTORY" { before.len() + 1 } else { 0 };
            out.push_str(tail.get(begun..begins).unwrap_or_default());
            let value = lexer.find(|token| *token != Token::Mark('='));
            from = value.map(|_| tail.len() - lexer.left());
        }
        before = word;
    }
    out.push_str(from.and_then(|from| tail.get(from..)).unwrap_or_default());
    out.trim_end().trim_end_matches("*/").trim_end().to_owned()
}

/// What stands behind a column's name, or why it may not be made as it is; nothing for a column that the server cannot
/// print.
fn column(info: &TableInfo, at: usize, text: &str) -> std::result::Result<String, String> {
    let is_shown = |label: &String| label.chars().all(|c| u32::from(c) <= 0xFFFF);
    match &info.schema.columns()[at].data_type {
        DataType::Enum { labels } | DataType::Set { labels } if !labels.iter().all(is_shown) => {
            return Err(String::new());
        }
        _ => {}
    }
    match sure::of_column(info, text) {
        Some(why) => Err(why),
        None => Ok(text.to_owned()),
    }
}

fn object(info: &TableInfo, kind: ObjectKind, name: String, text: &str) -> Object {
    let obstacle = if kind == ObjectKind::Check { sure::of_check(info, text) } else { None };
    let add = Piece::Words(format!(" add {text}"));
    Object {
        kind,
        name,
        deferrable: false,
        obstacle,
        definition: text.to_owned(),
        statement: vec![Piece::Words("alter table ".to_owned()), Piece::Table(info.name().clone()), add],
    }
}

fn foreign_key(table: &TableName, text: &str) -> Option<(ForeignKey, Object)> {
    let (key, columns, behind) = keys::parse(table, text)?;
    let words = |text: String| Piece::Words(text);
    let name = sql_ident(&key.name);
    let statement = vec![
        words("alter table ".to_owned()),
        Piece::Table(table.clone()),
        words(format!(" add constraint {name} foreign key {columns} references ")),
        Piece::Table(key.references.clone()),
        words(format!(" {behind}")),
    ];
    let (kind, name) = (ObjectKind::ForeignKey, key.name.clone());
    let object =
        Object { kind, name, deferrable: false, obstacle: None, definition: text.to_owned(), statement };
    Some((key, object))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "CREATE TABLE `t``(,` (\n  `a``b, (c` varchar(20) CHARACTER SET latin1 DEFAULT 'a''b\\\\,(' COMMENT 'x'',\\ny -- /* `',\n  \
        `KEY` int GENERATED ALWAYS AS (concat(`a``b, (c`,_utf8mb4'(\\'\\n')) STORED,\n  \
        `h` int DEFAULT '3' /*!80023 INVISIBLE */,\n  PRIMARY KEY (`KEY`),\n  UNIQUE KEY `u,)` (`h`) COMMENT ')',\n  \
        FULLTEXT KEY `ft` (`a``b, (c`) /*!50100 WITH PARSER `ngram` */ ,\n  \
        CONSTRAINT `fk` FOREIGN KEY (`h`) REFERENCES `o`.`p` (`id`),\n  CONSTRAINT `c``k` CHECK ((`h` <> 4)) /*!80016 NOT ENFORCED */\n\
        ) ENGINE=InnoDB COMMENT='PARTITION BY ('\n/*!50100 PARTITION BY RANGE (`KEY`)\n\
        (PARTITION p0 VALUES LESS THAN (10) DATA DIRECTORY = '/d/, ' COMMENT = 'x)' ENGINE = InnoDB) */";

    #[test]
    fn text_is_cut_where_no_quote_or_comment_is_open() {
        let (parts, partitions) = cut(NASTY).expect("parts");
        let object = |kind, name: &str, text| Part::Object(kind, name.to_owned(), text);
        assert_eq!(
            parts,
            [
                Part::Column(
                    "a`b, (c".to_owned(),
                    "varchar(20) CHARACTER SET latin1 DEFAULT 'a''b\\\\,(' COMMENT 'x'',\\ny -- /* `'"
                ),
                Part::Column(
                    "KEY".to_owned(),
                    "int GENERATED ALWAYS AS (concat(`a``b, (c`,_utf8mb4'(\\'\\n')) STORED"
                ),
                Part::Column("h".to_owned(), "int DEFAULT '3' /*!80023 INVISIBLE */"),
                object(ObjectKind::Key, "", "PRIMARY KEY (`KEY`)"),
                object(ObjectKind::Unique, "u,)", "UNIQUE KEY `u,)` (`h`) COMMENT ')'"),
                object(
                    ObjectKind::Index,
                    "ft",
                    "FULLTEXT KEY `ft` (`a``b, (c`) /*!50100 WITH PARSER `ngram` */"
                ),
                object(
                    ObjectKind::ForeignKey,
                    "fk",
                    "CONSTRAINT `fk` FOREIGN KEY (`h`) REFERENCES `o`.`p` (`id`)"
                ),
                object(
                    ObjectKind::Check,
                    "c`k",
                    "CONSTRAINT `c``k` CHECK ((`h` <> 4)) /*!80016 NOT ENFORCED */"
                ),
            ]
        );
        assert_eq!(
            partitions,
            "PARTITION BY RANGE (`KEY`)\n(PARTITION p0 VALUES LESS THAN (10) COMMENT = 'x)' ENGINE = InnoDB)"
        );
    }

    #[test]
    fn text_that_does_not_end_gives_nothing() {
        for end in (0..NASTY.find(") ENGINE").unwrap_or_default()).filter(|end| NASTY.is_char_boundary(*end))
        {
            assert_eq!(cut(&NASTY[..end]), None, "{end}");
        }
        assert_eq!(cut("CREATE TABLE `t` (\n  WHAT `x`\n)"), None);
    }

    #[test]
    fn partitions_without_a_comment_around_them() {
        let text = " ENGINE=InnoDB\n PARTITION BY KEY (`a`)\nPARTITIONS 2";
        assert_eq!(partitions(text), "PARTITION BY KEY (`a`)\nPARTITIONS 2");
        assert_eq!(partitions(" ENGINE=InnoDB TABLESPACE `x`"), "");
    }
}
