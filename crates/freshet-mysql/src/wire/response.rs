//! The packets that answer commands: OK, ERR, EOF, column definitions.
//!
//! Pure parsing. Formats: manual pages "OK_Packet", "ERR_Packet", "EOF_Packet",
//! "Protocol::ColumnDefinition41", all as they are without CLIENT_DEPRECATE_EOF.

use super::error::{ServerError, WireError};
use super::scan::Scan;

/// Packets of this length or more that begin with 0xFE are rows, not the end of them.
const EOF_BYTES_MAX: usize = 9;

/// The type of a column on the wire (manual page "Field Types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are those of the protocol's MYSQL_TYPE_ constants.
#[repr(u8)]
pub enum ColumnType {
    Decimal = 0,
    Tiny = 1,
    Short = 2,
    Long = 3,
    Float = 4,
    Double = 5,
    Null = 6,
    Timestamp = 7,
    LongLong = 8,
    Int24 = 9,
    Date = 10,
    Time = 11,
    DateTime = 12,
    Year = 13,
    VarChar = 15,
    Bit = 16,
    Vector = 242,
    Json = 245,
    NewDecimal = 246,
    Enum = 247,
    Set = 248,
    TinyBlob = 249,
    MediumBlob = 250,
    LongBlob = 251,
    Blob = 252,
    VarString = 253,
    String = 254,
    Geometry = 255,
}

impl ColumnType {
    fn from_code(code: u8) -> Option<Self> {
        use ColumnType::*;
        const ALL: [ColumnType; 28] = [
            Decimal, Tiny, Short, Long, Float, Double, Null, Timestamp, LongLong, Int24, Date, Time,
            DateTime, Year, VarChar, Bit, Vector, Json, NewDecimal, Enum, Set, TinyBlob, MediumBlob,
            LongBlob, Blob, VarString, String, Geometry,
        ];
        ALL.into_iter().find(|known| *known as u8 == code)
    }
}

/// What the server says about one column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDef {
    /// Database of the column's table, empty for an expression.
    pub schema: String,
    /// The table's own name, whatever its alias.
    pub table: String,
    /// The column's name or alias.
    pub name: String,
    /// Number of the collation; 63 is `binary`.
    pub charset: u16,
    /// Longest display width in bytes.
    pub length: u32,
    /// Type on the wire.
    pub column_type: ColumnType,
    /// Flags of the manual page "Column Definition Flags"; see [`ColumnDef::is_unsigned`].
    pub flags: u16,
    /// Digits after the decimal point; 0x1F where that is not fixed.
    pub decimals: u8,
}

impl ColumnDef {
    const NOT_NULL: u16 = 1;
    const UNSIGNED: u16 = 1 << 5;
    const BINARY_COLLATION: u16 = 63;

    /// Whether an integer is without sign.
    pub fn is_unsigned(&self) -> bool {
        self.flags & Self::UNSIGNED != 0
    }

    /// Whether the column is declared NOT NULL.
    pub fn is_not_null(&self) -> bool {
        self.flags & Self::NOT_NULL != 0
    }

    /// Whether a string is bytes rather than text.
    pub fn is_binary(&self) -> bool {
        self.charset == Self::BINARY_COLLATION
    }

    pub(crate) fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let mut scan = Scan::new(packet);
        let mut text = || scan.string().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let (_catalog, schema, _alias, table, name, _own_name) =
            (text()?, text()?, text()?, text()?, text()?, text()?);
        scan.length()?;
        let (charset, length, code) = (scan.u16()?, scan.u32()?, scan.u8()?);
        let (flags, decimals) = (scan.u16()?, scan.u8()?);
        let Some(column_type) = ColumnType::from_code(code) else {
            return Err(WireError::ColumnType { column: name, code });
        };
        Ok(ColumnDef { schema, table, name, charset, length, column_type, flags, decimals })
    }
}

/// The answer to a command without rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OkPacket {
    pub(crate) affected_rows: u64,
    pub(crate) warnings: u16,
    /// Another result of the same query follows (manual page "SERVER_STATUS_flags_enum").
    pub(crate) more_results: bool,
}

const SERVER_MORE_RESULTS_EXISTS: u16 = 8;

/// The first packet of the answer to a query.
pub(crate) enum Answer {
    Ok(OkPacket),
    Columns(usize),
}

impl Answer {
    pub(crate) fn parse(packet: &[u8]) -> Result<Self, WireError> {
        let mut scan = Scan::new(packet);
        match packet.first() {
            None => Err(WireError::protocol("an empty answer")),
            Some(0x00) => {
                scan.take(1)?;
                let (affected_rows, _insert_id) = (scan.length()?, scan.length()?);
                let (status, warnings) = (scan.u16()?, scan.u16()?);
                let more_results = status & SERVER_MORE_RESULTS_EXISTS != 0;
                Ok(Answer::Ok(OkPacket { affected_rows, warnings, more_results }))
            }
            Some(0xFF) => Err(server_error(packet)),
            Some(0xFB) => Err(WireError::protocol("the server asks for a local file, which was not offered")),
            // A row has at most 4096 columns on either server.
            Some(_) => match scan.length()? {
                columns @ 1..=0xFFFF => Ok(Answer::Columns(columns as usize)),
                _ => Err(WireError::protocol("an answer with too many columns")),
            },
        }
    }
}

/// Whether a packet ends columns or rows.
pub(crate) fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xFE) && packet.len() < EOF_BYTES_MAX
}

/// Whether another result follows the rows that this EOF packet ends.
pub(crate) fn eof_has_more(packet: &[u8]) -> bool {
    let status = packet.get(3..5).and_then(|bytes| bytes.first_chunk::<2>());
    status.is_some_and(|bytes| u16::from_le_bytes(*bytes) & SERVER_MORE_RESULTS_EXISTS != 0)
}

/// The error in an ERR packet. Before the connection phase has ended it comes without an SQL state.
pub(crate) fn server_error(packet: &[u8]) -> WireError {
    let mut scan = Scan::new(packet);
    let (Ok(_), Ok(code)) = (scan.u8(), scan.u16()) else {
        return WireError::protocol("an error packet is too short");
    };
    let text = scan.rest();
    let (state, message) = match text.split_first_chunk::<6>() {
        Some(([b'#', state @ ..], message)) => (&state[..], message),
        _ => (&b""[..], text),
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    WireError::Server(ServerError { code, sqlstate: text(state), message: text(message) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_with_and_without_state() {
        let WireError::Server(error) = server_error(b"\xFF\x15\x04#28000Access denied") else { panic!() };
        assert_eq!(
            (error.code, error.sqlstate.as_str(), error.message.as_str()),
            (1045, "28000", "Access denied")
        );
        let WireError::Server(error) = server_error(b"\xFF\x10\x04Too many") else { panic!() };
        assert_eq!((error.code, error.sqlstate.as_str()), (1040, ""));
    }

    #[test]
    fn every_type_number_is_known_or_refused() {
        for code in 0..=255 {
            assert!(ColumnType::from_code(code).is_none_or(|known| known as u8 == code));
        }
        assert_eq!((0..=255).filter_map(ColumnType::from_code).count(), 28);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = ColumnDef::parse(&bytes);
            let _ = Answer::parse(&bytes);
            let _ = server_error(&bytes);
        }
    }
}
