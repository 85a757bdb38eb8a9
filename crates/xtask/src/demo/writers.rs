//! The people at the shop: two clients that write transactions to the source until they are told to stop.
//!
//! One places orders, the other runs the back office (shipping, prices, stock, addresses, cancellations). Each is the
//! server's own client; a transaction counts as done when the client has printed its answer after the commit.
//! What they write is drawn from a fixed seed; how far they get is not.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use freshet_testkit::servers::MyServer;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::shop::{CUSTOMERS, ORDERS, PRODUCTS, reference};

const SEED: u64 = 7;
/// Between two transactions of one client.
const PAUSE: Duration = Duration::from_millis(3);
const LINES_MAX: usize = 4;

/// What has been committed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    pub transactions: u64,
    pub rows: u64,
}

#[derive(Default)]
struct Counters {
    transactions: AtomicU64,
    rows: AtomicU64,
    running: AtomicU64,
}

/// The running clients.
pub struct Writers {
    counters: Arc<Counters>,
    clients: Vec<(mpsc::Sender<()>, JoinHandle<anyhow::Result<()>>)>,
}

impl Writers {
    /// Both begin.
    pub fn start(source: &MyServer) -> anyhow::Result<Self> {
        let counters = Arc::new(Counters::default());
        let mut clients = Vec::new();
        let works: [fn(&mut StdRng, u64) -> Transaction; 2] = [order, back_office];
        for (seed, work) in works.into_iter().enumerate() {
            let client = Client::start(source)?;
            let rng = StdRng::seed_from_u64(SEED + seed as u64);
            let (stop, stopped) = mpsc::channel();
            let counted = Arc::clone(&counters);
            counters.running.fetch_add(1, Ordering::Relaxed);
            let thread = std::thread::spawn(move || {
                let ended = write(client, rng, work, &stopped, &counted);
                counted.running.fetch_sub(1, Ordering::Relaxed);
                ended
            });
            clients.push((stop, thread));
        }
        Ok(Self { counters, clients })
    }

    /// What has been committed so far.
    pub fn done(&self) -> Done {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Done { transactions: get(&self.counters.transactions), rows: get(&self.counters.rows) }
    }

    /// Fails when a client has given up.
    pub fn check(&self) -> anyhow::Result<()> {
        let running = self.counters.running.load(Ordering::Relaxed);
        ensure!(running == self.clients.len() as u64, "A client of the shop has ended; see its words above");
        Ok(())
    }

    /// Both finish the transaction under way.
    pub fn stop(self) -> anyhow::Result<Done> {
        for (stop, thread) in self.clients {
            let _ = stop.send(());
            thread.join().map_err(|_| anyhow!("A client of the shop panicked"))??;
        }
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Done { transactions: get(&counters.transactions), rows: get(&counters.rows) })
    }
}

fn write(
    mut client: Client,
    mut rng: StdRng,
    work: fn(&mut StdRng, u64) -> Transaction,
    stopped: &mpsc::Receiver<()>,
    counters: &Counters,
) -> anyhow::Result<()> {
    let mut number = 0;
    while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(PAUSE) {
        let transaction = work(&mut rng, number);
        client.run(&transaction.sql)?;
        number += 1;
        counters.transactions.fetch_add(1, Ordering::Relaxed);
        counters.rows.fetch_add(transaction.rows, Ordering::Relaxed);
    }
    client.end()
}

/// A server's client that runs what it is sent and answers each time.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(source: &MyServer) -> anyhow::Result<Self> {
        let mut command = source.client();
        command.args(["--unbuffered", "shop"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("Cannot run the client of the shop")?;
        let input = child.stdin.take().context("No input of a client")?;
        let output = BufReader::new(child.stdout.take().context("No output of a client")?);
        Ok(Self { child, input, output })
    }

    fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        self.input.write_all(sql.as_bytes()).context("A client of the shop has gone")?;
        self.input.write_all(b"select 'done';\n").context("A client of the shop has gone")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer).context("A client of the shop has gone")?;
        match answer.trim_end() {
            "done" => Ok(()),
            other => bail!("A client of the shop answered {other:?} instead of being done"),
        }
    }

    fn end(mut self) -> anyhow::Result<()> {
        drop(self.input);
        let status = self.child.wait()?;
        ensure!(status.success(), "A client of the shop failed ({status})");
        Ok(())
    }
}

/// One transaction and how many rows it writes.
struct Transaction {
    sql: String,
    rows: u64,
}

fn one(sql: String) -> Transaction {
    Transaction { sql, rows: 1 }
}

/// A new order with its lines and mostly its payment; products in key order, so that nobody dead-locks.
fn order(rng: &mut StdRng, number: u64) -> Transaction {
    if number % 9 == 4 {
        return sign_up(number);
    }
    let mut products: Vec<u64> =
        (0..rng.random_range(1..=LINES_MAX)).map(|_| rng.random_range(1..=PRODUCTS)).collect();
    products.sort_unstable();
    products.dedup();
    let customer = rng.random_range(1..=CUSTOMERS);
    let mut sql = format!(
        "begin; insert into orders (customer_id, ordered_at) values ({customer}, now(3)); \
         set @order = last_insert_id();\n"
    );
    for (index, product) in products.iter().enumerate() {
        let (line, quantity) = (index + 1, rng.random_range(1..=3));
        let _ = writeln!(
            sql,
            "update products set stock = stock - {quantity} where id = {product}; \
             insert into order_lines select @order, {line}, id, {quantity}, price, null from products where id = {product};"
        );
    }
    sql += "update orders set total = (select sum(quantity * unit_price) from order_lines where order_id = @order) \
            where id = @order;\n";
    let mut rows = 2 + 2 * products.len() as u64;
    if rng.random_bool(0.8) {
        let reference = reference("@order");
        let _ = writeln!(
            sql,
            "insert into payments (order_id, method, amount, reference, card_token) \
             select id, 'card', total, {reference}, unhex(md5(id)) from orders where id = @order; \
             update orders set status = 'paid' where id = @order;"
        );
        rows += 2;
    }
    sql += "commit;\n";
    Transaction { sql, rows }
}

fn sign_up(number: u64) -> Transaction {
    one(format!(
        "insert into customers (email, first_name, last_name, street, postcode, city, country, created_at) \
         values ('new{number}@example.com', 'Mia', 'Sørensen', 'Strandvejen {number}', '2100', 'København', 'DK', now());\n"
    ))
}

/// Everything but new orders; only orders from before the demo are touched.
fn back_office(rng: &mut StdRng, number: u64) -> Transaction {
    let (order, product) = (rng.random_range(1..=ORDERS), rng.random_range(1..=PRODUCTS));
    match number % 6 {
        0 | 3 => one(format!(
            "update orders set status = 'shipped', shipped_at = now() where id = {};\n",
            ORDERS - rng.random_range(0..3_000)
        )),
        1 => one(format!(
            "update products set price = round(price * {}, 2) where id = {product};\n",
            if rng.random_bool(0.5) { "1.05" } else { "0.96" }
        )),
        2 => one(format!(
            "update customers set street = 'Neue Straße {}', newsletter = 1 - newsletter where id = {};\n",
            number % 200,
            rng.random_range(1..=CUSTOMERS)
        )),
        4 => Transaction { sql: cancel(order), rows: 5 },
        _ => Transaction {
            sql: format!(
                "update products set stock = stock + 50 where id between {product} and {};\n",
                product + 9
            ),
            rows: 10,
        },
    }
}

/// An order disappears with everything that belongs to it, children first.
fn cancel(order: u64) -> String {
    format!(
        "begin; delete from payments where order_id = {order}; delete from order_lines where order_id = {order}; \
         delete from orders where id = {order}; commit;\n"
    )
}
