//! The servers of a bench: 1 GB of buffers each, a large redo log, durability as by default.

use anyhow::Context as _;
use freshet_testkit::servers::{Flavor, MyOptions, MyServer, Postgres, PostgresOptions, poll_until};
use std::time::Duration;

use super::work::{self, Backlog};

/// A MariaDB with the bench's tables.
pub fn mariadb() -> anyhow::Result<MyServer> {
    let options = MyOptions::default().with_freshet_user();
    let options = options.arg("--innodb-buffer-pool-size=1G").arg("--innodb-log-file-size=1G");
    let server = MyServer::try_start(Flavor::MariaDb, options.arg("--max-binlog-size=1G"))?;
    server.try_sql(work::MARIADB)?;
    Ok(server)
}

/// A MariaDB that is a target: without tables, and without a binlog, as by default.
pub fn mariadb_target() -> anyhow::Result<MyServer> {
    let options = MyOptions::default().with_freshet_user().arg("--skip-log-bin");
    let options = options.arg("--innodb-buffer-pool-size=1G").arg("--innodb-log-file-size=1G");
    let server = MyServer::try_start(Flavor::MariaDb, options)?;
    server.try_sql("grant all on *.* to freshet")?;
    Ok(server)
}

/// A PostgreSQL without tables.
pub fn postgres() -> anyhow::Result<Postgres> {
    let options = PostgresOptions::default().with_freshet_user();
    let options = options.set("shared_buffers", "1GB").set("max_wal_size", "8GB");
    Ok(Postgres::try_start(&options)?)
}

/// A PostgreSQL that is a source: database `bench` with tables, procedures and publication.
pub fn postgres_source() -> anyhow::Result<Postgres> {
    let server = postgres()?;
    server.try_sql("create database bench; alter role freshet replication superuser")?;
    server.try_sql_in("bench", work::POSTGRES_TABLES)?;
    server.try_sql_in("bench", work::POSTGRES_SOURCE)?;
    Ok(server)
}

/// Writes `rows` rows of `t`, not into the binlog: what is there before anything is measured.
pub fn fill_mariadb(server: &MyServer, rows: u64) -> anyhow::Result<()> {
    let batches = rows / 1000;
    unsynced(server, &format!("set sql_log_bin = 0; call inserts({batches}, 1000); analyze table t"))
}

/// Writes a backlog and the mark.
pub fn write_mariadb(server: &MyServer, backlog: Backlog) -> anyhow::Result<()> {
    unsynced(server, &backlog.call())?;
    server.try_sql("insert into bench.mark values (1)")?;
    Ok(())
}

/// Runs statements with commits that wait for no disk: they are not what is measured.
fn unsynced(server: &MyServer, sql: &str) -> anyhow::Result<()> {
    let set = |value: u8| format!("set global innodb_flush_log_at_trx_commit = {value}");
    server.try_sql(&format!("use bench; {}; {sql}; {}", set(2), set(1)))?;
    Ok(())
}

/// Writes `rows` rows of `t`.
pub fn fill_postgres(server: &Postgres, rows: u64) -> anyhow::Result<()> {
    let batches = rows / 1000;
    let sql =
        format!("set synchronous_commit = off; call inserts({batches}, 1000); vacuum analyze t; checkpoint");
    server.try_sql_in("bench", &sql.replace("; ", ";\n"))?;
    Ok(())
}

/// Writes a backlog and the mark.
pub fn write_postgres(server: &Postgres, backlog: Backlog) -> anyhow::Result<()> {
    let sql = format!(
        "set synchronous_commit = off;\n{};\ninsert into mark values (1);\ncheckpoint",
        backlog.call()
    );
    server.try_sql_in("bench", &sql)?;
    Ok(())
}

/// A fresh database for freshet, or a copy of one.
pub fn database(server: &Postgres, name: &str, template: Option<&str>) -> anyhow::Result<()> {
    let template = template.unwrap_or("template1");
    // Sessions of a client that was just ended take a moment to go.
    let mut made = Ok(String::new());
    let sql = format!(
        "drop database if exists {name} with (force);\n\
         create database {name} template {template} owner freshet strategy file_copy;\ncheckpoint"
    );
    poll_until(Duration::from_secs(30), || {
        made = server.try_sql(&sql);
        made.is_ok()
    });
    made.map(drop).with_context(|| format!("Cannot make the database {name}"))
}

/// Waits on the target for a mark and returns when it was visible, in seconds since 1970.
pub fn wait_for_mark(server: &Postgres, database: &str, id: u64, deadline_s: u64) -> anyhow::Result<f64> {
    let sql = format!(
        "do $$ declare stop timestamptz := clock_timestamp() + interval '{deadline_s} s'; begin loop
            begin
                exit when exists (select from mark where id = {id});
            exception when undefined_table then null;
            end;
            if clock_timestamp() > stop then raise exception 'The mark has not arrived within {deadline_s} s'; end if;
            perform pg_sleep(0.004);
        end loop; end $$;
        select extract(epoch from clock_timestamp());"
    );
    let text = server.try_sql_in(database, &sql)?;
    text.trim().parse().with_context(|| format!("No time but {text:?}"))
}

/// The same on a MariaDB.
pub fn wait_for_mark_mariadb(
    server: &MyServer,
    database: &str,
    id: u64,
    deadline_s: u64,
) -> anyhow::Result<f64> {
    let sql = format!(
        "delimiter //
        begin not atomic
            declare found int default 0;
            declare stop datetime(6) default sysdate(6) + interval {deadline_s} second;
            declare continue handler for 1146, 1049 do sleep(0);
            while found = 0 do
                select count(*) into found from {database}.mark where id = {id};
                if sysdate(6) > stop then
                    signal sqlstate '45000' set message_text = 'The mark has not arrived in time';
                end if;
                do sleep(0.004);
            end while;
        end //
        delimiter ;
        select unix_timestamp(sysdate(6));"
    );
    let text = server.try_sql(&sql)?;
    text.trim().parse().with_context(|| format!("No time but {text:?}"))
}

/// Statements that make a MariaDB a replica of another from a position on, off, with empty tables.
pub fn change_master(source: &MyServer, start: &str, threads: u32) -> String {
    format!(
        "stop slave; reset slave all; truncate bench.t; truncate bench.mark; truncate bench.lat;
         set global slave_parallel_threads = {threads}; set global slave_parallel_mode = 'optimistic';
         set global gtid_slave_pos = '{start}';
         change master to master_host = '127.0.0.1', master_port = {}, master_user = 'freshet',
             master_password = 'freshet', master_use_gtid = slave_pos",
        source.port()
    )
}

/// Ends a subscription and leaves its slot alone.
pub fn drop_subscription(server: &Postgres, database: &str, name: &str) -> anyhow::Result<()> {
    let sql = format!(
        "alter subscription {name} disable;\nalter subscription {name} set (slot_name = none);\n\
         drop subscription {name}"
    );
    server.try_sql_in(database, &sql)?;
    Ok(())
}

/// Drops a slot once its reader has gone, if it is there.
pub fn drop_slot(server: &Postgres, name: &str) -> anyhow::Result<()> {
    let sql = format!(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{name}'"
    );
    let mut dropped = Ok(String::new());
    poll_until(Duration::from_secs(30), || {
        dropped = server.try_sql(&sql);
        dropped.is_ok()
    });
    dropped.map(drop).with_context(|| format!("Cannot drop the slot {name}"))
}
