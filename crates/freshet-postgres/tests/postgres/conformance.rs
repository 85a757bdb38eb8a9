//! The sink's conformance suite, on a real server.

use crate::common::{Database, server};
use freshet_testkit::conformance::sink::cases;

#[tokio::test(flavor = "multi_thread")]
async fn t11_the_sink_keeps_its_contract() {
    let server = server();
    for (name, case) in cases() {
        println!("case: {name}");
        case(&Database::new(&server)).await;
    }
}
