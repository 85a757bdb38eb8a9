//! The end of the server's WAL, asked over a connection of its own; and now and then a look at whether the publication
//! and its tables are what they were (`definition`).

use super::{Kept, WalSourceOptions, session};
use crate::error::{Scope, statement_error};
use crate::lsn;
use freshet_core::position::WalPosition;
use freshet_core::source::Selects;
use freshet_core::{Error, Result};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// How often a look is taken, at most.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A look that takes long, at many tables, is taken less often: the source is left alone for so many times as long.
const LOOK_SHARE: u32 = 20;

/// Asks for the tip.
pub(super) struct Tip {
    options: WalSourceOptions,
    session: Option<Client>,
    definitions: Kept,
    look_at: Option<Instant>,
}

impl Tip {
    pub(super) fn new(options: &WalSourceOptions, definitions: Kept) -> Self {
        Self { options: options.clone(), session: None, definitions, look_at: None }
    }

    async fn client(&mut self) -> Result<Client> {
        match self.session.take().filter(|client| !client.is_closed()) {
            Some(client) => Ok(client),
            None => session(&self.options, "tip").await,
        }
    }

    /// A look whose time has not come yet.
    pub(super) async fn look(&mut self, selects: &dyn Selects) -> Result<()> {
        let client = self.client().await?;
        self.look_by(&client, selects).await?;
        self.session = Some(client);
        Ok(())
    }

    async fn look_by(&mut self, client: &Client, selects: &dyn Selects) -> Result<()> {
        let begun = Instant::now();
        self.definitions.look(client, &self.options, selects).await?;
        self.look_at = Some(Instant::now() + LOOK_EVERY.max(begun.elapsed() * LOOK_SHARE));
        Ok(())
    }

    /// The end of what is durable in the WAL right now.
    pub(super) async fn position(&mut self, selects: &dyn Selects) -> Result<WalPosition> {
        // The name of a WAL file begins with the timeline. A cancelled or failed question leaves no session behind.
        const SQL: &str = "select pg_catalog.pg_current_wal_flush_lsn()::text, \
             (select system_identifier from pg_catalog.pg_control_system()), \
             pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)";
        let client = self.client().await?;
        let row = client.query_one(SQL, &[]).await.map_err(|error| {
            statement_error(&Scope::Session, "Asking for the end of the source's WAL", &error)
        })?;
        if self.look_at.is_none_or(|at| Instant::now() >= at) {
            self.look_by(&client, selects).await?;
        }
        self.session = Some(client);
        let lsn = lsn::parse(&row.get::<_, String>(0));
        let timeline = u32::from_str_radix(&row.get::<_, String>(2), 16).ok();
        match (lsn, timeline) {
            (Some(lsn), Some(timeline)) => {
                Ok(WalPosition { system: row.get::<_, i64>(1).cast_unsigned(), timeline, lsn })
            }
            _ => Err(Error::corrupt("PostgreSQL's answer for the end of its WAL is not understood")),
        }
    }
}
