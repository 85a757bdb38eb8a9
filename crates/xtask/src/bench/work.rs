//! The rows that are moved, as SQL of both kinds of server: the same table, the same rows, the same sums.
//!
//! `t` has about 150 bytes a row. Procedures write it in transactions of a given number of rows; `mark` gets a row
//! last, which tells that everything before it has arrived. `big` has rows of a kilobyte, `lat` single small ones.

/// The source database on MariaDB, empty.
pub const MARIADB: &str = r#"
create database bench character set utf8mb4;
use bench;
create table t (
    id bigint not null primary key,
    tenant int unsigned not null,
    name varchar(64) not null,
    email varchar(128) null,
    amount decimal(18,4) not null,
    created datetime(6) not null,
    updated timestamp(3) not null default current_timestamp(3),
    status enum('new', 'paid', 'shipped', 'cancelled') not null,
    flags tinyint not null,
    payload text null
);
create table mark (id bigint primary key);
create table lat (id bigint primary key, v varchar(200) not null);
create table big (id bigint primary key, filler text not null);
delimiter //
create procedure inserts(batches int, per int) begin
    declare i int default 0;
    while i < batches do
        insert into t select i * per + n, n * 7 % 5000, concat('customer name ', n, ' ', i),
            if(n % 7 = 0, null, concat('user', i * per + n, '@example.com')), (i * per + n) * 1.2345 - 5000,
            '2026-03-01 10:11:12.123456' + interval n second, now(3), 1 + n % 4, n % 128 - 64,
            repeat(char(97 + n % 26), 40 + n % 80)
        from (select cast(seq as signed) as n from seq_1_to_1000 where seq <= per) numbers;
        set i = i + 1;
    end while;
end //
create procedure singles(rows_wanted int) begin
    declare i int default 1;
    while i <= rows_wanted do
        insert into t values (i, i * 7 % 5000, concat('customer name ', i % 1000, ' x'),
            if(i % 7 = 0, null, concat('user', i, '@example.com')), i * 1.2345 - 5000,
            '2026-03-01 10:11:12.123456' + interval i second, now(3), 1 + i % 4, i % 128 - 64,
            repeat(char(97 + i % 26), 40 + i % 80));
        set i = i + 1;
    end while;
end //
create procedure updates(rows_wanted int) begin
    declare i int default 1;
    while i <= rows_wanted do
        update t set amount = amount + 1, status = 'paid', updated = now(3) where id = i;
        set i = i + 1;
    end while;
end //
delimiter ;
"#;

/// The same on PostgreSQL, with a publication.
pub const POSTGRES_TABLES: &str = r#"
create table t (
    id bigint primary key,
    tenant bigint not null,
    name varchar(64) not null,
    email varchar(128),
    amount numeric(18,4) not null,
    created timestamp(6) not null,
    updated timestamptz(3) not null default now(),
    status text not null,
    flags smallint not null,
    payload text
);
create table mark (id bigint primary key);
create table lat (id bigint primary key, v varchar(200) not null);
"#;

/// What the PostgreSQL that is a source needs besides its tables.
pub const POSTGRES_SOURCE: &str = r#"
create procedure inserts(batches int, per int) language plpgsql as $$ begin
    for i in 0 .. batches - 1 loop
        insert into t select i::bigint * per + n, n * 7 % 5000, 'customer name ' || n || ' ' || i,
            case when n % 7 <> 0 then 'user' || (i::bigint * per + n) || '@example.com' end,
            (i::bigint * per + n) * 1.2345 - 5000, timestamp '2026-03-01 10:11:12.123456' + n * interval '1 second',
            clock_timestamp(), (array['new', 'paid', 'shipped', 'cancelled'])[1 + n % 4], n % 128 - 64,
            repeat(chr(97 + n % 26), 40 + n % 80)
        from generate_series(1, per) n;
        commit;
    end loop;
end $$;
create procedure singles(rows_wanted int) language plpgsql as $$ begin
    for i in 1 .. rows_wanted loop
        insert into t values (i, i * 7 % 5000, 'customer name ' || i % 1000 || ' x',
            case when i % 7 <> 0 then 'user' || i || '@example.com' end, i * 1.2345 - 5000,
            timestamp '2026-03-01 10:11:12.123456' + i * interval '1 second', clock_timestamp(),
            (array['new', 'paid', 'shipped', 'cancelled'])[1 + i % 4], i % 128 - 64,
            repeat(chr(97 + i % 26), 40 + i % 80));
        commit;
    end loop;
end $$;
create procedure updates(rows_wanted int) language plpgsql as $$ begin
    for i in 1 .. rows_wanted loop
        update t set amount = amount + 1, status = 'paid', updated = clock_timestamp() where id = i;
        commit;
    end loop;
end $$;
create publication pub for table t, mark, lat;
"#;

/// Count and checksum of `t` on MariaDB, where it stands in `schema`.
pub fn mariadb_sum(schema: &str) -> String {
    format!(
        "set time_zone = '+00:00'; \
         select concat(count(*), ' ', coalesce(sum(cast(conv(left(md5(concat_ws('|', id, tenant, name, \
         coalesce(email, '-'), amount, created, date_format(updated, '%Y-%m-%d %H:%i:%s.%f'), status, flags, payload\
         )), 8), 16, 10) as unsigned)), 0)) from {schema}.t"
    )
}

/// Count and checksum of `t` on PostgreSQL, where it stands in `schema`.
pub fn postgres_sum(schema: &str) -> String {
    format!(
        "select count(*) || ' ' || coalesce(sum(('x' || left(md5(concat_ws('|', id, tenant, name, \
         coalesce(email, '-'), amount, to_char(created, 'YYYY-MM-DD HH24:MI:SS.US'), \
         to_char(updated at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), status, flags, payload\
         )), 8))::bit(32)::bigint), 0) from {schema}.t"
    )
}

/// How a backlog is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// Inserts in transactions of 100 rows.
    By100(u64),
    /// Single-row inserts.
    Singles(u64),
    /// Single-row updates by key over a table of so many rows.
    Updates { rows: u64, over: u64 },
}

impl Backlog {
    /// Changes in it.
    pub fn rows(self) -> u64 {
        match self {
            Backlog::By100(rows) | Backlog::Singles(rows) | Backlog::Updates { rows, .. } => rows,
        }
    }

    /// Rows that are there before it.
    pub fn rows_before(self) -> u64 {
        match self {
            Backlog::By100(_) | Backlog::Singles(_) => 0,
            Backlog::Updates { over, .. } => over,
        }
    }

    /// The call that writes it, in the words of both kinds of server.
    pub fn call(self) -> String {
        match self {
            Backlog::By100(rows) => format!("call inserts({}, 100)", rows / 100),
            Backlog::Singles(rows) => format!("call singles({rows})"),
            Backlog::Updates { rows, .. } => format!("call updates({rows})"),
        }
    }
}
