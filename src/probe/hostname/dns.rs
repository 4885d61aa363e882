//! What the DNS servers of resolv.conf say, without NSS, cache or hosts file.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Reason};

/// Asks for both kinds of addresses. `resolv_conf` is the file's text; where it names no server,
/// the one on this host is asked, as glibc does.
pub async fn look_up(name: &str, resolv_conf: &str, deadline: Instant) -> Answer {
    let failed = |reason, why: String| Answer::Failure(reason, why);
    // Not by the text itself: that way refuses underscores.
    let query = match Name::from_ascii(name) {
        Ok(query) => query,
        Err(error) => {
            return failed(
                Reason::Invalid,
                format!("{name} is no name for DNS: {error}"),
            );
        }
    };
    let names_a_server = resolv_conf
        .lines()
        .any(|line| line.split_whitespace().next() == Some("nameserver"));
    let text = if names_a_server {
        resolv_conf.to_owned()
    } else {
        format!("{resolv_conf}\nnameserver 127.0.0.1\n")
    };
    let resolver = parse_resolv_conf(text).and_then(|(config, options)| {
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let opts = builder.options_mut();
        *opts = options;
        opts.use_hosts_file = ResolveHosts::Never;
        opts.cache_size = 0;
        opts.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // Twice within the deadline, so that one lost packet is no outage.
        opts.attempts = 1;
        opts.timeout =
            (deadline.saturating_duration_since(Instant::now()) / 2).max(Duration::from_millis(10));
        builder.build()
    });
    let resolver = match resolver {
        Ok(resolver) => resolver,
        Err(error) => {
            return failed(
                Reason::Invalid,
                format!("/etc/resolv.conf cannot be understood: {error}"),
            );
        }
    };
    match timeout_at(deadline, resolver.lookup_ip(query)).await {
        Err(_) => failed(Reason::Timeout, "no DNS server answered in time".to_owned()),
        Ok(Ok(found)) => {
            let mut addresses: Vec<IpAddr> = found.iter().collect();
            addresses.sort_unstable();
            addresses.dedup();
            if addresses.is_empty() {
                return failed(
                    Reason::NoData,
                    "DNS knows the name, but no address".to_owned(),
                );
            }
            Answer::Addresses(addresses)
        }
        Ok(Err(error)) => failed(reason(&error), format!("DNS: {error}")),
    }
}

fn reason(error: &NetError) -> Reason {
    if error.is_nx_domain() {
        return Reason::NotFound;
    }
    match error.as_metrics_label() {
        "dns_no_records" => Reason::NoData,
        "dns_response_code_refused" => Reason::Refused,
        "dns_response_code_nxdomain" => Reason::NotFound,
        "timeout" | "io_timed_out" => Reason::Timeout,
        "proto" | "dns_response_code_formerror" => Reason::Invalid,
        _ => Reason::Temporary,
    }
}
