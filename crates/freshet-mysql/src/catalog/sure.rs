//! Whether an expression of a column or a check is sure to have one value for one row, whoever computes it and when.
//!
//! A target that computes a generated column itself must come to the value that the source has. So what is sure is a
//! list: functions and words outside of it are in doubt, and so is what depends on a session's time zone, or on a mode
//! or setting. In doubt a column stays an ordinary one that holds the source's values, and a check is told and not made.
//! The servers forbid some of this, and not the same of it.

use freshet_core::table::TableInfo;
use freshet_core::types::DataType;

use crate::decode::lexer::{Lexer, Quoting, Token};

/// Functions whose value depends on their arguments alone, and words that a parenthesis may stand behind: operators, and
/// types that values are cast to.
const CALLS: &[&str] = &[
    "abs",
    "and",
    "array",
    "as",
    "ascii",
    "between",
    "bigint",
    "bin",
    "bin_to_uuid",
    "binary",
    "bit_count",
    "bit_length",
    "case",
    "cast",
    "ceil",
    "ceiling",
    "char",
    "char_length",
    "character_length",
    "check",
    "coalesce",
    "concat",
    "concat_ws",
    "convert",
    "crc32",
    "decimal",
    "div",
    "double",
    "else",
    "elt",
    "field",
    "find_in_set",
    "float",
    "floor",
    "from_base64",
    "greatest",
    "hex",
    "if",
    "ifnull",
    "in",
    "inet6_aton",
    "inet6_ntoa",
    "inet_aton",
    "inet_ntoa",
    "instr",
    "is_ipv4",
    "is_ipv6",
    "is_uuid",
    "isnull",
    "json_array",
    "json_contains",
    "json_contains_path",
    "json_depth",
    "json_exists",
    "json_extract",
    "json_keys",
    "json_length",
    "json_object",
    "json_quote",
    "json_type",
    "json_unquote",
    "json_valid",
    "json_value",
    "lcase",
    "least",
    "left",
    "length",
    "locate",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "mid",
    "mod",
    "not",
    "nullif",
    "nvl",
    "octet_length",
    "of",
    "or",
    "ord",
    "point",
    "position",
    "quote",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha",
    "sha1",
    "sha2",
    "sign",
    "signed",
    "space",
    "st_astext",
    "st_geohash",
    "st_latitude",
    "st_longitude",
    "st_srid",
    "st_x",
    "st_y",
    "strcmp",
    "substr",
    "substring",
    "substring_index",
    "then",
    "to_base64",
    "trim",
    "truncate",
    "ucase",
    "unhex",
    "unsigned",
    "upper",
    "uuid_to_bin",
    "varchar",
    "when",
    "xor",
];

/// Parts of dates and times. Of text they depend on which dates a mode lets pass.
const DATES: &[&str] = &[
    "date",
    "datetime",
    "day",
    "dayofmonth",
    "hour",
    "microsecond",
    "minute",
    "month",
    "quarter",
    "second",
    "time",
    "time_to_sec",
    "year",
];

/// What a check is allowed beside: a mode or setting could at most make it refuse a row.
const IN_CHECKS: &[&str] = &[
    "date_add",
    "date_sub",
    "datediff",
    "dayofweek",
    "dayofyear",
    "escape",
    "interval",
    "last_day",
    "like",
    "makedate",
    "regexp",
    "regexp_like",
    "rlike",
    "to_days",
    "weekday",
];

/// Words of expressions without a parenthesis behind them.
const WORDS: &[&str] = &[
    "both",
    "char",
    "character",
    "charset",
    "collate",
    "constraint",
    "double",
    "empty",
    "end",
    "enforced",
    "error",
    "false",
    "float",
    "for",
    "from",
    "int",
    "integer",
    "is",
    "json",
    "leading",
    "member",
    "null",
    "on",
    "returning",
    "set",
    "trailing",
    "true",
    "unknown",
    "using",
];

/// Character sets whose literals are printed as they are, whatever is in them.
const PRINTED_WHOLE: &[&str] = &["_utf8mb4", "_utf8mb3", "_utf8"];

/// Behind these stands the name of a character set or a collation.
const BEFORE_NAMES: &[&str] = &["charset", "set", "collate", "using"];

/// Why a column's own text may not be made on the target: its expression, or a check that stands beside it.
pub(super) fn of_column(info: &TableInfo, text: &str) -> Option<String> {
    let (mut depth, mut before) = (0_u32, "");
    let mut lexer = Lexer::new(text, Quoting::default());
    while let Some(token) = lexer.next() {
        let word = if let Token::Word(word) = token { word } else { "" };
        if ["nextval", "lastval", "setval"].iter().any(|own| word.eq_ignore_ascii_case(own)) {
            return Some("its default is given by a sequence".to_owned());
        }
        match token {
            Token::Mark('(') => {
                let begins = text.get(text.len() - lexer.left_behind()..).unwrap_or_default();
                let is_strict = before.eq_ignore_ascii_case("as");
                if depth == 0 && (is_strict || before.eq_ignore_ascii_case("check")) {
                    let why = doubt(info, begins, is_strict);
                    if why.is_some() {
                        return why;
                    }
                }
                depth += 1;
            }
            Token::Mark(')') => depth = depth.saturating_sub(1),
            Token::Mark(_) | Token::Word(_) | Token::Quoted(_) | Token::Text => {}
        }
        before = word;
    }
    None
}

/// Why a check may not be made while a pipeline writes the table.
pub(super) fn of_check(info: &TableInfo, text: &str) -> Option<String> {
    let (_, condition) = text.split_once("CHECK").unwrap_or_default();
    doubt(info, condition.split_once('(').map_or("", |(_, condition)| condition), false)
}

/// What is in doubt of an expression, which ends where the parenthesis before it is closed. `is_strict` for one whose
/// value is kept.
fn doubt(info: &TableInfo, text: &str, is_strict: bool) -> Option<String> {
    let (mut depth, mut before) = (1_u32, "");
    let (mut has_dates, mut has_text) = (false, false);
    let mut lexer = Lexer::new(text, Quoting::default());
    loop {
        let start = text.len() - lexer.left();
        let token = lexer.next()?;
        let word = if let Token::Word(word) = token { word } else { "" };
        let why = match &token {
            Token::Mark('(') => {
                depth += 1;
                None
            }
            Token::Mark(')') => {
                depth -= 1;
                if depth == 0 {
                    let why = "which dates are valid depends on the session's sql_mode";
                    return (is_strict && has_dates && has_text).then(|| why.to_owned());
                }
                None
            }
            Token::Mark('@') => Some("its expression depends on a variable".to_owned()),
            Token::Mark('/') if is_strict => {
                Some("how many digits a division gives depends on the session".to_owned())
            }
            Token::Mark(_) => None,
            Token::Word(word) => {
                let is_call = lexer.clone().next() == Some(Token::Mark('('));
                has_dates |= is_one_of(DATES, word);
                let is_sure = is_one_of(BEFORE_NAMES, before) || is_sure(word, is_call, is_strict);
                (!is_sure).then(|| format!("{word} in its expression may depend on more than the row"))
            }
            Token::Quoted(name) => {
                has_text |= is_text(info, name);
                of_reference(info, name, is_strict)
            }
            Token::Text => {
                has_text = true;
                let shown = text.get(start..text.len() - lexer.left_behind()).unwrap_or_default();
                of_literal(before, shown)
            }
        };
        if why.is_some() {
            return why;
        }
        before = word;
    }
}

fn is_one_of(list: &[&str], word: &str) -> bool {
    list.iter().any(|own| own.eq_ignore_ascii_case(word))
}

fn is_sure(word: &str, is_call: bool, is_strict: bool) -> bool {
    let is_number = word.starts_with(|c: char| c.is_ascii_digit());
    // `_utf8mb4'x'`, and bits and bytes: `b'101'`, `x'0a'`.
    let is_literal = word.starts_with('_') || matches!(word, "b" | "x" | "X" | "B");
    is_one_of(CALLS, word)
        || is_one_of(DATES, word)
        || (!is_strict && is_one_of(IN_CHECKS, word))
        || (!is_call && (is_number || is_literal || is_one_of(WORDS, word)))
}

fn is_text(info: &TableInfo, name: &str) -> bool {
    let column = info.schema.columns().iter().find(|column| column.name.eq_ignore_ascii_case(name));
    !column.is_some_and(|column| {
        matches!(column.data_type, DataType::Date | DataType::DateTime { .. } | DataType::Time { .. })
    })
}

/// What of a literal the servers do not print as it is: characters that they cannot show, and all but plain letters of
/// most character sets.
fn of_literal(introducer: &str, shown: &str) -> Option<String> {
    let is_whole = !introducer.starts_with('_') || is_one_of(PRINTED_WHOLE, introducer);
    let is_plain = shown.is_ascii() && is_one_of(&["_latin1", "_ascii"], introducer);
    let is_lost = shown.contains('?') || !(is_whole || is_plain);
    is_lost.then(|| "its expression holds text that the server may not have shown as it is".to_owned())
}

/// A `timestamp` is text in the session's time zone, and a `char` has its blanks in some modes.
fn of_reference(info: &TableInfo, name: &str, is_strict: bool) -> Option<String> {
    let column = info.schema.columns().iter().find(|column| column.name.eq_ignore_ascii_case(name))?;
    match &column.data_type {
        DataType::Timestamp { .. } => {
            Some(format!("what is made of column {name} depends on the session's time zone"))
        }
        DataType::Text { fixed: true, .. } if is_strict => {
            Some(format!("what is made of column {name} depends on the session's sql_mode"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freshet_core::schema::{Column, TableName, TableSchema};
    use freshet_core::table::{Dialect, Native};
    use std::sync::Arc;

    fn info() -> TableInfo {
        let column = |name: &str, data_type| Column { name: name.to_owned(), data_type, nullable: true };
        let columns = vec![
            column("a", DataType::Int { bits: 32, unsigned: false }),
            column("ts", DataType::Timestamp { fsp: 0 }),
            column("c", DataType::Text { length: Some(3), fixed: true }),
            column("v", DataType::Text { length: Some(3), fixed: false }),
            column("d", DataType::Date),
        ];
        let schema = TableSchema::new(TableName::new("shop", "t"), columns, vec![]).expect("a schema");
        TableInfo {
            schema: Arc::new(schema),
            dialect: Dialect::Mysql,
            columns: Vec::new(),
            indexes: Vec::new(),
            next_value: None,
            rows_estimate: 0,
            native: Native::default(),
            not_carried: Vec::new(),
        }
    }

    #[test]
    fn r13_only_expressions_that_are_sure_are_computed_by_the_target() {
        let doubted = |text: &str| of_column(&info(), text).is_some();
        for sure in [
            "int GENERATED ALWAYS AS (`a` + 1) VIRTUAL COMMENT 'now() / ?'",
            "varchar(9) GENERATED ALWAYS AS (concat(`a`,_utf8mb4'(\\'now()')) STORED",
            "int GENERATED ALWAYS AS (json_unquote(json_extract(`j`,_utf8mb4'$.a'))) STORED NOT NULL",
            "int GENERATED ALWAYS AS ((case when (`a` > 0x0a) then -(1) else cast(`a` as char(3) charset utf8mb4) end)) STORED",
            "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL CHECK (json_valid(`j`))",
            "varchar(40) DEFAULT (uuid())",
            "timestamp NOT NULL DEFAULT current_timestamp() ON UPDATE current_timestamp()",
            "int(11) NOT NULL CHECK (`a` / 2 > 0)",
            "int GENERATED ALWAYS AS (year(`d`)) VIRTUAL",
            "varchar(9) GENERATED ALWAYS AS (concat(`a`,_utf8mb4'é',_latin1'e')) STORED",
        ] {
            assert_eq!(of_column(&info(), sure), None, "{sure}");
        }
        for text in [
            "datetime GENERATED ALWAYS AS (current_timestamp()) VIRTUAL",
            "datetime GENERATED ALWAYS AS (localtime) VIRTUAL",
            "varchar(9) GENERATED ALWAYS AS (date(`ts`)) STORED",
            "varchar(9) GENERATED ALWAYS AS (concat(`c`,'x')) STORED",
            "decimal(9,4) GENERATED ALWAYS AS (`a` / 3) STORED",
            "int GENERATED ALWAYS AS (@@a) VIRTUAL",
            "varchar(9) GENERATED ALWAYS AS (concat(`a`,'?')) STORED",
            "varchar(9) GENERATED ALWAYS AS (dayname(`a`)) STORED",
            "int GENERATED ALWAYS AS (week(`d`)) VIRTUAL",
            "int GENERATED ALWAYS AS (year('2020-02-31')) VIRTUAL",
            "date GENERATED ALWAYS AS (cast(`v` as date)) VIRTUAL",
            "int GENERATED ALWAYS AS (`a` like 'x') STORED",
            "varchar(9) GENERATED ALWAYS AS (concat(`a`,_latin1'é')) STORED",
            "varchar(9) GENERATED ALWAYS AS (concat(`a`,_utf16'ab')) STORED",
            "int(11) NOT NULL CHECK (`a` > rand())",
            "int(11) DEFAULT nextval(`shop`.`s`)",
        ] {
            assert!(doubted(text), "{text}");
        }
        assert_eq!(of_check(&info(), "CONSTRAINT `x` CHECK ((`a` > 3) and (`c` <> 'now()'))"), None);
        assert!(of_check(&info(), "CONSTRAINT `CHECK` CHECK (`ts` > '2020-01-01')").is_some());
    }
}
