//! What INFO tells: when the server was started, and whether it takes writes.

use redis::InfoDict;

use super::{Failure, Reason};

/// When the server was started, seconds since the epoch by its own clock (INFO server). Both
/// figures are from the same tick of the server, so that their difference stays the same.
pub fn started(info: &InfoDict) -> Option<u64> {
    let now = info.get::<u64>("server_time_usec")? / 1_000_000;
    now.checked_sub(info.get("uptime_in_seconds")?)
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
        && text("maxmemory_policy").as_deref() == Some("noeviction")
    {
        return refuses(
            Reason::OutOfMemory,
            "it has used up its maxmemory, evicts nothing (noeviction) and takes no writes: \
             delete keys, or raise maxmemory",
        );
    }
    (Some(true), None)
}
