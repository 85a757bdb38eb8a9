//! Values of MySQL and MariaDB into cells, the same bytes from the binlog and from the binary protocol.
//!
//! No IO and no catalogue access. [`cell`] reads what a binlog row image stores, [`binary`] what the binary protocol
//! sends (and says what a SELECT list must ask for). Every read is checked; what is stored but is no value of its
//! type is kept as `undecodable` (text with what does decode, `freshet_core::undecodable`), never replaced.

pub mod binary;
pub mod cell;
pub mod charset;
pub mod compressed;
pub mod decimal;
pub mod json;
pub mod reader;
pub mod temporal;
