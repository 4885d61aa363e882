//! What went wrong with one command: which reason it is, and a sentence for it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use redis::RedisError;
use tokio_rustls::rustls;

use super::{Failure, Reason};
use crate::baseline::{RedisAddress, RedisEndpoint};

/// What the error of a command means.
///
/// The server's own words are never shown: they may repeat what was sent, the password too.
pub fn failure(
    error: &RedisError,
    command: &str,
    endpoint: &RedisEndpoint,
    address: &str,
) -> Failure {
    let (reason, why) = match error.code() {
        Some(code) => answered(code, error.detail().unwrap_or(""), command, endpoint),
        None => broken(error, endpoint),
    };
    Failure {
        reason,
        sentence: format!("{command} to {address}: {why}"),
    }
}

/// What an error that the server answered means.
fn answered(code: &str, detail: &str, command: &str, endpoint: &RedisEndpoint) -> (Reason, String) {
    let (reason, why) = match code {
        "NOAUTH" => (
            Reason::Auth,
            "it asks for a password: write it into a file and name that in `password_file`",
        ),
        "WRONGPASS" => (
            Reason::Auth,
            "it does not accept this user and password: correct `password_file`, or the user in \
             `url`",
        ),
        "NOPERM" => return (Reason::Auth, not_permitted(command, endpoint)),
        "DENIED" => (
            Reason::Auth,
            "it is in protected mode, and takes only local clients while it has no password: set \
             one (`requirepass`) and name its file in `password_file`",
        ),
        "LOADING" => (
            Reason::Loading,
            "it is still reading its data from disk: wait, and look at its log if it takes too \
             long",
        ),
        "MASTERDOWN" => (
            Reason::ReadOnly,
            "it is a replica that has lost its master, and answers nothing until it is back \
             (`replica-serve-stale-data no`): start the master, or promote it by REPLICAOF NO ONE",
        ),
        "READONLY" => (
            Reason::ReadOnly,
            "it is a replica and takes no writes: name the master in `url`, or promote it by \
             REPLICAOF NO ONE",
        ),
        "NOREPLICAS" => (
            Reason::ReadOnly,
            "too few of the replicas are there that min-replicas-to-write asks for, and it takes \
             no writes without: bring them back",
        ),
        "MISCONF" => (
            Reason::Misconf,
            "it could not save its data to disk, and takes no writes until it can: look at its \
             log, and at the room and the permissions of its directory",
        ),
        "OOM" => (
            Reason::OutOfMemory,
            "it has used up its maxmemory and can evict nothing: delete keys, or raise maxmemory",
        ),
        "BUSY" => (
            Reason::Timeout,
            "a script keeps it busy for longer than it should: end that by SCRIPT KILL or \
             FUNCTION KILL",
        ),
        "MOVED" | "CLUSTERDOWN" => (
            Reason::Protocol,
            "it is a node of a cluster that does not hold this key, or is down: look at CLUSTER \
             INFO; a canary works only on a server of its own",
        ),
        "ERR" if detail.starts_with("max number of clients") => (
            Reason::MaxClients,
            "it has as many clients as it takes: look for a client that leaks connections (CLIENT \
             LIST), or raise maxclients",
        ),
        "ERR" if detail.contains("without any password configured") => (
            Reason::Auth,
            "it has no password set, so that clients with one are turned away: set it there \
             (`requirepass`), or delete `password_file`",
        ),
        _ if command == "AUTH" => (
            Reason::Auth,
            "it refuses to log this user in: correct `password_file`; a user in `url` needs Redis \
             6 or newer",
        ),
        _ if command == "SELECT" => {
            let database = endpoint.database;
            let why = format!(
                "it has no database {database}: correct `url`, or raise `databases` in redis.conf \
                 (a cluster has only 0)"
            );
            return (Reason::Protocol, why);
        }
        _ => (
            Reason::Protocol,
            "it answered an error that is not known here: ask it by redis-cli to see its words",
        ),
    };
    (reason, why.to_owned())
}

/// Which permission is missing, and how to give it.
fn not_permitted(command: &str, endpoint: &RedisEndpoint) -> String {
    let user = endpoint.user.as_deref().unwrap_or("default");
    let keys = if command == "SET" {
        " ~baseline-exporter:canary:*"
    } else {
        ""
    };
    let rule = command.to_lowercase();
    format!(
        "user {user} has no permission for it: give it by ACL SETUSER {user} +{rule}{keys}, or \
         use another user"
    )
}

/// What a connection that broke, or an answer that makes no sense, means.
fn broken(error: &RedisError, endpoint: &RedisEndpoint) -> (Reason, String) {
    let tls = matches!(endpoint.address, RedisAddress::Tcp { tls: true, .. });
    // A server learns who its client is after the client thinks that the handshake is done.
    if let Some(error) = tls_error(error) {
        let why = format!(
            "the TLS connection broke ({error}): if the server asks its clients for certificates, \
             set `tls-auth-clients` to no or optional there"
        );
        return (Reason::Tls, why);
    }
    let hint = if tls {
        "look at its log, and check what listens there"
    } else {
        "look at its log, and check what listens there; with TLS, `url` must begin with rediss://"
    };
    let what = if error.is_io_error() {
        "it hung up"
    } else {
        "the answer is not in redis' protocol, or was cut off"
    };
    (Reason::Protocol, format!("{what}: {hint}"))
}

fn tls_error(error: &RedisError) -> Option<&rustls::Error> {
    let shared: &Arc<dyn Error + Send + Sync> = error.source()?.downcast_ref()?;
    let error: &io::Error = shared.downcast_ref()?;
    error.get_ref()?.downcast_ref()
}
