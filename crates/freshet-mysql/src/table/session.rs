//! Sessions for reading: every setting that could change a value, cut a result or end a long read is fixed here.

use freshet_core::error::{Error, Result};

use crate::catalog;
use crate::server::Flavour;
use crate::wire::{ConnectOptions, Connection};

/// What both servers have. Text comes in its column's own character set, instants in UTC, and nothing limits how
/// many rows a SELECT gives or looks at. Dates that no calendar knows are compared as what they are (M1).
const COMMON: &str = "SET SESSION time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES', \
     character_set_results = NULL, autocommit = 1, sql_select_limit = 18446744073709551615, sql_big_selects = 1, \
     net_write_timeout = 86400, net_read_timeout = 3600, wait_timeout = 604800, lock_wait_timeout = 60";

/// Opens a session on a server of the flavour that the configuration names.
pub(super) async fn open(options: &ConnectOptions, flavour: Flavour) -> Result<Connection> {
    let mut connection = Connection::connect(options).await?;
    let actual = if connection.info().is_mariadb { Flavour::Mariadb } else { Flavour::Mysql };
    if actual != flavour {
        return Err(Error::invalid(format!(
            "The source is configured as {flavour} and the server is {actual}"
        ))
        .with_hint("Set the source's type to mariadb or mysql, as the server is"));
    }
    connection.exec(COMMON).await?;
    let more = match flavour {
        Flavour::Mariadb => {
            "SET SESSION max_statement_time = 0, idle_transaction_timeout = 0, \
             idle_readonly_transaction_timeout = 0"
        }
        Flavour::Mysql => "SET SESSION max_execution_time = 0",
    };
    connection.exec(more).await?;
    catalog::prepare_session(&mut connection, flavour).await?;
    Ok(connection)
}
