//! Tests of rows that need no server.

use proptest::prelude::*;

use super::*;

fn column(column_type: ColumnType) -> ColumnDef {
    let (schema, table, name) = ("d".to_owned(), "t".to_owned(), "c".to_owned());
    ColumnDef { schema, table, name, charset: 45, length: 10, column_type, flags: 0, decimals: 0 }
}

#[test]
fn text_rows_tell_null_from_empty() {
    let mut rows = Rows::new(vec![column(ColumnType::VarString), column(ColumnType::Long)]);
    rows.push(b"\x00\xFB").unwrap();
    rows.push(b"\x02ab\x0242").unwrap();
    assert_eq!((rows.rows()[0].get(0), rows.rows()[0].get(1)), (Some(&b""[..]), None));
    assert_eq!((rows.rows()[1].text(0), rows.rows()[1].text(1)), (Some("ab"), Some("42")));
    assert_eq!(rows.rows()[1].get(2), None);
    assert!(rows.push(b"\x02ab\x0242x").is_err());
    assert!(rows.push(b"\x02ab").is_err());
}

#[test]
fn binary_cells_and_nulls() {
    let columns: Vec<_> =
        [ColumnType::Tiny, ColumnType::VarString, ColumnType::Date, ColumnType::Time].map(column).into();
    let row = BinaryRow::parse(&columns, b"\x00\x08\xFE\x04\xE4\x07\x02\x1D\x00").unwrap();
    let cells: Vec<_> = row.cells().collect::<Result<_, _>>().unwrap();
    let expected = [
        BinaryCell::Int(b"\xFE"),
        BinaryCell::Null,
        BinaryCell::Date(b"\xE4\x07\x02\x1D"),
        BinaryCell::Time(b""),
    ];
    assert_eq!(cells, expected);
}

#[test]
fn a_row_too_long_or_too_short_is_an_error() {
    let columns = [column(ColumnType::Tiny)];
    assert!(BinaryRow::parse(&columns, b"\x00\x00\x01\x02").unwrap().cells().any(|cell| cell.is_err()));
    assert!(BinaryRow::parse(&columns, b"\x00\x00").unwrap().cells().any(|cell| cell.is_err()));
    assert!(BinaryRow::parse(&columns, b"\x00").is_err());
}

proptest! {
    #[test]
    fn garbage_never_panics_nor_goes_on(
        packet in proptest::collection::vec(any::<u8>(), 0..60),
        types in proptest::collection::vec(prop_oneof![
            Just(ColumnType::Tiny), Just(ColumnType::LongLong), Just(ColumnType::Blob), Just(ColumnType::Time),
            Just(ColumnType::DateTime), Just(ColumnType::Double), Just(ColumnType::Null),
        ], 1..20),
    ) {
        let columns: Vec<_> = types.into_iter().map(column).collect();
        let _ = Rows::new(columns.clone()).push(&packet);
        if let Ok(row) = BinaryRow::parse(&columns, &packet) {
            let cells: Vec<_> = row.cells().collect();
            prop_assert!(cells.len() <= columns.len());
            prop_assert!(cells.iter().rev().skip(1).all(Result::is_ok));
        }
    }
}
