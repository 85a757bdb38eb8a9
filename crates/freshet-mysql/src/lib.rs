//! MySQL and MariaDB: everything that knows their protocol, types, quoting and positions.

pub mod catalog;
pub mod check;
pub mod decode;
pub mod server;
pub mod sink;
pub mod source;
pub mod table;
pub mod values;
pub mod wire;
