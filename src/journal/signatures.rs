//! What well-known error messages tell of a cause.

use std::net::IpAddr;

use super::masking::{clean, mask};

/// How much of a line is shown, in characters.
const LONGEST_LINE: usize = 240;

/// A detail that is longer is left out, for a part of it would be a wrong one. Bytes.
const LONGEST_DETAIL: usize = 240;

/// What a line of the journal points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A host name has no address.
    Hostname,
    /// Redis does not answer, or refuses what it is asked.
    Redis,
    /// A Python, Node, Java, … module, a class or a shared library is not there.
    MissingModule,
    /// Something on a file system that is read-only was to be written.
    ReadOnly,
    /// The kernel refused it to this user.
    PermissionDenied,
    /// The port or socket is taken by another.
    AddressInUse,
    /// The file system, or the share of it that the user may fill, is full.
    OutOfSpace,
    /// It got no memory, or was killed for using too much.
    OutOfMemory,
    /// It has too many files open.
    TooManyFiles,
    /// Nobody listens where it connects to.
    ConnectionRefused,
    /// A file, a directory or a program is not there.
    MissingFile,
}

impl Class {
    /// The word for it, in labels and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Hostname => "hostname",
            Self::Redis => "redis",
            Self::MissingModule => "missing_module",
            Self::ReadOnly => "read_only",
            Self::PermissionDenied => "permission_denied",
            Self::AddressInUse => "address_in_use",
            Self::OutOfSpace => "out_of_space",
            Self::OutOfMemory => "out_of_memory",
            Self::TooManyFiles => "too_many_files",
            Self::ConnectionRefused => "connection_refused",
            Self::MissingFile => "missing_file",
        }
    }

    /// What the line is about: text of the journal, so never a label.
    fn detail(self, line: &str) -> Option<String> {
        let detail = match self {
            Self::Hostname => hostname(line),
            Self::MissingModule => module(line),
            Self::ReadOnly | Self::PermissionDenied | Self::OutOfSpace | Self::MissingFile => {
                path(line)
            }
            Self::Redis | Self::AddressInUse | Self::ConnectionRefused => endpoint(line),
            Self::OutOfMemory | Self::TooManyFiles => None,
        };
        detail
            .filter(|detail| detail.len() <= LONGEST_DETAIL && !detail.contains("***"))
            .map(str::to_owned)
    }
}

/// What the journal tells of a unit's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clue {
    /// What it points to.
    pub class: Class,
    /// The name, path, module or endpoint that it is about, if that could be cut out. Text that
    /// somebody else wrote: never a label.
    pub detail: Option<String>,
    /// The line, for a person: one line, not long, without control characters and secrets.
    pub line: String,
}

/// Messages, in lower case, and what they point to. Where a line holds several, the first here is
/// the most telling.
const SIGNATURES: [(Class, &[&str]); 11] = [
    (
        Class::Hostname,
        &[
            // The C library's words for EAI_AGAIN, EAI_NONAME, EAI_NODATA; musl's; and their numbers.
            "temporary failure in name resolution",
            "name or service not known",
            "no address associated with hostname",
            "name does not resolve",
            "gaierror",
            "errno -2",
            "errno -3",
            "errno -5",
            "error -2 connecting to",
            "error -3 connecting to",
            "error -5 connecting to",
            // Node.
            "enotfound",
            "eai_again",
            // Go.
            "no such host",
            "server misbehaving",
            // Java.
            "unknownhostexception",
            // Rust.
            "failed to lookup address information",
            // Commands.
            "could not resolve host",
            "could not resolve hostname",
            "could not translate host name",
            "unknown host",
        ],
    ),
    (
        Class::Redis,
        &[
            // What the server itself says.
            "noauth authentication required",
            "wrongpass",
            "misconf redis is configured",
            "readonly you can't write against a read only replica",
            "loading redis is loading",
            "redis is loading the dataset",
            "oom command not allowed",
            // Its clients.
            "redis.exceptions",
            "jedisconnectionexception",
            "redisconnectionexception",
            "could not connect to redis",
        ],
    ),
    (
        Class::MissingModule,
        &[
            "no module named",
            "modulenotfounderror",
            "cannot find module",
            "cannot find package",
            "cannot load such file",
            "noclassdeffounderror",
            "classnotfoundexception",
            "could not find or load main class",
            "cannot open shared object file",
        ],
    ),
    (
        Class::ReadOnly,
        &[
            "read-only file system",
            "readonlyfilesystemexception",
            "erofs",
            "errno 30",
            "os error 30",
        ],
    ),
    (
        Class::PermissionDenied,
        &[
            "permission denied",
            "permissionerror",
            "operation not permitted",
            "accessdeniedexception",
            "eacces",
            "eperm",
            "errno 13",
            "os error 13",
        ],
    ),
    (
        Class::AddressInUse,
        &[
            "address already in use",
            "eaddrinuse",
            "errno 98",
            "os error 98",
        ],
    ),
    (
        Class::OutOfSpace,
        &[
            "no space left on device",
            "disk quota exceeded",
            "enospc",
            "edquot",
            "errno 28",
            "os error 28",
        ],
    ),
    (
        Class::OutOfMemory,
        &[
            "memoryerror",
            "cannot allocate memory",
            "out of memory",
            "outofmemoryerror",
            "bad_alloc",
            "memory allocation of",
            "oom-kill",
            "oom killer",
            "enomem",
            "errno 12",
            "os error 12",
        ],
    ),
    (
        Class::TooManyFiles,
        &["too many open files", "emfile", "errno 24", "os error 24"],
    ),
    (
        Class::ConnectionRefused,
        &[
            "connection refused",
            "econnrefused",
            "errno 111",
            "error 111",
            "os error 111",
        ],
    ),
    (
        Class::MissingFile,
        &[
            "no such file or directory",
            "filenotfounderror",
            "nosuchfileexception",
            "command not found",
            "enoent",
            "errno 2",
            "os error 2",
        ],
    ),
];

/// What the newest telling line says; `messages` are those of the journal, the newest first.
pub fn clue<'m>(messages: impl Iterator<Item = &'m str>) -> Option<Clue> {
    for message in messages {
        // One message may hold a whole stack trace.
        let found = message.lines().filter_map(clue_in).next_back();
        if found.is_some() {
            return found;
        }
    }
    None
}

fn clue_in(line: &str) -> Option<Clue> {
    let line = clean(line);
    // Node says the error in a sentence, and after it once more as an object of bare codes.
    // And of what systemd ignores, no unit fails.
    if line.trim_start().starts_with("code: '") || line.contains(", ignoring") {
        return None;
    }
    let (class, end) = class(&line.to_ascii_lowercase())?;
    let shown = mask(&line);
    let detail = class.detail(&shown);
    // The telling part has to be in what is shown.
    let end = line.get(..end).unwrap_or_default().chars().count();
    let length = shown.chars().count();
    let skipped = end
        .saturating_sub(LONGEST_LINE)
        .min(length.saturating_sub(LONGEST_LINE));
    let line: String = shown.chars().skip(skipped).take(LONGEST_LINE).collect();
    Some(Clue {
        class,
        detail,
        line: line.trim().to_owned(),
    })
}

/// The class of a line in lower case, and where the message ends that tells it.
fn class(line: &str) -> Option<(Class, usize)> {
    let (class, end) = SIGNATURES.iter().find_map(|(class, messages)| {
        let end = messages.iter().find_map(|message| end_of(line, message))?;
        Some((*class, end))
    })?;
    // Whoever is refused at the door of Redis rarely says whose door it is.
    let is_redis = class == Class::ConnectionRefused && is_about_redis(line);
    Some((if is_redis { Class::Redis } else { class }, end))
}

fn is_about_redis(line: &str) -> bool {
    end_of(line, ":6379").is_some() || line.contains("redis")
}

/// Where this message ends in the line, if it stands there as words of its own.
fn end_of(line: &str, message: &str) -> Option<usize> {
    let is_part = |c: char| c.is_alphanumeric();
    line.match_indices(message).find_map(|(at, message)| {
        let end = at + message.len();
        let before = line.get(..at)?.chars().next_back();
        let after = line.get(end..)?.chars().next();
        let goes_on = |edge: Option<char>, beside: Option<char>| {
            edge.is_some_and(is_part) && beside.is_some_and(is_part)
        };
        let is_cut =
            goes_on(message.chars().next(), before) || goes_on(message.chars().next_back(), after);
        (!is_cut).then_some(end)
    })
}

/// What follows the last of the first of these texts that the line holds, whatever their case.
fn after<'l>(line: &'l str, texts: &[&str]) -> Option<&'l str> {
    let lower = line.to_ascii_lowercase();
    texts.iter().find_map(|text| {
        let at = lower.rfind(text)?;
        line.get(at + text.len()..)
    })
}

/// The beginning of the text, as long as the characters are such.
fn run(text: &str, is_part: impl Fn(char) -> bool) -> &str {
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

fn hostname(line: &str) -> Option<&str> {
    // Behind these stands a name, behind the others only where a port follows it.
    let surely = [
        "redis at ",
        "getaddrinfo enotfound ",
        "getaddrinfo eai_again ",
        "tcp: lookup ",
        "udp: lookup ",
        "unknownhostexception: ",
        "resolve host: ",
        "resolve hostname ",
        "resolve '",
        "translate host name \"",
        "host='",
    ];
    let with_port = ["connecting to ", "connect to host ", "connect to "];
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name = match after(line, &surely) {
        Some(text) => run(text, is_part),
        None => {
            let text = after(line, &with_port)?;
            let name = run(text, is_part);
            let port = text.get(name.len()..)?.strip_prefix(':')?;
            port.starts_with(|c: char| c.is_ascii_digit())
                .then_some(name)?
        }
    };
    let name = name.trim_end_matches('.');
    (!name.is_empty() && name.parse::<IpAddr>().is_err()).then_some(name)
}

fn endpoint(line: &str) -> Option<&str> {
    let text = after(
        line,
        &[
            "connecting to ",
            "econnrefused ",
            "redis at ",
            "connect to host ",
            "dial tcp ",
            "address already in use ",
            "listen tcp ",
            "connect to ",
        ],
    )?;
    let text = run(text, |c| {
        c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']')
    });
    let text = text.trim_end_matches(['.', ':']);
    let (_, port) = text.rsplit_once(':')?;
    port.parse::<u16>().is_ok().then_some(text)
}

fn module(line: &str) -> Option<&str> {
    if let Some((before, _)) = line.split_once(": cannot open shared object file") {
        let library = before.rsplit([' ', ':']).next()?;
        return (!library.is_empty()).then_some(library);
    }
    let text = after(
        line,
        &[
            "no module named ",
            "cannot find module ",
            "cannot find package ",
            "cannot load such file -- ",
            "noclassdeffounderror: ",
            "classnotfoundexception: ",
            "load main class ",
        ],
    )?;
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let name = match quote {
        Some(quote) => text.get(1..)?.split_once(quote)?.0,
        None => run(text, |c| {
            c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '$' | '@')
        }),
    };
    let name = name.trim_end_matches('.');
    (!name.is_empty()).then_some(name)
}

/// A blank in a relative one is rather the end of a word such as `can't`.
fn is_quoted_path(text: &str) -> bool {
    text.starts_with('/')
        || (text.contains('/') && !text.contains("://") && !text.contains(char::is_whitespace))
}

/// The last path on the line: who complains stands before what he complains about.
fn path(line: &str) -> Option<&str> {
    let mut found = None;
    let mut rest = line;
    loop {
        let start = rest.find('/');
        let quote = rest.find(['\'', '"', '`']);
        match (start, quote) {
            // In quotes, blanks belong to the path, and it may be a relative one.
            (Some(slash), Some(at)) if at < slash => {
                let quote = rest.get(at..)?.chars().next()?;
                let inner = rest.get(at + 1..)?;
                match inner.split_once(quote) {
                    Some((path, after)) if is_quoted_path(path) => {
                        found = Some(path);
                        rest = after;
                    }
                    // An apostrophe, or quotes around something else.
                    _ => rest = inner,
                }
            }
            (Some(slash), _) => {
                let before = rest.get(..slash)?.chars().next_back();
                let begins =
                    before.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '[' | '='));
                let path = run(rest.get(slash..)?, |c| {
                    !c.is_whitespace()
                        && !matches!(c, ':' | ',' | ';' | '\'' | '"' | '`' | ')' | ']')
                });
                rest = rest.get(slash + path.len().max(1)..)?;
                if begins && path.len() > 1 {
                    found = Some(path.trim_end_matches('.'));
                }
            }
            (None, _) => return found,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A line, the class that it tells, and what it is about.
    const LINES: &[(&str, Class, Option<&str>)] = &[
        // Python
        (
            "socket.gaierror: [Errno -3] Temporary failure in name resolution",
            Class::Hostname,
            None,
        ),
        (
            "redis.exceptions.ConnectionError: Error -3 connecting to quantum_redis:6379. \
             Temporary failure in name resolution.",
            Class::Hostname,
            Some("quantum_redis"),
        ),
        (
            "aiohttp.client_exceptions.ClientConnectorError: Cannot connect to host \
             api.example.org:443 ssl:default [Name or service not known]",
            Class::Hostname,
            Some("api.example.org"),
        ),
        (
            "HTTPConnectionPool(host='ai-engine', port=8001): Max retries exceeded \
             ([Errno -2] Name or service not known)",
            Class::Hostname,
            Some("ai-engine"),
        ),
        (
            "ERROR Error connecting to database: Name or service not known",
            Class::Hostname,
            None,
        ),
        (
            "redis.exceptions.ConnectionError: Error 111 connecting to 127.0.0.1:6379. \
             Connection refused.",
            Class::Redis,
            Some("127.0.0.1:6379"),
        ),
        (
            "redis.exceptions.ReadOnlyError: You can't write against a read only replica.",
            Class::Redis,
            None,
        ),
        (
            "ModuleNotFoundError: No module named 'microservices'",
            Class::MissingModule,
            Some("microservices"),
        ),
        (
            "/usr/bin/python3: No module named quantum.clm.__main__; 'quantum.clm' is a package",
            Class::MissingModule,
            Some("quantum.clm.__main__"),
        ),
        (
            "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory",
            Class::MissingModule,
            Some("libgomp.so.1"),
        ),
        (
            "PermissionError: [Errno 13] Permission denied: '/var/log/rl monitor.csv'",
            Class::PermissionDenied,
            Some("/var/log/rl monitor.csv"),
        ),
        (
            "PermissionError: [Errno 13] Permission denied: 'runtime/buffer.bin'",
            Class::PermissionDenied,
            Some("runtime/buffer.bin"),
        ),
        (
            "OSError: [Errno 30] Read-only file system: '/app/models/clm.pt'",
            Class::ReadOnly,
            Some("/app/models/clm.pt"),
        ),
        (
            "OSError: [Errno 98] Address already in use",
            Class::AddressInUse,
            None,
        ),
        (
            "FileNotFoundError: [Errno 2] No such file or directory: '/etc/quantum/execution.env'",
            Class::MissingFile,
            Some("/etc/quantum/execution.env"),
        ),
        ("MemoryError", Class::OutOfMemory, None),
        (
            "OSError: [Errno 28] No space left on device: '/var/lib/q/x'",
            Class::OutOfSpace,
            Some("/var/lib/q/x"),
        ),
        (
            "OSError: [Errno 24] Too many open files",
            Class::TooManyFiles,
            None,
        ),
        // Node
        (
            "Error: getaddrinfo ENOTFOUND quantum_redis",
            Class::Hostname,
            Some("quantum_redis"),
        ),
        (
            "Error: getaddrinfo EAI_AGAIN quantum_redis",
            Class::Hostname,
            Some("quantum_redis"),
        ),
        (
            "Error: connect ECONNREFUSED 127.0.0.1:6379",
            Class::Redis,
            Some("127.0.0.1:6379"),
        ),
        (
            "Error: connect ECONNREFUSED 127.0.0.1:8001",
            Class::ConnectionRefused,
            Some("127.0.0.1:8001"),
        ),
        (
            "Error: Cannot find module './lib/start.js'",
            Class::MissingModule,
            Some("./lib/start.js"),
        ),
        (
            "Error: listen EADDRINUSE: address already in use :::3000",
            Class::AddressInUse,
            Some(":::3000"),
        ),
        (
            "Error: EACCES: permission denied, open '/var/log/q.log'",
            Class::PermissionDenied,
            Some("/var/log/q.log"),
        ),
        (
            "FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory",
            Class::OutOfMemory,
            None,
        ),
        // Go
        (
            "dial tcp: lookup quantum_redis on 127.0.0.53:53: no such host",
            Class::Hostname,
            Some("quantum_redis"),
        ),
        (
            "dial tcp 127.0.0.1:6379: connect: connection refused",
            Class::Redis,
            Some("127.0.0.1:6379"),
        ),
        (
            "panic: open /app/models/weights: read-only file system",
            Class::ReadOnly,
            Some("/app/models/weights"),
        ),
        (
            "listen tcp :8080: bind: address already in use",
            Class::AddressInUse,
            Some(":8080"),
        ),
        // Java
        (
            "Caused by: java.net.UnknownHostException: quantum_redis: Name or service not known",
            Class::Hostname,
            Some("quantum_redis"),
        ),
        (
            "java.io.FileNotFoundException: /var/log/q.log (Permission denied)",
            Class::PermissionDenied,
            Some("/var/log/q.log"),
        ),
        (
            "Error: Could not find or load main class org.example.Trader",
            Class::MissingModule,
            Some("org.example.Trader"),
        ),
        (
            "java.lang.OutOfMemoryError: Java heap space",
            Class::OutOfMemory,
            None,
        ),
        // Rust
        (
            "Error: failed to lookup address information: Temporary failure in name resolution",
            Class::Hostname,
            None,
        ),
        (
            "Error: Os { code: 13, kind: PermissionDenied, message: \"Permission denied\" }",
            Class::PermissionDenied,
            None,
        ),
        (
            "Error: No such file or directory (os error 2)",
            Class::MissingFile,
            None,
        ),
        // Ruby, C++, C, the shell and systemd
        (
            "cannot load such file -- redis (LoadError)",
            Class::MissingModule,
            Some("redis"),
        ),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'",
            Class::OutOfMemory,
            None,
        ),
        (
            "/opt/q/a: error while loading shared libraries: libssl.so.3: \
             cannot open shared object file: No such file or directory",
            Class::MissingModule,
            Some("libssl.so.3"),
        ),
        (
            "Could not connect to Redis at quantum_redis:6379: Temporary failure in name resolution",
            Class::Hostname,
            Some("quantum_redis"),
        ),
        (
            "/usr/local/bin/start: line 3: /app/models/f: Read-only file system",
            Class::ReadOnly,
            Some("/app/models/f"),
        ),
        (
            "cp: can't create '/home/qt/runtime/a': Permission denied",
            Class::PermissionDenied,
            Some("/home/qt/runtime/a"),
        ),
        (
            "bash: redis-server: command not found",
            Class::MissingFile,
            None,
        ),
        (
            "q.service: Failed at step EXEC spawning /opt/q/run: No such file or directory",
            Class::MissingFile,
            Some("/opt/q/run"),
        ),
        (
            "q.service: A process of this unit has been killed by the OOM killer.",
            Class::OutOfMemory,
            None,
        ),
    ];

    #[test]
    fn well_known_messages_are_known() {
        for (line, class, detail) in LINES {
            let clue = clue_in(line).unwrap_or_else(|| panic!("nothing in {line:?}"));
            assert_eq!(clue.class, *class, "{line:?}");
            assert_eq!(clue.detail.as_deref(), *detail, "{line:?}");
            assert_eq!(clue.line, *line);
        }
    }

    #[test]
    fn what_tells_nothing_is_passed_over() {
        let lines = [
            "",
            "Started Stand-in for q.service.",
            "q.service: Main process exited, code=exited, status=1/FAILURE",
            "q.service: Failed with result 'exit-code'.",
            "  code: 'ECONNREFUSED',",
            "errno 130 is none of ours, nor is preenoent",
            "q.service: Failed to set the OOM score, ignoring: Permission denied",
            "connected to redis at 127.0.0.1:6379",
        ];
        for line in lines {
            assert_eq!(clue_in(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_last_telling_line_wins() {
        let newest_first = [
            "q.service: Failed with result 'exit-code'.",
            "PermissionError: [Errno 13] Permission denied: '/a/b'",
            "ModuleNotFoundError: No module named 'x'",
        ];
        let class = |messages: &[&str]| clue(messages.iter().copied()).map(|clue| clue.class);
        assert_eq!(class(&newest_first), Some(Class::PermissionDenied));
        let in_one_message = ["MemoryError\nENOSPC: no space left on device\nbye"];
        assert_eq!(class(&in_one_message), Some(Class::OutOfSpace));
        assert_eq!(class(&["hello"]), None);
    }

    #[test]
    fn hostile_lines_come_out_harmless() {
        let line = "\u{1b}[31mredis://:hunter2@h:6379 \u{202e}connection refused\u{1b}[0m\u{7}";
        let clue = clue_in(line).unwrap();
        assert_eq!(clue.class, Class::Redis);
        assert_eq!(clue.line, "redis://***@h:6379 connection refused");

        let line = format!(
            "{} permission denied: '/a'{}",
            "ü".repeat(1000),
            "x".repeat(1 << 20)
        );
        let clue = clue_in(&line).unwrap();
        assert_eq!(clue.line.chars().count(), LONGEST_LINE);
        assert!(clue.line.ends_with("permission denied"), "{}", clue.line);

        let line = format!("permission denied: '/{}'", "a".repeat(300));
        assert_eq!(
            clue_in(&line).unwrap().detail,
            None,
            "a part of it is wrong"
        );
        let line = "permission denied: /run/vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvs/x";
        assert_eq!(clue_in(line).unwrap().detail, None, "it held a secret");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(
            message in 0..SIGNATURES.len(),
            before in "(\\PC|[\x00-\x7f]|[ '\"/:=.]|é|connecting to |lookup )*",
            after in "(\\PC|[\x00-\x7f]|[ '\"/:=.]|é|host=')*",
        ) {
            let message = SIGNATURES[message].1[0];
            if let Some(clue) = clue_in(&format!("{before}{message}{after}")) {
                prop_assert!(clue.line.chars().count() <= LONGEST_LINE);
                prop_assert!(!clue.line.contains(char::is_control));
            }
        }
    }
}
