//! The closed set of column types of MySQL, MariaDB and PostgreSQL, and how each one's cell is laid out.
//!
//! A type says what a value means; [`CellKind`] says how many bytes it takes in a row image. It is not the
//! declaration that the source printed: that is [`crate::table::ColumnInfo::native_type`]. Types are part of the on-disk
//! schema encoding: the tags in `schema.rs` never change their meaning.

/// What the values of a column are. Every type of the three databases has exactly one place here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    /// PostgreSQL `boolean`. (MySQL's `tinyint(1)` is an integer: values 2..127 exist.)
    Bool,
    /// Integers of 8, 16, 24, 32 or 64 bits.
    Int {
        /// Width in bits: 8, 16, 24, 32 or 64.
        bits: u8,
        /// Whether the column is `unsigned`.
        unsigned: bool,
    },
    /// IEEE single precision.
    Float32,
    /// IEEE double precision.
    Float64,
    /// Exact decimal. `None` means unconstrained (PostgreSQL `numeric`); a negative scale is PostgreSQL 15's.
    Decimal {
        /// Digits in all.
        precision: Option<u16>,
        /// Digits after the point.
        scale: Option<i16>,
    },
    /// MySQL `year`: 0 or 1901 to 2155.
    Year,
    /// A calendar date, with MySQL's zero and partial dates and PostgreSQL's infinities.
    Date,
    /// MySQL `time`: a signed span up to 838:59:59; PostgreSQL `time`: 00:00 to 24:00. Microseconds.
    Time {
        /// Fractional digits kept, 0 to 6.
        fsp: u8,
    },
    /// PostgreSQL `timetz`.
    TimeTz {
        /// Fractional digits kept, 0 to 6.
        fsp: u8,
    },
    /// Date and time without zone: MySQL `datetime`, PostgreSQL `timestamp`.
    DateTime {
        /// Fractional digits kept, 0 to 6.
        fsp: u8,
    },
    /// An instant: MySQL `timestamp`, PostgreSQL `timestamptz`.
    Timestamp {
        /// Fractional digits kept, 0 to 6.
        fsp: u8,
    },
    /// PostgreSQL `interval`: months, days and microseconds.
    Interval,
    /// Character strings, stored as UTF-8 whatever the column's character set is.
    Text {
        /// Characters at most; `None` is unbounded.
        length: Option<u32>,
        /// `char(n)` rather than `varchar(n)` or `text`.
        fixed: bool,
    },
    /// Byte strings: MySQL `binary`, `varbinary`, `blob`; PostgreSQL `bytea`.
    Bytes {
        /// Bytes at most; `None` is unbounded.
        length: Option<u32>,
        /// `binary(n)`: cells are padded back to n.
        fixed: bool,
    },
    /// Bit strings, most significant bit first, left-padded to whole bytes (MySQL) .
    Bit {
        /// Bits; `None` is PostgreSQL's unbounded `varbit`.
        length: Option<u32>,
        /// PostgreSQL `varbit`. Its cell is the text of zeros and ones, as PostgreSQL's `bit`.
        varying: bool,
    },
    /// MySQL `enum`: the cell is the index, 0 being the error value `''`.
    Enum {
        /// The labels; index 1 is the first.
        labels: Vec<String>,
    },
    /// MySQL `set`: the cell is the bitmap, lowest bit first label.
    Set {
        /// The labels.
        labels: Vec<String>,
    },
    /// JSON as text, in the server's own printing.
    Json {
        /// PostgreSQL `jsonb` or MySQL's binary JSON (normalised) rather than text kept as written.
        binary: bool,
    },
    /// 16 bytes: MariaDB `uuid` (in printing order), PostgreSQL `uuid`.
    Uuid,
    /// MariaDB `inet4`: 4 bytes in network order.
    Inet4,
    /// MariaDB `inet6`: 16 bytes in network order.
    Inet6,
    /// MySQL's geometry types: SRID (4 bytes, little endian) and WKB.
    Geometry {
        /// `point`, `polygon`, ...; `geometry` for any.
        kind: String,
    },
    /// MySQL and MariaDB `vector`: little-endian 32-bit floats.
    Vector {
        /// Dimensions, where the source says.
        dimensions: Option<u32>,
    },
    /// PostgreSQL `money`: cents of whatever the locale says.
    Money,
    /// PostgreSQL `oid` and `xid`: 32 bits unsigned.
    Oid,
    /// PostgreSQL `pg_lsn` and `xid8`: 64 bits unsigned.
    Lsn,
    /// A PostgreSQL array; the cell is PostgreSQL's text form.
    Array {
        /// Type of the elements.
        element: Box<DataType>,
    },
    /// Any other named PostgreSQL type (network, geometric, range, multirange, text search, enum, composite,
    /// domain, extension types): the cell is the type's text form under the fixed session settings.
    Named {
        /// `format_type`'s name.
        name: String,
    },
}

/// How a cell of a type is laid out in a row image. Numbers are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellKind {
    /// One byte, 0 or 1.
    Bool,
    /// Signed integer, one byte.
    I8,
    /// Signed integer, two bytes.
    I16,
    /// Signed integer, four bytes.
    I32,
    /// Signed integer, eight bytes.
    I64,
    /// Unsigned integer, one byte.
    U8,
    /// Unsigned integer, two bytes.
    U16,
    /// Unsigned integer, four bytes.
    U32,
    /// Unsigned integer, eight bytes.
    U64,
    /// Four bytes.
    F32,
    /// Eight bytes.
    F64,
    /// [`crate::temporal::Date`], four bytes.
    Date,
    /// [`crate::temporal::Time`], eight bytes.
    Time,
    /// Microseconds (8) and zone in seconds east (4).
    TimeTz,
    /// [`crate::temporal::DateTime`], eight bytes.
    DateTime,
    /// [`crate::temporal::Timestamp`], eight bytes.
    Timestamp,
    /// Months (4), days (4), microseconds (8).
    Interval,
    /// Length (4) and ASCII decimal text: `-`? digits (`.` digits)?, `NaN`, `Infinity`, `-Infinity`.
    Decimal,
    /// Length (4) and UTF-8.
    Text,
    /// Length (4) and bytes.
    Bytes,
    /// 16 bytes.
    Fixed16,
    /// 4 bytes.
    Fixed4,
    /// Enum index, two bytes.
    Enum,
    /// Set bitmap, eight bytes.
    Set,
}

impl CellKind {
    /// Bytes that a cell takes, or `None` where a 4-byte length stands before the value.
    pub const fn width(self) -> Option<usize> {
        match self {
            CellKind::Bool | CellKind::I8 | CellKind::U8 => Some(1),
            CellKind::I16 | CellKind::U16 | CellKind::Enum => Some(2),
            CellKind::I32 | CellKind::U32 | CellKind::F32 | CellKind::Date | CellKind::Fixed4 => Some(4),
            CellKind::I64
            | CellKind::U64
            | CellKind::F64
            | CellKind::Time
            | CellKind::DateTime
            | CellKind::Timestamp
            | CellKind::Set => Some(8),
            CellKind::TimeTz => Some(12),
            CellKind::Interval | CellKind::Fixed16 => Some(16),
            CellKind::Decimal | CellKind::Text | CellKind::Bytes => None,
        }
    }
}

impl DataType {
    /// The layout of this type's cells.
    pub fn cell_kind(&self) -> CellKind {
        match self {
            DataType::Bool => CellKind::Bool,
            DataType::Int { bits, unsigned } => int_kind(*bits, *unsigned),
            DataType::Float32 => CellKind::F32,
            DataType::Float64 => CellKind::F64,
            DataType::Decimal { .. } => CellKind::Decimal,
            DataType::Year => CellKind::U16,
            DataType::Date => CellKind::Date,
            DataType::Time { .. } => CellKind::Time,
            DataType::TimeTz { .. } => CellKind::TimeTz,
            DataType::DateTime { .. } => CellKind::DateTime,
            DataType::Timestamp { .. } => CellKind::Timestamp,
            DataType::Interval => CellKind::Interval,
            DataType::Text { .. }
            | DataType::Json { .. }
            | DataType::Array { .. }
            | DataType::Named { .. } => CellKind::Text,
            DataType::Bytes { .. }
            | DataType::Bit { .. }
            | DataType::Geometry { .. }
            | DataType::Vector { .. } => CellKind::Bytes,
            DataType::Enum { .. } => CellKind::Enum,
            DataType::Set { .. } => CellKind::Set,
            DataType::Uuid | DataType::Inet6 => CellKind::Fixed16,
            DataType::Inet4 => CellKind::Fixed4,
            DataType::Money => CellKind::I64,
            DataType::Oid => CellKind::U32,
            DataType::Lsn => CellKind::U64,
        }
    }
}

fn int_kind(bits: u8, unsigned: bool) -> CellKind {
    match (bits, unsigned) {
        (0..=8, false) => CellKind::I8,
        (9..=16, false) => CellKind::I16,
        (17..=32, false) => CellKind::I32,
        (33.., false) => CellKind::I64,
        (0..=8, true) => CellKind::U8,
        (9..=16, true) => CellKind::U16,
        (17..=32, true) => CellKind::U32,
        (33.., true) => CellKind::U64,
    }
}
