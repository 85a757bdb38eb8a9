//! The shop: its tables at the source, its rows, and how each table is printed on both sides.
//!
//! Types are chosen to be usual and not trivial: unsigned numbers, decimals, three kinds of time, enums, UUIDs,
//! bytes, text in several languages, a composite key, foreign keys. The rows are the same in every run.

use super::words::{self, below, pick};

pub const CUSTOMERS: u64 = 30_000;
pub const PRODUCTS: u64 = 1_500;
pub const ORDERS: u64 = 70_000;
const LINES_MAX: u64 = 3;

/// A table, and the column lists that print the same text on both sides.
pub struct Table {
    pub name: &'static str,
    pub words: &'static str,
    pub key: &'static str,
    pub source_columns: &'static str,
    pub target_columns: &'static str,
}

/// Parents first.
pub const TABLES: &[Table] = &[
    Table {
        name: "customers",
        words: "customers",
        key: "id",
        source_columns: "id, email, first_name, last_name, street, postcode, city, country, birthday, \
            newsletter, created_at",
        target_columns: "id, email, first_name, last_name, street, postcode, city, country, birthday, \
            newsletter, to_char(created_at, 'YYYY-MM-DD HH24:MI:SS')",
    },
    Table {
        name: "products",
        words: "products",
        key: "id",
        source_columns: "id, sku, name, category, price, weight_kg, stock, description, updated_at",
        target_columns: "id, sku, name, category, price, weight_kg, stock, description, \
            to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
    },
    Table {
        name: "orders",
        words: "orders",
        key: "id",
        source_columns: "id, customer_id, status, total, note, ordered_at, shipped_at",
        target_columns: "id, customer_id, status, total, note, \
            to_char(ordered_at, 'YYYY-MM-DD HH24:MI:SS.MS'), to_char(shipped_at, 'YYYY-MM-DD HH24:MI:SS')",
    },
    Table {
        name: "order_lines",
        words: "order lines",
        key: "order_id, line_no",
        source_columns: "order_id, line_no, product_id, quantity, unit_price, discount",
        target_columns: "order_id, line_no, product_id, quantity, unit_price, discount",
    },
    Table {
        name: "payments",
        words: "payments",
        key: "id",
        source_columns: "id, order_id, method, amount, reference, lower(hex(card_token)), paid_at",
        target_columns: "id, order_id, method, amount, reference, encode(card_token, 'hex'), \
            to_char(paid_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')",
    },
];

/// The tables, empty.
pub fn schema() -> String {
    "create database shop character set utf8mb4;
    use shop;
    create table customers (
        id int unsigned not null auto_increment primary key,
        email varchar(120) not null unique,
        first_name varchar(40) not null,
        last_name varchar(40) not null,
        street varchar(80) not null,
        postcode char(6) not null,
        city varchar(40) not null,
        country char(2) not null,
        birthday date null,
        newsletter tinyint not null default 0,
        created_at datetime not null,
        key by_city (country, city)
    );
    create table products (
        id int unsigned not null auto_increment primary key,
        sku char(9) not null unique,
        name varchar(100) not null,
        category varchar(30) not null,
        price decimal(10,2) not null,
        weight_kg float null,
        stock int not null,
        description text null,
        updated_at timestamp(6) not null default current_timestamp(6) on update current_timestamp(6)
    );
    create table orders (
        id bigint not null auto_increment primary key,
        customer_id int unsigned not null references customers (id),
        status enum('new', 'paid', 'shipped', 'cancelled') not null default 'new',
        total decimal(12,2) not null default 0,
        note varchar(200) null,
        ordered_at datetime(3) not null,
        shipped_at datetime null,
        key by_day (ordered_at)
    );
    create table order_lines (
        order_id bigint not null references orders (id),
        line_no tinyint unsigned not null,
        product_id int unsigned not null references products (id),
        quantity smallint unsigned not null,
        unit_price decimal(10,2) not null,
        discount decimal(5,2) null,
        primary key (order_id, line_no)
    );
    create table payments (
        id bigint not null auto_increment primary key,
        order_id bigint not null references orders (id),
        method enum('card', 'transfer', 'paypal', 'voucher') not null,
        amount decimal(12,2) not null,
        reference uuid not null,
        card_token varbinary(16) null,
        paid_at timestamp(3) not null default current_timestamp(3)
    );"
    .to_owned()
}

/// What the shop has sold so far.
pub fn rows() -> String {
    ["use shop;".to_owned(), customers(), products(), orders(), order_lines(), totals(), payments()]
        .join("\n")
}

fn customers() -> String {
    let first = pick("first", "seq", words::FIRST_NAMES);
    let last = pick("last", "seq", words::LAST_NAMES);
    let host = pick("host", "seq", words::MAIL_HOSTS);
    let street = pick("street", "seq", words::STREETS);
    let number = below("number", "seq", 120);
    let postcode = pick("city", "seq", words::POSTCODES);
    let district = below("district", "seq", 1_000);
    let (city, country) = (pick("city", "seq", words::CITIES), pick("city", "seq", words::COUNTRIES));
    let (age, since) = (below("age", "seq", 20_000), below("since", "seq", 100_000_000));
    format!(
        "insert into customers select seq,
            concat(left(md5(concat('mail', seq)), 6), seq, '@', {host}), {first}, {last},
            concat({street}, ' ', 1 + {number}), concat({postcode}, lpad({district}, 3, '0')), {city}, {country},
            if(seq % 9 = 0, null, '1950-01-01' + interval {age} day), seq % 4 = 0,
            '2023-01-01 00:00:00' + interval {since} second
        from seq_1_to_{CUSTOMERS};"
    )
}

fn products() -> String {
    let quality = pick("quality", "seq", words::QUALITIES);
    let material = pick("material", "seq", words::MATERIALS);
    let thing = pick("thing", "seq", words::THINGS);
    let category = pick("category", "seq", words::CATEGORIES);
    let (price, weight, stock) =
        (below("price", "seq", 400), below("weight", "seq", 300), below("stock", "seq", 900));
    format!(
        "insert into products select seq, concat('FR-', lpad(seq, 6, '0')),
            concat({quality}, ' ', {material}, ' ', {thing}), {category}, {price} + 4.95,
            if(seq % 11 = 0, null, {weight} / 8), 100 + {stock},
            concat('A ', lower({quality}), ' ', lower({thing}), ' made of ', lower({material}), '. ',
                repeat('It lasts. ', seq % 12)),
            '2026-01-01 08:00:00.000001' + interval seq * 977 second
        from seq_1_to_{PRODUCTS};"
    )
}

fn orders() -> String {
    let customer = below("customer", "seq", CUSTOMERS);
    let note = pick("note", "seq", words::NOTES);
    let ms = below("ms", "seq", 1_000);
    format!(
        "insert into orders select seq, 1 + {customer},
            if(seq % 37 = 0, 'cancelled', if(seq > {ORDERS} - 3000, 'paid', 'shipped')), 0,
            if(seq % 13 = 0, {note}, null),
            '2024-01-01 06:00:00' + interval seq * 871 second + interval {ms} * 1000 microsecond,
            if(seq % 37 = 0 or seq > {ORDERS} - 3000, null, '2024-01-02 14:30:00' + interval seq * 871 second)
        from seq_1_to_{ORDERS};"
    )
}

fn order_lines() -> String {
    let number = "concat(orders.id, '-', seq)";
    let product = below("product", number, PRODUCTS);
    let (quantity, lines) = (below("quantity", number, 4), below("lines", "orders.id", LINES_MAX));
    format!(
        "insert into order_lines select orders.id, seq, products.id, 1 + {quantity}, products.price,
            if(crc32({number}) % 8 = 0, 5.00, null)
        from orders join seq_1_to_{LINES_MAX} join products on products.id = 1 + {product}
        where seq <= 1 + {lines};"
    )
}

fn totals() -> String {
    "update orders join (
        select order_id, sum(quantity * unit_price * (1 - coalesce(discount, 0) / 100)) as total
        from order_lines group by order_id
    ) sums on sums.order_id = orders.id set orders.total = round(sums.total, 2);"
        .to_owned()
}

fn payments() -> String {
    let method = pick("method", "id", &["card", "transfer", "paypal", "voucher"]);
    format!(
        "insert into payments (order_id, method, amount, reference, card_token, paid_at)
        select id, {method}, total, {}, if(id % 3 = 0, unhex(md5(concat('token', id))), null),
            ordered_at + interval 90 second
        from orders where status <> 'cancelled' order by id;",
        reference("id")
    )
}

/// A UUID (version 4 by its look) made of a number.
pub fn reference(number: &str) -> String {
    let md5 = format!("md5(concat('payment', {number}))");
    let part = |at: u32, length: u32| format!("substr({md5}, {at}, {length})");
    let (third, fourth) = (part(13, 3), part(17, 3));
    format!(
        "concat({}, '-', {}, '-4', {third}, '-8', {fourth}, '-', {})",
        part(1, 8),
        part(9, 4),
        part(21, 12)
    )
}
