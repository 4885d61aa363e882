//! What the environments of services say of hosts: names and addresses only, never a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr};

use crate::baseline::{RedisAddress, is_hostname};
use crate::systemd::manager::Details;

/// How the names of variables end that hold a host.
const HOSTS: [&str; 8] = [
    "HOST", "HOSTNAME", "URL", "URI", "ADDR", "ADDRESS", "ENDPOINT", "SERVER",
];

/// Words in the name of a variable whose value is not looked at, however the name ends.
const SECRETS: [&str; 9] = [
    "PASS",
    "PASSWORD",
    "PASSWD",
    "PWD",
    "SECRET",
    "TOKEN",
    "KEY",
    "CREDENTIAL",
    "CREDENTIALS",
];

/// Redis' own, where a variable names none.
const REDIS_PORT: u16 = 6379;

/// Which variables of which units name something.
pub type Uses = BTreeMap<String, BTreeSet<String>>;

/// What the environments name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Hostnames; no addresses, and not localhost.
    pub hosts: BTreeMap<String, Uses>,
    /// Redis servers by their URL, which has no user, database or query.
    pub redis: BTreeMap<String, (RedisAddress, Uses)>,
    /// Sentences on the environment files that could not be read.
    pub unreadable: BTreeSet<String>,
}

/// A host, taken from a value of which nothing else is kept.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    /// Of a URL, in small letters.
    scheme: Option<String>,
    /// A name, or an address without brackets.
    host: String,
    port: Option<u16>,
}

impl Named {
    /// Adds what the environment of one unit names.
    pub fn add(&mut self, unit: &str, details: &Details, comments: Comments) {
        let variables = self.variables(unit, details, comments);
        for (name, value) in &variables {
            if !names_a_host(name) {
                continue;
            }
            let Some(endpoint) = endpoint(value) else {
                continue;
            };
            let used = |uses: &mut Uses| {
                let variables = uses.entry(unit.to_owned()).or_default();
                variables.insert(name.clone());
            };
            if let Some(address) = redis(name, &endpoint, &variables) {
                let (_, uses) = self
                    .redis
                    .entry(url(&address))
                    .or_insert_with(|| (address, Uses::new()));
                used(uses);
            }
            let is_local = endpoint.host == "localhost" || endpoint.host.ends_with(".localhost");
            if endpoint.host.parse::<IpAddr>().is_err() && !is_local {
                used(self.hosts.entry(endpoint.host).or_default());
            }
        }
    }

    /// The environment as the unit's next start would get it: that of the unit file, over which those
    /// of the environment files win.
    fn variables(
        &mut self,
        unit: &str,
        details: &Details,
        comments: Comments,
    ) -> BTreeMap<String, String> {
        let Details {
            environment,
            unset,
            environment_files,
            pulled_in_by: _,
            condition_failed: _,
        } = details;
        let assignments = environment.iter().filter_map(|line| line.split_once('='));
        let mut variables: BTreeMap<String, String> = assignments
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for pattern in environment_files {
            // A path without `*` is a pattern of one file.
            let Ok(paths) = glob::glob(pattern) else {
                continue;
            };
            for path in paths.filter_map(Result::ok) {
                match fs::read(&path) {
                    Ok(text) => {
                        let text = String::from_utf8_lossy(&text);
                        variables.extend(assignments_of(&text, comments));
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        self.unreadable.insert(format!(
                            "{}, an environment file of {unit}, cannot be read ({error}): the \
                             hosts in it were not learned, run as root",
                            path.display()
                        ));
                    }
                }
            }
        }
        for unset in unset {
            match unset.split_once('=') {
                Some((name, value)) => {
                    variables.retain(|known, held| known != name || held != value);
                }
                None => drop(variables.remove(unset)),
            }
        }
        variables
    }
}

/// Whether a variable of this name holds a host, and nothing that may be secret.
fn names_a_host(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    HOSTS.iter().any(|end| name.ends_with(end))
        && !name.split('_').any(|word| SECRETS.contains(&word))
}

/// The host of a value that is a URL, host:port or a host, and nothing else.
fn endpoint(value: &str) -> Option<Endpoint> {
    let (scheme, authority) = match value.split_once("://") {
        None => (None, value),
        Some((scheme, rest)) => {
            let (authority, after) = match rest.find(['/', '?', '#']) {
                Some(end) => rest.split_at_checked(end)?,
                None => (rest, ""),
            };
            // The end of a password with a slash in it would pass for a host.
            if after.contains('@') {
                return None;
            }
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            (Some(scheme.to_ascii_lowercase()), host)
        }
    };
    let (host, port) = if let Some(bracketed) = authority.strip_prefix('[') {
        let (host, port) = bracketed.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if port.is_empty() => (host, None),
            None => return None,
        }
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    // glibc takes `8080` and `0x7f.1` for addresses.
    let is_number = |label: &str| label.starts_with(|c: char| c.is_ascii_digit());
    let is_name = is_hostname(host) && !host.rsplit('.').next().is_some_and(is_number);
    (is_name || host.parse::<IpAddr>().is_ok()).then(|| Endpoint {
        scheme,
        host: host.to_owned(),
        port,
    })
}

/// The Redis that a variable names: by its URL, or by REDIS_HOST and REDIS_PORT.
fn redis(
    name: &str,
    endpoint: &Endpoint,
    variables: &BTreeMap<String, String>,
) -> Option<RedisAddress> {
    let (tls, port) = match endpoint.scheme.as_deref() {
        Some("redis") => (false, endpoint.port),
        Some("rediss") => (true, endpoint.port),
        Some(_) => return None,
        None if name.to_ascii_uppercase().contains("REDIS") => {
            let beside = ["HOSTNAME", "HOST"].iter().find_map(|end| {
                let port = variables.get(&format!("{}PORT", name.strip_suffix(end)?))?;
                port.parse().ok()
            });
            (false, endpoint.port.or(beside))
        }
        None => return None,
    };
    Some(RedisAddress::Tcp {
        host: endpoint.host.clone(),
        port: port.unwrap_or(REDIS_PORT),
        tls,
    })
}

/// The URL of an address, as the baseline has it.
pub fn url(address: &RedisAddress) -> String {
    match address {
        RedisAddress::Tcp { host, port, tls } => {
            let scheme = if *tls { "rediss" } else { "redis" };
            if host.contains(':') {
                format!("{scheme}://[{host}]:{port}")
            } else {
                format!("{scheme}://{host}:{port}")
            }
        }
        RedisAddress::Unix(path) => format!("unix://{}", path.display()),
    }
}

/// How systemd takes a comment line that ends in a backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comments {
    /// The next line belongs to the comment: before version 254.
    Continued,
    /// The comment ends with its line.
    OneLine,
}

impl Comments {
    /// As systemd of this version takes it. What may be a comment is one where the version makes no
    /// sense: a line of it is rather not learned than learned wrong.
    pub fn of(version: &str) -> Self {
        let number = version.split(|c: char| !c.is_ascii_digit()).next();
        match number.and_then(|number| number.parse().ok()) {
            Some(254_u32..) => Self::OneLine,
            _ => Self::Continued,
        }
    }
}

/// Where in an assignment a character of an environment file stands.
enum At {
    /// Before a name.
    Start,
    Comment,
    Name,
    /// Before the value, or after a quoted part of it.
    Value,
    /// In a part of the value without quotes.
    Bare,
    Quoted(char),
}

/// The assignments in an environment file, as systemd takes it apart (systemd.exec(5),
/// EnvironmentFile=).
fn assignments_of(text: &str, comments: Comments) -> Vec<(String, String)> {
    let mut assignments = Vec::new();
    let (mut name, mut value) = (String::new(), String::new());
    // How much of the value stays when blanks at the end of a line go.
    let mut kept = 0;
    let mut at = At::Start;
    // The end of the text ends its last line.
    let mut characters = text.chars().chain(['\n']).peekable();
    while let Some(c) = characters.next() {
        let is_last = characters.peek().is_none();
        let is_end = matches!(c, '\n' | '\r');
        let is_blank = is_end || matches!(c, ' ' | '\t');
        at = match at {
            At::Start if matches!(c, '#' | ';') => At::Comment,
            At::Start if is_blank => At::Start,
            At::Start => {
                name.push(c);
                At::Name
            }
            At::Comment if is_end => At::Start,
            At::Comment if c == '\\' && comments == Comments::Continued => {
                characters.next();
                At::Comment
            }
            At::Comment => At::Comment,
            At::Name if c == '=' => At::Value,
            // A line without `=` says nothing.
            At::Name if is_end => {
                name.clear();
                At::Start
            }
            At::Name => {
                name.push(c);
                At::Name
            }
            At::Value | At::Bare if is_end => {
                value.truncate(kept);
                assignments.push((name.trim_end().to_owned(), std::mem::take(&mut value)));
                name.clear();
                kept = 0;
                At::Start
            }
            At::Value if is_blank => At::Value,
            At::Value if matches!(c, '"' | '\'') => At::Quoted(c),
            At::Value | At::Bare if c == '\\' => {
                // A line that is continued has no line end.
                if let Some(escaped) = characters.next_if(|c| !matches!(c, '\n' | '\r')) {
                    value.push(escaped);
                } else if characters.next().is_some() && characters.peek().is_none() {
                    // Nothing follows the backslash.
                    assignments.push((name.trim_end().to_owned(), value.clone()));
                }
                kept = value.len();
                At::Bare
            }
            At::Value | At::Bare => {
                value.push(c);
                if !is_blank {
                    kept = value.len();
                }
                At::Bare
            }
            // A quote that is never closed ends with the text.
            At::Quoted(_) if is_last => {
                assignments.push((name.trim_end().to_owned(), value.clone()));
                At::Start
            }
            At::Quoted(quote) if c == quote => At::Value,
            At::Quoted('"') if c == '\\' => {
                match characters.next() {
                    Some(escaped @ ('"' | '\\' | '`' | '$')) => value.push(escaped),
                    Some('\n') | None => {}
                    Some(other) => value.extend(['\\', other]),
                }
                kept = value.len();
                At::Quoted('"')
            }
            At::Quoted(quote) => {
                value.push(c);
                kept = value.len();
                At::Quoted(quote)
            }
        };
    }
    assignments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String)> {
        assignments_of(text, Comments::OneLine)
    }

    fn one(text: &str) -> String {
        match read(text).as_slice() {
            [(name, value)] if name == "A" => value.clone(),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn endpoint_of(value: &str) -> Option<(String, Option<u16>)> {
        endpoint(value).map(|endpoint| (endpoint.host, endpoint.port))
    }

    fn named(environment: &[&str]) -> Named {
        let mut named = Named::default();
        let details = Details {
            environment: environment.iter().map(ToString::to_string).collect(),
            ..Details::default()
        };
        named.add("a.service", &details, Comments::OneLine);
        named
    }

    #[test]
    fn an_environment_file_is_read_as_systemd_reads_it() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=b\r\n", "b"),
            ("  A  =  b c  \n", "b c"),
            ("A=", ""),
            ("A=\"b  c\"  \n", "b  c"),
            ("A='b \\ \"c'", "b \\ \"c"),
            ("A=\"b\\\"c\\$d\\ne\"", "b\"c$d\\ne"),
            ("A=\"b\nc\"", "b\nc"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=\"b\" 'c'\n", "bc"),
            ("A=b\\\nc\n", "bc"),
            ("A=b\\ \n", "b "),
            ("A=b'c'\"d\"\n", "b'c'\"d\""),
            ("A=b # no comment\n", "b # no comment"),
            ("A=b=c\n", "b=c"),
            ("# B=c\n; C=d\n\nno assignment\nA=b\n", "b"),
            ("A=\"b", "b"),
            ("A=b\\", "b"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
        assert_eq!(read("A=1\nA=2\nB=3").len(), 3);
        assert_eq!(read("\n=\n"), []);
    }

    #[test]
    fn a_backslash_at_the_end_of_a_comment_continues_it_before_254() {
        for (text, before, since) in [
            ("# B=c \\\nA=b\n", 0, 1),
            ("; B=c \\\nA=b\n", 0, 1),
            ("# B=c \\\n# C=d \\\nA=b\n", 0, 1),
            ("# B=c \\\nA=b\nA=c\n", 1, 2),
            ("# B=c \\\\\nA=b\n", 1, 1),
            ("# B=\\c\nA=b\n", 1, 1),
            ("# B=c \\\r\nA=b\n", 1, 1),
            ("# B=c \\", 0, 0),
        ] {
            let count = |comments| assignments_of(text, comments).len();
            assert_eq!(count(Comments::Continued), before, "{text:?}");
            assert_eq!(count(Comments::OneLine), since, "{text:?}");
        }
        for (version, comments) in [
            ("252 (252.39-1~deb12u1)", Comments::Continued),
            ("252.39-1~deb12u1", Comments::Continued),
            ("253", Comments::Continued),
            ("254~rc1-1", Comments::OneLine),
            ("257.9-1~deb13u1", Comments::OneLine),
            ("v257", Comments::Continued),
            ("", Comments::Continued),
        ] {
            assert_eq!(Comments::of(version), comments, "{version:?}");
        }
    }

    #[test]
    fn only_a_plain_host_is_taken_from_a_value() {
        let host = |name: &str, port| Some((name.to_owned(), port));
        for (value, taken) in [
            ("db", host("db", None)),
            ("quantum_redis:6379", host("quantum_redis", Some(6379))),
            ("10.0.0.7:80", host("10.0.0.7", Some(80))),
            ("[::1]:80", host("::1", Some(80))),
            (
                "https://api.shop.example/v1?token=x",
                host("api.shop.example", None),
            ),
            ("redis://user:pass@cache:6380/3", host("cache", Some(6380))),
            ("redis://:p@ss@cache", host("cache", None)),
            ("amqp://[fe80::1]:5672/x", host("fe80::1", Some(5672))),
            ("", None),
            ("a b", None),
            ("db:0", None),
            ("db:http", None),
            ("db/path", None),
            ("user@db", None),
            ("a:1,b:2", None),
            ("8080", None),
            ("0x7f000001", None),
            ("10.1", None),
            ("redis://user:pa/ss@cache", None),
            ("redis://user:12/ss@cache", None),
            ("redis://user:pa?ss@cache", None),
            ("https://hooks.example#x@y", None),
            ("[::1", None),
            ("[db]:80", None),
        ] {
            assert_eq!(endpoint_of(value), taken, "{value:?}");
        }
    }

    #[test]
    fn only_variables_for_hosts_are_looked_at() {
        for name in ["DB_HOST", "API_URL", "db_host", "PGHOST", "STATSD_ADDR"] {
            assert!(names_a_host(name), "{name}");
        }
        for name in [
            "API_HOST_TOKEN",
            "SECRET_URL",
            "TOKEN_ENDPOINT",
            "HOST_NAME_X",
            "PORT",
        ] {
            assert!(!names_a_host(name), "{name}");
        }
    }

    #[test]
    fn a_redis_is_known_by_its_url_or_by_its_name() {
        let urls = |environment: &[&str]| -> Vec<String> {
            named(environment).redis.into_keys().collect()
        };
        assert_eq!(
            urls(&["CACHE_URL=redis://:x@cache/1"]),
            ["redis://cache:6379"]
        );
        assert_eq!(urls(&["CACHE_URL=rediss://cache:7"]), ["rediss://cache:7"]);
        assert_eq!(
            urls(&["X_REDIS_HOST=127.0.0.1", "X_REDIS_PORT=7001"]),
            ["redis://127.0.0.1:7001"]
        );
        assert_eq!(urls(&["REDIS_HOST=localhost"]), ["redis://localhost:6379"]);
        assert_eq!(urls(&["DB_HOST=db", "REDIS_PORT=1"]), [""; 0]);
        assert_eq!(urls(&["REDIS_URL=http://cache"]), [""; 0]);
        let names: Vec<_> = named(&["REDIS_HOST=localhost", "DB_HOST=db"])
            .hosts
            .into_keys()
            .collect();
        assert_eq!(names, ["db"]);
    }

    #[test]
    fn environment_files_win_and_what_is_unset_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("1.env"), "DB_HOST=one\nAPI_HOST=api\n").unwrap();
        fs::write(path("2.env"), "DB_HOST=two\n").unwrap();
        let mut named = Named::default();
        let details = Details {
            environment: vec!["DB_HOST=zero".to_owned(), "OLD_HOST=old".to_owned()],
            unset: vec!["OLD_HOST".to_owned(), "API_HOST=other".to_owned()],
            environment_files: vec![path("*.env"), path("missing.env")],
            ..Details::default()
        };
        named.add("a.service", &details, Comments::OneLine);
        let names: Vec<_> = named.hosts.keys().map(String::as_str).collect();
        assert_eq!(names, ["api", "two"]);
        assert_eq!(named.unreadable, BTreeSet::new());
    }
}
