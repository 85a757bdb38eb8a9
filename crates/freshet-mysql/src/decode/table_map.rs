//! TABLE_MAP: the definition that the rows after it were written with, its names and character sets included.
//!
//! Pure parsing into [`TableMap`]; [`super::plan`] makes a schema and cell readers of it. The optional metadata must be
//! FULL: without names nothing can be matched to a target. Format: MySQL source documentation, "Table_map_event".

use crate::decode::Flavour;
use crate::values::reader::{Read, Reader, Short, bit};

/// Type codes of columns (manual: "Field Types"; 140 and 141 are MariaDB's).
pub(super) mod code {
    pub(in crate::decode) const TINY: u8 = 1;
    pub(in crate::decode) const SHORT: u8 = 2;
    pub(in crate::decode) const LONG: u8 = 3;
    pub(in crate::decode) const FLOAT: u8 = 4;
    pub(in crate::decode) const DOUBLE: u8 = 5;
    pub(in crate::decode) const TIMESTAMP: u8 = 7;
    pub(in crate::decode) const LONGLONG: u8 = 8;
    pub(in crate::decode) const INT24: u8 = 9;
    pub(in crate::decode) const DATE: u8 = 10;
    pub(in crate::decode) const TIME: u8 = 11;
    pub(in crate::decode) const DATETIME: u8 = 12;
    pub(in crate::decode) const YEAR: u8 = 13;
    pub(in crate::decode) const NEWDATE: u8 = 14;
    pub(in crate::decode) const VARCHAR: u8 = 15;
    pub(in crate::decode) const BIT: u8 = 16;
    pub(in crate::decode) const TIMESTAMP2: u8 = 17;
    pub(in crate::decode) const DATETIME2: u8 = 18;
    pub(in crate::decode) const TIME2: u8 = 19;
    pub(in crate::decode) const BLOB_COMPRESSED: u8 = 140;
    pub(in crate::decode) const VARCHAR_COMPRESSED: u8 = 141;
    pub(in crate::decode) const VECTOR: u8 = 242;
    pub(in crate::decode) const JSON: u8 = 245;
    pub(in crate::decode) const NEWDECIMAL: u8 = 246;
    pub(in crate::decode) const ENUM: u8 = 247;
    pub(in crate::decode) const SET: u8 = 248;
    pub(in crate::decode) const BLOB: u8 = 252;
    pub(in crate::decode) const VAR_STRING: u8 = 253;
    pub(in crate::decode) const STRING: u8 = 254;
    pub(in crate::decode) const GEOMETRY: u8 = 255;
}

/// A column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MappedColumn<'a> {
    /// The type's code; ENUM and SET are told from the STRING that they are logged as.
    pub(super) code: u8,
    /// Whatever the code defines: lengths, digits, precision and scale.
    pub(super) meta: [u16; 2],
    pub(super) nullable: bool,
    pub(super) unsigned: bool,
    pub(super) name: &'a [u8],
    /// Collation; 0 if the metadata does not say.
    pub(super) collation: u64,
    /// Labels of ENUM and SET in the collation's character set.
    pub(super) labels: Vec<&'a [u8]>,
    /// Kind of geometry; dimensions of a vector.
    pub(super) detail: u64,
    /// Has a place in the lists of character sets, which not only text has.
    has_charset: bool,
}

/// A table's definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableMap<'a> {
    pub(super) columns: Vec<MappedColumn<'a>>,
    pub(super) key: Vec<u16>,
    /// What of the FULL metadata is missing.
    pub(super) missing: Option<&'static str>,
}

/// Table id, database, table, and the bytes that define the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) id: u64,
    pub(super) schema: &'a [u8],
    pub(super) table: &'a [u8],
    /// Everything behind the id and flags: equal bytes are an equal definition.
    pub(super) definition: &'a [u8],
    columns: &'a [u8],
}

impl<'a> Head<'a> {
    /// From behind the header on.
    pub(super) fn parse(body: &'a [u8]) -> Read<Self> {
        let mut r = Reader::new(body);
        let (id, _flags) = (r.uint(6)?, r.u16()?);
        let definition = r.rest();
        let schema = r.prefixed(1)?;
        r.u8()?;
        let table = r.prefixed(1)?;
        r.u8()?;
        Ok(Head { id, schema, table, definition, columns: r.rest() })
    }

    /// The columns.
    pub(super) fn table_map(&self, flavour: Flavour) -> Read<TableMap<'a>> {
        let mut r = Reader::new(self.columns);
        let count = r.packed_len()?;
        let types = r.take(count)?;
        let mut meta = Reader::new(r.packed_bytes()?);
        let nulls = r.take(count.div_ceil(8))?;
        let mut map = TableMap::default();
        for (at, code) in types.iter().enumerate() {
            let mut column = MappedColumn { nullable: bit(nulls, at), ..column(*code, &mut meta)? };
            column.has_charset = column.is_character() || is_like_text(column.code, flavour);
            map.columns.push(column);
        }
        if !meta.is_empty() {
            return Err(Short);
        }
        map.read_optional(r)?;
        Ok(map)
    }
}

fn column<'a>(code: u8, meta: &mut Reader<'_>) -> Read<MappedColumn<'a>> {
    let (code, meta) = match code {
        code::FLOAT
        | code::DOUBLE
        | code::TIMESTAMP2
        | code::DATETIME2
        | code::TIME2
        | code::BLOB_COMPRESSED
        | code::VECTOR
        | code::JSON
        | code::BLOB
        | code::GEOMETRY => (code, [u16::from(meta.u8()?), 0]),
        code::VARCHAR | code::VAR_STRING | code::VARCHAR_COMPRESSED => (code, [meta.u16()?, 0]),
        code::BIT | code::NEWDECIMAL | code::ENUM | code::SET => {
            (code, [u16::from(meta.u8()?), u16::from(meta.u8()?)])
        }
        code::STRING => string(meta.u8()?, meta.u8()?),
        other => (other, [0, 0]),
    };
    Ok(MappedColumn { code, meta, ..MappedColumn::default() })
}

/// What a server lists a character set for, as of bytes, though it is no text.
fn is_like_text(code: u8, flavour: Flavour) -> bool {
    match flavour {
        Flavour::Mariadb => code == code::GEOMETRY,
        Flavour::Mysql => code == code::VECTOR,
    }
}

/// The first byte is the real type, with two bits of lengths over 255 bytes inverted in it.
fn string(first: u8, second: u8) -> (u8, [u16; 2]) {
    const LENGTH_BITS: u8 = 0x30;
    match first {
        code::ENUM | code::SET => (first, [0, u16::from(second)]),
        _ => {
            let high = u16::from((first & LENGTH_BITS) ^ LENGTH_BITS) << 4;
            (first | LENGTH_BITS, [high | u16::from(second), 0])
        }
    }
}

impl MappedColumn<'_> {
    /// Has a place in the list of signs: a year has one as well.
    fn is_numeric(&self) -> bool {
        matches!(
            self.code,
            code::TINY
                | code::YEAR
                | code::SHORT
                | code::INT24
                | code::LONG
                | code::LONGLONG
                | code::NEWDECIMAL
                | code::FLOAT
                | code::DOUBLE
        )
    }

    fn is_character(&self) -> bool {
        matches!(
            self.code,
            code::VARCHAR
                | code::VAR_STRING
                | code::STRING
                | code::BLOB
                | code::VARCHAR_COMPRESSED
                | code::BLOB_COMPRESSED
        )
    }

    fn is_labelled(&self) -> bool {
        matches!(self.code, code::ENUM | code::SET)
    }
}

/// Fields of the optional metadata.
mod field {
    pub(super) const SIGNEDNESS: u8 = 1;
    pub(super) const DEFAULT_CHARSET: u8 = 2;
    pub(super) const COLUMN_CHARSET: u8 = 3;
    pub(super) const COLUMN_NAME: u8 = 4;
    pub(super) const SET_LABELS: u8 = 5;
    pub(super) const ENUM_LABELS: u8 = 6;
    pub(super) const GEOMETRY_TYPE: u8 = 7;
    pub(super) const SIMPLE_KEY: u8 = 8;
    pub(super) const KEY_WITH_PREFIX: u8 = 9;
    pub(super) const LABELS_DEFAULT_CHARSET: u8 = 10;
    pub(super) const LABELS_COLUMN_CHARSET: u8 = 11;
    pub(super) const VECTOR_DIMENSIONS: u8 = 13;
}

type Columns<'c, 'a> = Vec<&'c mut MappedColumn<'a>>;

impl<'a> TableMap<'a> {
    fn of(&mut self, wanted: impl Fn(&MappedColumn<'a>) -> bool) -> Columns<'_, 'a> {
        self.columns.iter_mut().filter(|column| wanted(column)).collect()
    }

    fn read_optional(&mut self, mut r: Reader<'a>) -> Read<()> {
        let mut seen = 0u32;
        while !r.is_empty() {
            let field = r.u8()?;
            let value = Reader::new(r.packed_bytes()?);
            seen |= 1u32.checked_shl(u32::from(field)).unwrap_or(0);
            self.read_field(field, value)?;
        }
        self.missing = self.missing_of(|field| seen >> field & 1 == 1);
        Ok(())
    }

    fn read_field(&mut self, field: u8, r: Reader<'a>) -> Read<()> {
        match field {
            field::SIGNEDNESS => {
                for (at, column) in self.of(MappedColumn::is_numeric).into_iter().enumerate() {
                    // Highest bit first.
                    column.unsigned = bit(r.rest(), at / 8 * 8 + 7 - at % 8);
                }
                Ok(())
            }
            field::DEFAULT_CHARSET => default_collation(self.of(|column| column.has_charset), r),
            field::COLUMN_CHARSET => each_collation(self.of(|column| column.has_charset), r),
            field::LABELS_DEFAULT_CHARSET => default_collation(self.of(MappedColumn::is_labelled), r),
            field::LABELS_COLUMN_CHARSET => each_collation(self.of(MappedColumn::is_labelled), r),
            field::COLUMN_NAME => names(self.of(|_| true), r),
            field::SET_LABELS => labels(self.of(|column| column.code == code::SET), r),
            field::ENUM_LABELS => labels(self.of(|column| column.code == code::ENUM), r),
            field::GEOMETRY_TYPE => details(self.of(|column| column.code == code::GEOMETRY), r),
            field::VECTOR_DIMENSIONS => details(self.of(|column| column.code == code::VECTOR), r),
            field::SIMPLE_KEY => self.read_key(r, false),
            field::KEY_WITH_PREFIX => self.read_key(r, true),
            // Visibility, and whatever later servers add.
            _ => Ok(()),
        }
    }

    fn read_key(&mut self, mut r: Reader<'_>, has_prefixes: bool) -> Read<()> {
        self.key.clear();
        while !r.is_empty() {
            let column = u16::try_from(r.packed()?).map_err(|_| Short)?;
            if usize::from(column) >= self.columns.len() {
                return Err(Short);
            }
            if has_prefixes {
                r.packed()?;
            }
            self.key.push(column);
        }
        Ok(())
    }

    fn missing_of(&self, seen: impl Fn(u8) -> bool) -> Option<&'static str> {
        let any = |wanted: fn(&MappedColumn<'a>) -> bool| self.columns.iter().any(wanted);
        let either = |a, b| seen(a) || seen(b);
        if !seen(field::COLUMN_NAME) {
            Some("names of columns")
        } else if any(MappedColumn::is_numeric) && !seen(field::SIGNEDNESS) {
            Some("signs of numbers")
        } else if any(MappedColumn::is_character) && !either(field::DEFAULT_CHARSET, field::COLUMN_CHARSET) {
            Some("character sets")
        } else if any(|c| c.code == code::ENUM) && !seen(field::ENUM_LABELS) {
            Some("labels of ENUM")
        } else if any(|c| c.code == code::SET) && !seen(field::SET_LABELS) {
            Some("labels of SET")
        } else if any(MappedColumn::is_labelled)
            && !either(field::LABELS_DEFAULT_CHARSET, field::LABELS_COLUMN_CHARSET)
        {
            Some("character sets of labels")
        } else {
            None
        }
    }
}

fn default_collation(mut columns: Columns<'_, '_>, mut r: Reader<'_>) -> Read<()> {
    let default = r.packed()?;
    columns.iter_mut().for_each(|column| column.collation = default);
    while !r.is_empty() {
        let at = r.packed_len()?;
        columns.get_mut(at).ok_or(Short)?.collation = r.packed()?;
    }
    Ok(())
}

fn each_collation(columns: Columns<'_, '_>, mut r: Reader<'_>) -> Read<()> {
    for column in columns {
        column.collation = r.packed()?;
    }
    Ok(())
}

fn names<'a>(columns: Columns<'_, 'a>, mut r: Reader<'a>) -> Read<()> {
    for column in columns {
        column.name = r.packed_bytes()?;
    }
    if r.is_empty() { Ok(()) } else { Err(Short) }
}

fn labels<'a>(columns: Columns<'_, 'a>, mut r: Reader<'a>) -> Read<()> {
    for column in columns {
        let count = r.packed_len()?;
        for _ in 0..count {
            column.labels.push(r.packed_bytes()?);
        }
    }
    if r.is_empty() { Ok(()) } else { Err(Short) }
}

fn details(columns: Columns<'_, '_>, mut r: Reader<'_>) -> Read<()> {
    for column in columns {
        column.detail = r.packed()?;
    }
    Ok(())
}
