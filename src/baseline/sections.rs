//! The baseline as a whole and its smaller sections: keys, values, and how they must agree.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::units::{systemd, unit_name};
use super::{
    Baseline, Expected, Hostname, RedisAddress, RedisEndpoint, Systemd, UnitFiles, UsedBy,
    WritePaths,
};
use crate::yaml::{Fields, Mistake, Node, Reader, Seen, Value, quoted};

/// DNS' limits for a name and for each of its labels; the hosts file is read by the same resolver.
const LONGEST_HOSTNAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// Redis' own, for URLs that give none.
const REDIS_PORT: &str = "6379";

/// The whole baseline, or every mistake in it in the order of their places.
pub fn baseline(root: &Node, version: String, source: &str) -> Result<Baseline, Vec<Mistake>> {
    let mut reader = Reader::default();
    let baseline = read(&mut reader, root, version, source);
    reader.mistakes.sort_by_key(|mistake| mistake.place);
    match baseline {
        Some(baseline) if reader.mistakes.is_empty() => Ok(baseline),
        _ => Err(reader.mistakes),
    }
}

fn read(reader: &mut Reader, root: &Node, version: String, source: &str) -> Option<Baseline> {
    let keys = [
        "deployment",
        "systemd",
        "hostnames",
        "redis",
        "write_paths",
        "unit_files",
    ];
    let fields = reader.mapping(root, "the baseline", &keys)?;
    let deployment = reader
        .required(&fields, "deployment", "the baseline", "quantum-trader")
        .and_then(|node| reader.text(node, "`deployment`"));
    let mistakes_before = reader.mistakes.len();
    let systemd = reader
        .required(
            &fields,
            "systemd",
            "the baseline",
            "{running: [ssh.service]}",
        )
        .and_then(|node| systemd(reader, node));
    // What the other sections say of units is held against this one only where it is free of
    // mistakes: one mistyped list would else be reported again for every unit in it.
    let units = systemd
        .as_ref()
        .filter(|_| reader.mistakes.len() == mistakes_before);
    // Every section is read before the first `?`, so that each gets its mistakes reported.
    let hostnames = fields
        .get("hostnames")
        .map(|node| hostnames(reader, node, units));
    let redis = fields.get("redis").map(|node| redis(reader, node));
    let write_paths = fields
        .get("write_paths")
        .map(|node| write_paths(reader, node, units));
    let unit_files = fields
        .get("unit_files")
        .and_then(|node| unit_files(reader, node));
    Some(Baseline {
        deployment: deployment?.to_owned(),
        version,
        source: source.to_owned(),
        systemd: systemd?,
        hostnames: hostnames.unwrap_or_default(),
        redis: redis.unwrap_or_default(),
        write_paths: write_paths.unwrap_or_default(),
        unit_files,
    })
}

/// The full name of a service that other sections speak of.
fn service_name<'n>(
    reader: &mut Reader,
    node: &'n Node,
    systemd: Option<&Systemd>,
) -> Option<&'n str> {
    let name = unit_name(reader, node)?;
    let shown = quoted(name);
    let is_retired = |systemd: &Systemd| systemd.retired.iter().any(|retired| retired == name);
    let is_absent = |systemd: &Systemd| {
        systemd
            .unit(name)
            .is_some_and(|unit| unit.expected == Expected::Absent)
    };
    let sentence = if !name.ends_with(".service") {
        format!("{shown} is no service: only a service has a view of its own to look through")
    } else if systemd.is_some_and(|systemd| is_retired(systemd) || is_absent(systemd)) {
        format!("{shown} is absent or retired under `systemd`: delete one of the two")
    } else if systemd.is_some_and(|systemd| !systemd.watches(name)) {
        format!("{shown} is not watched: check its spelling, or add it under `systemd`")
    } else {
        return Some(name);
    };
    reader.refuse(node, sentence);
    None
}

fn hostnames(reader: &mut Reader, node: &Node, systemd: Option<&Systemd>) -> Vec<Hostname> {
    let mut hostnames = Vec::new();
    let mut seen = Seen::new();
    for entry in reader.list(node, "`hostnames`") {
        let what = "a hostname's entry";
        let Some(fields) = reader.mapping(entry, what, &["name", "addresses", "as", "used_by"])
        else {
            continue;
        };
        let name = reader
            .required(&fields, "name", what, "quantum_redis")
            .and_then(|node| hostname(reader, node, &mut seen));
        let addresses = reader
            .required(&fields, "addresses", what, "[127.0.0.1]")
            .map(|node| addresses(reader, node));
        let resolved_as = fields
            .get("as")
            .and_then(|node| service_name(reader, node, systemd));
        let used_by = used_by(reader, &fields);
        if let (Some(name), Some(addresses)) = (name, addresses) {
            hostnames.push(Hostname {
                name: name.to_owned(),
                addresses,
                resolved_as: resolved_as.map(str::to_owned),
                used_by,
            });
        }
    }
    hostnames
}

/// The units that use what the entry names.
fn used_by(reader: &mut Reader, fields: &Fields<'_>) -> UsedBy {
    let patterns = fields.get("used_by").map(|node| {
        let entries = reader.list(node, "`used_by`");
        entries
            .iter()
            .filter_map(|entry| reader.pattern(entry, "`used_by` pattern"))
            .collect()
    });
    UsedBy(patterns)
}

/// Whether resolvers accept this name; an underscore is as good as a hyphen to them.
pub fn is_hostname(name: &str) -> bool {
    let label_fits = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    name.len() <= LONGEST_HOSTNAME && name.split('.').all(label_fits)
}

fn hostname<'n>(reader: &mut Reader, node: &'n Node, seen: &mut Seen) -> Option<&'n str> {
    let name = reader.text(node, "a hostname")?;
    if !is_hostname(name) {
        let name = quoted(name);
        reader.refuse(
            node,
            format!(
                "{name} is no hostname: write letters, digits, `-` and `_`, parted by single dots"
            ),
        );
        return None;
    }
    reader.once(seen, node, name, "hostnames").then_some(name)
}

fn addresses(reader: &mut Reader, node: &Node) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut seen = Seen::new();
    let entries = reader.list(node, "`addresses`");
    if entries.is_empty() && matches!(node.value, Value::Null | Value::List(_)) {
        reader.refuse(
            node,
            "`addresses` is empty: name what the hostname must resolve to".to_owned(),
        );
    }
    for entry in entries {
        let Some(text) = reader.text(entry, "an address") else {
            continue;
        };
        let shown = quoted(text);
        match text.parse::<IpAddr>() {
            Ok(address) => {
                if reader.once(&mut seen, entry, &address.to_string(), "addresses") {
                    addresses.push(address);
                }
            }
            Err(_) => reader.refuse(
                entry,
                format!("{shown} is no IP address: write one such as 127.0.0.1 or \"::1\""),
            ),
        }
    }
    addresses
}

fn redis(reader: &mut Reader, node: &Node) -> Vec<RedisEndpoint> {
    let mut endpoints = Vec::new();
    let mut seen = Seen::new();
    let keys = [
        "name",
        "url",
        "password_file",
        "ca_file",
        "write_canary",
        "used_by",
    ];
    for entry in reader.list(node, "`redis`") {
        let what = "a redis entry";
        let Some(fields) = reader.mapping(entry, what, &keys) else {
            continue;
        };
        let name = reader
            .required(&fields, "name", what, "quantum")
            .and_then(|node| {
                let name = reader.text(node, "a redis endpoint's name")?;
                reader.once(&mut seen, node, name, "redis").then_some(name)
            });
        let url = reader
            .required(&fields, "url", what, "\"redis://127.0.0.1:6379/0\"")
            .and_then(|node| redis_url(reader, node));
        // Never shown: the password itself may stand here by mistake.
        let password_file = fields.get("password_file").and_then(|node| {
            let path = Path::new(reader.text(node, "`password_file`")?);
            if let Some(fault) = password_file_fault(path) {
                reader.refuse(node, format!("`password_file` {fault}"));
                return None;
            }
            Some(path.to_path_buf())
        });
        let ca_file = fields.get("ca_file").and_then(|node| {
            let path = absolute_path(reader, node, "`ca_file`")?;
            let tls = |(address, _, _): &(RedisAddress, _, _)| {
                matches!(address, RedisAddress::Tcp { tls: true, .. })
            };
            if url.as_ref().is_some_and(|url| !tls(url)) {
                let sentence = "`ca_file` is of no use without TLS: begin `url` with rediss://, or \
                                delete `ca_file`";
                reader.refuse(node, sentence.to_owned());
            }
            Some(path)
        });
        let write_canary = fields
            .get("write_canary")
            .and_then(|node| reader.boolean(node, "`write_canary`"));
        let used_by = used_by(reader, &fields);
        if let (Some(name), Some((address, user, database))) = (name, url) {
            endpoints.push(RedisEndpoint {
                name: name.to_owned(),
                address,
                user,
                database,
                password_file,
                ca_file,
                write_canary: write_canary.unwrap_or(false),
                used_by,
            });
        }
    }
    endpoints
}

/// Address, user and database of a Redis URL.
fn redis_url(reader: &mut Reader, node: &Node) -> Option<(RedisAddress, Option<String>, u32)> {
    let url = reader.text(node, "`url`")?;
    match parse_redis_url(url) {
        Ok(parts) => Some(parts),
        Err(sentence) => {
            reader.refuse(node, format!("`url` {sentence}"));
            None
        }
    }
}

/// What is wrong is said without the URL, and where it holds an `@` without any of its parts:
/// a password with odd characters can make any part of it look like any other.
fn parse_redis_url(url: &str) -> Result<(RedisAddress, Option<String>, u32), String> {
    let example = "write one such as redis://127.0.0.1:6379/0 or unix:///run/redis/redis.sock";
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("is no URL: {example}"));
    };
    let (user, rest) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((user, rest)) if !user.is_empty() && user.chars().all(is_user_character) => {
            (Some(user.to_owned()), rest)
        }
        Some(_) => {
            return Err(
                "holds a password: put it into a file and name it in `password_file`".to_owned(),
            );
        }
    };
    if rest.contains(['?', '#']) {
        return Err(format!(
            "has a query or a fragment, which is not understood: {example}"
        ));
    }
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        "unix" => {
            let path = Path::new(rest);
            return match path_fault(path) {
                Some(fault) => Err(format!("names a socket that {fault}")),
                None => Ok((RedisAddress::Unix(path.to_path_buf()), user, 0)),
            };
        }
        _ => {
            return Err(format!(
                "has a scheme other than redis, rediss and unix: {example}"
            ));
        }
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let Some((host, port)) = bracketed.split_once(']') else {
            return Err("has a `[` without its `]`: write IPv6 as redis://[::1]:6379/0".to_owned());
        };
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(
                "has no IPv6 address in its brackets: write redis://[::1]:6379/0".to_owned(),
            );
        }
        (
            host,
            port.strip_prefix(':')
                .or_else(|| port.is_empty().then_some(REDIS_PORT)),
        )
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some(REDIS_PORT)),
        }
    };
    let host_fits = host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'));
    if host.is_empty() || !host_fits {
        return Err(format!("has no usable host: {example}"));
    }
    let port = port
        .and_then(|port| port.parse().ok())
        .filter(|port| *port != 0);
    let Some(port) = port else {
        return Err("has no usable port: write a number from 1 to 65535 after the host".to_owned());
    };
    let database = match database {
        "" => 0,
        number => number.parse().map_err(|_| {
            "has no usable database: write its number after the last `/`, such as /0".to_owned()
        })?,
    };
    Ok((
        RedisAddress::Tcp {
            host: host.to_owned(),
            port,
            tls,
        },
        user,
        database,
    ))
}

fn is_user_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn write_paths(reader: &mut Reader, node: &Node, systemd: Option<&Systemd>) -> Vec<WritePaths> {
    let mut services = Vec::new();
    let mut seen = Seen::new();
    for entry in reader.list(node, "`write_paths`") {
        let what = "a write path's entry";
        let Some(fields) = reader.mapping(entry, what, &["unit", "paths", "files"]) else {
            continue;
        };
        let unit = reader
            .required(&fields, "unit", what, "ssh.service")
            .and_then(|node| {
                let name = service_name(reader, node, systemd)?;
                reader
                    .once(&mut seen, node, name, "write_paths")
                    .then_some(name)
            });
        let mut seen = Seen::new();
        let files = fields
            .get("files")
            .map(|node| paths(reader, node, "files", &mut seen));
        let paths = match (fields.get("paths"), &files) {
            (None, Some(_)) => Some(Vec::new()),
            _ => reader
                .required(&fields, "paths", what, "[/var/log]")
                .map(|node| paths(reader, node, "paths", &mut seen)),
        };
        if let (Some(unit), Some(paths)) = (unit, paths) {
            services.push(WritePaths {
                unit: unit.to_owned(),
                paths,
                files: files.unwrap_or_default(),
            });
        }
    }
    services
}

fn paths(reader: &mut Reader, node: &Node, key: &'static str, seen: &mut Seen) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let entries = reader.list(node, &format!("`{key}`"));
    if entries.is_empty() && matches!(node.value, Value::Null | Value::List(_)) {
        reader.refuse(
            node,
            format!("`{key}` is empty: name what the service must be able to write"),
        );
    }
    for entry in entries {
        let Some(path) = absolute_path(reader, entry, "path") else {
            continue;
        };
        if reader.once(seen, entry, &path.to_string_lossy(), key) {
            paths.push(path);
        }
    }
    paths
}

fn absolute_path(reader: &mut Reader, node: &Node, what: &str) -> Option<PathBuf> {
    let text = reader.text(node, what)?;
    let path = Path::new(text);
    if let Some(fault) = path_fault(path) {
        let text = quoted(text);
        reader.refuse(node, format!("{what} {text} {fault}"));
        return None;
    }
    // Trailing and doubled slashes and `.` go, so that one directory has one name.
    Some(path.components().collect())
}

/// Why a path will not do, as the end of a sentence.
fn path_fault(path: &Path) -> Option<&'static str> {
    if !path.is_absolute() {
        Some("is not absolute: begin it with `/`, as the exporter has no directory of its own")
    } else if path.components().any(|part| part == Component::ParentDir) {
        Some("holds `..`, which means another place once a link is followed: write it out")
    } else {
        None
    }
}

/// As [`path_fault`], but a bare name will do: it is that of a systemd credential.
fn password_file_fault(path: &Path) -> Option<&'static str> {
    let mut parts = path.components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if name == path.as_os_str() => None,
        _ if path.is_absolute() => path_fault(path),
        _ => Some(
            "is neither an absolute path nor a systemd credential: begin it with `/`, or write \
             the credential's bare name",
        ),
    }
}

fn unit_files(reader: &mut Reader, node: &Node) -> Option<UnitFiles> {
    let fields = reader.mapping(node, "`unit_files`", &["snapshot", "ignore"])?;
    let snapshot = reader
        .required(&fields, "snapshot", "`unit_files`", "/root/unit_backups")
        .and_then(|node| absolute_path(reader, node, "snapshot"));
    let mut ignore = Vec::new();
    if let Some(node) = fields.get("ignore") {
        for entry in reader.list(node, "`ignore`") {
            ignore.extend(reader.pattern(entry, "ignore pattern"));
        }
    }
    Some(UnitFiles {
        snapshot: snapshot?,
        ignore,
    })
}
