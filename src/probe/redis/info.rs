//! What INFO tells: when the server was started, who is connected, and whether it takes writes.

use redis::{InfoDict, Value};

use super::{Failure, Reason};

/// When the server was started, seconds since the epoch by its own clock (INFO server). Both
/// figures are from the same tick of the server, so that their difference stays the same.
pub fn started(info: &InfoDict) -> Option<u64> {
    let now = info.get::<u64>("server_time_usec")? / 1_000_000;
    now.checked_sub(info.get("uptime_in_seconds")?)
}

/// How many clients are connected, with the exporter's own connection (INFO clients); without those
/// of replicas.
pub fn connected_clients(info: &InfoDict) -> Option<u64> {
    info.get("connected_clients")
}

/// Whether it takes writes, and what keeps them away or keeps this from being told.
///
/// Its persistence is not asked for: a server that takes no writes since it could not save says so
/// when it is asked for PING, and one that answers PONG takes them, however its last save went.
pub fn writable(info: &InfoDict, address: &str) -> (Option<bool>, Option<Failure>) {
    let text = |key| info.get::<String>(key);
    let number = |key| info.get::<u64>(key);
    let refuses = |reason, why: &str| {
        let sentence = format!("INFO of {address}: {why}");
        (Some(false), Some(Failure { reason, sentence }))
    };
    match text("role").as_deref() {
        Some("master") => {}
        Some("slave") if text("slave_read_only").as_deref() == Some("0") => {}
        Some("slave") => {
            let master = match (text("master_host"), text("master_port")) {
                (Some(host), Some(port)) => format!(" of {host}:{port}"),
                _ => String::new(),
            };
            let link = match text("master_link_status").as_deref() {
                Some("up") | None => "",
                Some(_) => ", which it cannot reach",
            };
            return refuses(
                Reason::ReadOnly,
                &format!(
                    "it is a replica{master}{link}, and takes no writes: name the master in `url`, \
                     or promote it by REPLICAOF NO ONE"
                ),
            );
        }
        _ => {
            let sentence = format!(
                "INFO of {address}: it does not tell its role, so that nothing says whether it \
                 takes writes: check that redis itself listens there, or turn on `write_canary`"
            );
            let reason = Reason::Protocol;
            return (None, Some(Failure { reason, sentence }));
        }
    }
    // The line is there only where min-replicas-to-write is set.
    if number("min_slaves_good_slaves") == Some(0) {
        return refuses(
            Reason::ReadOnly,
            "none of the replicas is there that min-replicas-to-write asks for, and it takes no \
             writes without: bring a replica back",
        );
    }
    // What the server itself leaves out of the count.
    let used = number("used_memory")
        .zip(number("mem_not_counted_for_evict").or(Some(0)))
        .map(|(used, apart)| used.saturating_sub(apart));
    if let (Some(used), Some(most)) = (used, number("maxmemory"))
        && (most > 0 && used > most)
        && !can_evict(info)
    {
        return refuses(
            Reason::OutOfMemory,
            "it has used up its maxmemory, has nothing that it may evict and takes no writes: \
             delete keys, raise maxmemory, or look at maxmemory-policy",
        );
    }
    (Some(true), None)
}

/// Whether it has keys that it may give up for new ones, as far as its policy tells.
fn can_evict(info: &InfoDict) -> bool {
    match info.get::<String>("maxmemory_policy").as_deref() {
        Some("noeviction") => false,
        // Only keys that expire: `db0:keys=5,expires=2,avg_ttl=1000`.
        Some(policy) if policy.starts_with("volatile-") => info.iter().any(|(name, value)| {
            let Value::SimpleString(fields) = value else {
                return false;
            };
            let expires = |field: &str| {
                field
                    .strip_prefix("expires=")
                    .is_some_and(|number| number != "0")
            };
            name.starts_with("db") && fields.split(',').any(expires)
        }),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_full_where_the_limit_is_passed_and_nothing_can_go() {
        let full = |lines: &str| {
            let text = format!("role:master\r\n{}\r\n", lines.replace(' ', "\r\n"));
            let (writable, failure) = writable(&InfoDict::new(&text), "there");
            let reason = failure.map(|failure| failure.reason);
            assert_eq!(writable, Some(reason.is_none()));
            reason == Some(Reason::OutOfMemory)
        };
        let passed = "used_memory:101 maxmemory:100 maxmemory_policy:";
        assert!(full(&format!("{passed}noeviction")));
        assert!(full(&format!("{passed}volatile-lru")));
        assert!(full(&format!(
            "{passed}volatile-lru db0:keys=7,expires=0,avg_ttl=0"
        )));
        assert!(!full(&format!(
            "{passed}volatile-lru db3:keys=7,expires=1,avg_ttl=9"
        )));
        assert!(!full(&format!("{passed}allkeys-lru")));
        let apart = "mem_not_counted_for_evict";
        assert!(full(&format!("{passed}noeviction {apart}:0")));
        assert!(!full(&format!("{passed}noeviction {apart}:1")));
        assert!(!full(
            "used_memory:100 maxmemory:100 maxmemory_policy:noeviction"
        ));
        assert!(!full(
            "used_memory:100 maxmemory:0 maxmemory_policy:noeviction"
        ));
        assert!(!full("maxmemory:100 maxmemory_policy:noeviction"));
    }
}
