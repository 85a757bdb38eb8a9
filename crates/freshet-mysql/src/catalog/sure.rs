//! Whether an expression of a column or a check is sure to have one value for one row, whoever computes it and when.
//!
//! A target that computes a generated column itself must come to the value that the source has. So what is sure is a
//! list: functions and words outside of it are in doubt, and so is what depends on a session's time zone, or on a mode
//! or setting. In doubt a column stays an ordinary one that holds the source's values, and a check is told and not made.
//! The servers forbid some of this, and not the same of it.

use freshet_core::table::TableInfo;
use freshet_core::types::DataType;

use crate::decode::lexer::{Lexer, Quoting, Token};

/// Functions whose value depends on their arguments alone.
const FUNCTIONS: &[&str] = &[
    "abs",
    "ascii",
    "bin",
    "bin_to_uuid",
    "bit_count",
    "bit_length",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "concat_ws",
    "crc32",
    "date",
    "datediff",
    "dayofmonth",
    "dayofweek",
    "dayofyear",
    "elt",
    "field",
    "find_in_set",
    "floor",
    "from_base64",
    "greatest",
    "hex",
    "hour",
    "if",
    "ifnull",
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
    "last_day",
    "lcase",
    "least",
    "left",
    "length",
    "locate",
    "lower",
    "lpad",
    "ltrim",
    "makedate",
    "md5",
    "microsecond",
    "mid",
    "minute",
    "mod",
    "month",
    "nullif",
    "nvl",
    "octet_length",
    "ord",
    "position",
    "quarter",
    "quote",
    "regexp_like",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "second",
    "sha",
    "sha1",
    "sha2",
    "sign",
    "space",
    "st_astext",
    "st_distance",
    "st_geohash",
    "st_isvalid",
    "st_latitude",
    "st_longitude",
    "st_srid",
    "st_x",
    "st_y",
    "strcmp",
    "substr",
    "substring",
    "substring_index",
    "time_to_sec",
    "to_base64",
    "to_days",
    "trim",
    "truncate",
    "ucase",
    "unhex",
    "upper",
    "uuid_to_bin",
    "weekday",
    "year",
    "date_add",
    "date_sub",
    "point",
    "cast",
    "convert",
];

/// Words of expressions, and of the types that values are cast to, with or without a parenthesis behind them.
const WORDS: &[&str] = &[
    "and",
    "or",
    "xor",
    "not",
    "is",
    "null",
    "true",
    "false",
    "unknown",
    "like",
    "escape",
    "between",
    "in",
    "case",
    "when",
    "then",
    "else",
    "end",
    "div",
    "mod",
    "as",
    "check",
    "enforced",
    "constraint",
    "regexp",
    "rlike",
    "binary",
    "char",
    "character",
    "set",
    "charset",
    "collate",
    "using",
    "signed",
    "unsigned",
    "integer",
    "int",
    "bigint",
    "decimal",
    "double",
    "float",
    "date",
    "datetime",
    "time",
    "json",
    "year",
    "varchar",
    "array",
    "member",
    "of",
    "returning",
    "leading",
    "trailing",
    "both",
    "from",
    "for",
    "interval",
    "microsecond",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "error",
    "on",
    "empty",
    "default",
    "period",
];

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

/// What is in doubt of an expression, which ends where the parenthesis before it is closed. A check is allowed what can
/// only make it refuse a row, by a number that is cut elsewhere.
fn doubt(info: &TableInfo, text: &str, is_strict: bool) -> Option<String> {
    let (mut depth, mut before) = (1_u32, "");
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
                    return None;
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
                let is_name = BEFORE_NAMES.iter().any(|name| before.eq_ignore_ascii_case(name));
                let is_sure = is_name || is_sure(word, is_call);
                (!is_sure).then(|| format!("{word} in its expression may depend on more than the row"))
            }
            Token::Quoted(name) => of_reference(info, name, is_strict),
            Token::Text => {
                let shown = text.get(start..text.len() - lexer.left_behind()).unwrap_or_default();
                let lost = "its expression holds a character that the server may not have shown";
                shown.contains('?').then(|| lost.to_owned())
            }
        };
        if why.is_some() {
            return why;
        }
        before = word;
    }
}

fn is_sure(word: &str, is_call: bool) -> bool {
    let is_one_of = |list: &[&str]| list.iter().any(|own| own.eq_ignore_ascii_case(word));
    let is_number = word.starts_with(|c: char| c.is_ascii_digit());
    // `_utf8mb4'x'`, and bits and bytes: `b'101'`, `x'0a'`.
    let is_literal = word.starts_with('_') || matches!(word, "b" | "x" | "X" | "B");
    is_one_of(WORDS) || (is_call && is_one_of(FUNCTIONS)) || (!is_call && (is_number || is_literal))
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
            "int(11) NOT NULL CHECK (`a` > rand())",
            "int(11) DEFAULT nextval(`shop`.`s`)",
        ] {
            assert!(doubted(text), "{text}");
        }
        assert_eq!(of_check(&info(), "CONSTRAINT `x` CHECK ((`a` > 3) and (`c` <> 'now()'))"), None);
        assert!(of_check(&info(), "CONSTRAINT `CHECK` CHECK (`ts` > '2020-01-01')").is_some());
    }
}
