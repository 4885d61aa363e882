//! baseline-exporter: is this host still at its known-good baseline?

mod baseline;
mod findings;
mod metrics;
mod observation;
mod process;
mod systemd;

use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::DEBUG)
        .init();
    runtime.block_on(async {
        let name = |name: &str, expected| baseline::Unit {
            name: name.to_owned(),
            expected,
            tier: 1,
            because: None,
            start_within: Duration::from_secs(5),
        };
        let b = baseline::Baseline {
            deployment: "demo".into(),
            version: "x".into(),
            source: "embedded".into(),
            systemd: baseline::Systemd {
                watch: std::env::args()
                    .skip(1)
                    .map(|a| glob::Pattern::new(&a).unwrap())
                    .collect(),
                units: vec![
                    name("dbus.service", baseline::Expected::Running),
                    name("absent.service", baseline::Expected::Absent),
                ],
                retired: vec![],
                resync: Duration::from_secs(10),
            },
        };
        let host = observation::Host::watch(b);
        loop {
            let o = Arc::new(host.look(Instant::now() + Duration::from_secs(5)).await);
            let f = findings::judge(&o);
            for c in &f.checks {
                println!("{c:?}");
            }
            for u in &f.units {
                if let Some(s) = u.sentence() {
                    println!("{s}");
                }
            }
            println!("{}", metrics::encode(&o, metrics::Format::Text, 0));
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    });
}
