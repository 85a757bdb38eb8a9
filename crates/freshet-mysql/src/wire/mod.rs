//! freshet's own client of the MySQL and MariaDB protocol: SQL, batches of it, prepared statements, the binlog dump.
//!
//! Why not a general client: rows and events are handed out as views of the read buffer, without an
//! allocation per packet, and one story of TLS and authentication serves all three. It decodes no cell and no
//! event (`decode`, `table`), keeps no pool, and never reconnects: that is the caller's, who knows what an
//! interrupted statement means.
//!
//! Bounds: [`READ_BUFFER_BYTES`] are read at a time, a packet has at most [`PAYLOAD_BYTES_MAX`], a text result
//! [`RESULT_BYTES_MAX`]; every wait ends after the read time-out of [`ConnectOptions`].
//!
//! The life of a byte: `channel` (socket) -> `packet` (framing) -> `response`, `rows`, `binlog` (meaning).

mod auth;
mod binlog;
mod boundary;
mod channel;
mod connection;
mod error;
mod handshake;
mod options;
mod packet;
mod response;
mod rows;
mod rsa;
mod scan;
mod tls;

pub use binlog::{AtEnd, BinlogPackets, Packet};
pub use connection::{Connection, DetachedRows, Outcome, RESULT_BYTES_MAX, RowStream, Statement};
pub use error::{ServerError, WireError};
pub use handshake::ServerInfo;
pub use options::{ClientCertificate, ConnectOptions, Secret, TlsMode};
pub use packet::{PAYLOAD_BYTES_MAX, READ_BUFFER_BYTES};
pub use response::{ColumnDef, ColumnType};
pub use rows::{BinaryCell, BinaryCells, BinaryRow, BulkType, Param, Row, Rows};
pub(crate) use scan::{put_length, put_string};
