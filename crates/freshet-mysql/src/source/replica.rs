//! The name under which the source reads: a server id that nobody else uses, and a UUID.
//!
//! A server ends the dump of whoever uses a server id (MySQL: a UUID) that a newer dump uses, so a duplicate makes
//! two readers end each other for ever (P21). Random ids are drawn from all 32 bits and drawn again after a
//! collision; a configured one is refused with the remedy. The name is kept over reconnects: that is how a server
//! ends what is left of our own earlier connection.

use std::time::Duration;

use freshet_core::error::{Error, ErrorKind, Result};
use freshet_core::gtid::Uuid;
use rand::RngExt as _;
use tokio::time::{Instant, sleep};

use crate::server::{Flavour, ServerFacts};
use crate::wire::{Connection, Rows, WireError};

/// Smaller ids are what people give to servers.
const RANDOM_ID_MIN: u32 = 1 << 24;

/// Random ids drawn at most for one connection.
const DRAWS_MAX: u32 = 16;

/// A configured id may still be listed for an earlier process of ours, until the server notices that it is gone,
/// at the latest with the second heartbeat.
const LISTED_HEARTBEATS_MAX: u32 = 4;

/// The host name that the list of replicas shows for freshet.
const HOST: &str = "freshet";

/// Our name among the server's replicas.
#[derive(Debug)]
pub(crate) struct Replica {
    configured: Option<u32>,
    /// The id in use; chosen at the first connection, and again after it was found taken.
    id: Option<u32>,
    uuid: Uuid,
}

impl Replica {
    pub(crate) fn new(configured: Option<u32>) -> Self {
        Self { configured, id: None, uuid: Uuid(rand::rng().random()) }
    }

    pub(crate) fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Registers with the server and returns the id to read with.
    pub(crate) async fn register(
        &mut self,
        facts: &ServerFacts,
        connection: &mut Connection,
        heartbeat: Duration,
    ) -> Result<u32> {
        let id = match (self.id, self.configured) {
            (Some(id), _) => id,
            (None, Some(id)) => self.wait_until_free(id, facts, connection, heartbeat).await?,
            (None, None) => draw(facts, &listed_ids(facts, connection).await?.unwrap_or_default())?,
        };
        connection.register_replica(id, HOST).await.map_err(no_privilege)?;
        self.id = Some(id);
        Ok(id)
    }

    /// The server has ended our dump because another reader has our name: says what to do about it.
    pub(crate) fn taken(&mut self, detail: &str) -> Error {
        let lost = self.id.take();
        let shown = lost.map_or_else(String::new, |id| id.to_string());
        match self.configured {
            Some(id) => taken(id, &format!("another reader began with it: {detail}")),
            None => Error::unavailable(format!(
                "Another reader uses the random server id {shown}; drawing another ({detail})"
            )),
        }
    }

    async fn wait_until_free(
        &self,
        id: u32,
        facts: &ServerFacts,
        connection: &mut Connection,
        heartbeat: Duration,
    ) -> Result<u32> {
        if id == 0 || id == facts.server_id {
            return Err(taken(id, "it is the source server's own, or zero"));
        }
        let deadline = Instant::now() + heartbeat * LISTED_HEARTBEATS_MAX;
        loop {
            let Some(ids) = listed_ids(facts, connection).await? else {
                tracing::warn!(
                    "The account may not list the server's replicas: server id {id} is not checked"
                );
                return Ok(id);
            };
            if !ids.contains(&id) {
                return Ok(id);
            }
            if Instant::now() >= deadline {
                return Err(taken(id, "a replica is registered with it"));
            }
            sleep(heartbeat / 4).await;
        }
    }
}

fn draw(facts: &ServerFacts, listed: &[u32]) -> Result<u32> {
    let mut draws = (0..DRAWS_MAX).map(|_| rand::rng().random_range(RANDOM_ID_MIN..u32::MAX));
    draws
        .find(|id| *id != facts.server_id && !listed.contains(id))
        .ok_or_else(|| Error::internal("No free server id was drawn"))
}

/// The server ids of the registered replicas; `None` if the account may not see them.
async fn listed_ids(facts: &ServerFacts, connection: &mut Connection) -> Result<Option<Vec<u32>>> {
    let statement = match facts.flavour {
        Flavour::Mysql if facts.version >= (8, 0, 22) => "SHOW REPLICAS",
        Flavour::Mysql | Flavour::Mariadb => "SHOW SLAVE HOSTS",
    };
    match connection.query(statement).await.map_err(Error::from) {
        Ok(rows) => Ok(Some(ids_of(&rows))),
        Err(error) if *error.kind() == ErrorKind::Invalid => Ok(None),
        Err(error) => Err(error),
    }
}

fn ids_of(rows: &Rows) -> Vec<u32> {
    rows.into_iter().filter_map(|row| row.text(0)?.parse().ok()).collect()
}

/// Both servers say "access denied" of an account that has logged in but may not register.
fn no_privilege(error: WireError) -> Error {
    const ACCESS_DENIED: u16 = 1045;
    match error.server_code() {
        Some(ACCESS_DENIED) => Error::invalid(format!(
            "The account may not read the binlog: it lacks REPLICATION SLAVE ({error})"
        ))
        .with_hint("Give the account the privileges that freshet check --grants prints"),
        _ => error.into(),
    }
}

fn taken(id: u32, why: &str) -> Error {
    Error::invalid(format!("The server id {id} cannot be used: {why}")).with_hint(
        "Give the source a server_id that no server or reader of this replication uses, or leave it out: then a random one is used",
    )
}
