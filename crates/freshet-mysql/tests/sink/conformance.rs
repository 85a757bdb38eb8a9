//! The sink's conformance suite, on real servers.

use crate::common::Place;
use freshet_testkit::conformance::sink::cases;
use freshet_testkit::servers::Flavor;

async fn keeps_its_contract(flavor: Flavor) {
    for (name, case) in cases() {
        println!("case: {name}");
        case(&Place::new(flavor).await).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_the_sink_keeps_its_contract_on_mariadb() {
    keeps_its_contract(Flavor::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t11_the_sink_keeps_its_contract_on_mysql() {
    keeps_its_contract(Flavor::MySql).await;
}
