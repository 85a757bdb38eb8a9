//! A borrowed value of one cell, as a sink or a printer sees it.
//!
//! Not a row type: rows stay in the flat encoding ([`crate::codec`]) and are visited cell by cell.

use crate::temporal::{Date, DateTime, Interval, Time, Timestamp};

/// One cell. Which variant comes follows from the column's [`crate::types::CellKind`], but for the three that any
/// column may have: `Null`, `Absent` and `Undecodable`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// SQL NULL.
    Null,
    /// Not in this image: an unchanged TOAST value, or a column that a partial image leaves out. Never NULL.
    Absent,
    /// Bytes that the source stores but that are no value of the column's type (text that is not valid in its
    /// character set, for one). Text is in the form of [`crate::undecodable`], everything else exactly as stored.
    /// What happens to them is a policy of the sink.
    Undecodable(&'a [u8]),
    /// A boolean.
    Bool(bool),
    /// Any signed integer.
    Int(i64),
    /// Any unsigned integer, `year`, `oid`, `pg_lsn`.
    UInt(u64),
    /// Single precision.
    Float32(f32),
    /// Double precision.
    Float64(f64),
    /// ASCII decimal text: exact, with the scale's trailing zeros.
    Decimal(&'a str),
    /// A date.
    Date(Date),
    /// A span or a time of day.
    Time(Time),
    /// A time of day and its zone in seconds east of UTC.
    TimeTz(Time, i32),
    /// Date and time without zone.
    DateTime(DateTime),
    /// An instant.
    Timestamp(Timestamp),
    /// PostgreSQL's interval.
    Interval(Interval),
    /// UTF-8 text of any text-like type.
    Text(&'a str),
    /// Bytes of any byte-like type, `bit`, geometry, vector, uuid, inet4 and inet6.
    Bytes(&'a [u8]),
    /// Index into the enum's labels, 1 being the first; 0 is MySQL's error value.
    Enum(u16),
    /// Bitmap over the set's labels.
    Set(u64),
}
