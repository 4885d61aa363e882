//! The web configuration file, in the format that Prometheus' own exporters read.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CipherSuite, NamedGroup, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion,
};

use super::allowance::{Allowance, Rate};
use super::login::{self, Logins};
use super::tls::{ClientAuth, Fault, Part, Pem, Settings, Tls};
use crate::yaml::{
    self, Fields, Mistake, Mistakes, Node, Place, Reader, Value, closest, quoted, quoted_list,
};

/// What mistakes call the file.
const NOUN: &str = "web configuration";

const CLIENT_AUTH: [(&str, ClientAuth); 5] = [
    ("NoClientCert", ClientAuth::None),
    ("RequestClientCert", ClientAuth::Request),
    ("RequireAnyClientCert", ClientAuth::RequireAny),
    ("VerifyClientCertIfGiven", ClientAuth::VerifyIfGiven),
    ("RequireAndVerifyClientCert", ClientAuth::RequireAndVerify),
];

const CURVES: [(&str, NamedGroup); 3] = [
    ("X25519", NamedGroup::X25519),
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
];

/// Headers that may be added to every answer, with the values that they may have; any if none.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];

/// How requests are taken: what one web configuration file says, and what came of it since.
#[derive(Default)]
pub struct WebConfig {
    /// `None` is plain HTTP.
    pub(super) tls: Option<Tls>,
    /// `None` asks nobody for a password.
    pub(super) logins: Option<Logins>,
    /// Headers of every answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    rate_limit: Option<RateLimit>,
}

/// Section `rate_limit`: requests of all clients together, where passwords are asked for only those
/// with a right one.
struct RateLimit {
    rate: Rate,
    spent: Mutex<Allowance>,
}

impl WebConfig {
    /// What this file says, as [`load`](Self::load) reads it; without one, plain HTTP.
    pub fn of(file: Option<&Path>) -> Result<Self, Mistakes> {
        file.map_or_else(|| Ok(Self::default()), Self::load)
    }

    /// Reads the file and those that it names, or says everything that is wrong with them.
    pub fn load(path: &Path) -> Result<Self, Mistakes> {
        let read = || {
            let text = yaml::read(path, NOUN).map_err(|mistake| vec![mistake])?;
            let root = yaml::parse(&text, NOUN).map_err(|mistake| vec![mistake])?;
            let directory = path.parent().unwrap_or_else(|| Path::new(""));
            web_config(&root, directory)
        };
        read().map_err(|found| Mistakes {
            source: path.display().to_string(),
            found,
        })
    }

    /// A few words on what it asks of clients.
    pub fn summary(&self) -> String {
        let mut summary = match self.tls.as_ref().map(Tls::client_auth) {
            None => "plain HTTP".to_owned(),
            Some(asked) => {
                let name = CLIENT_AUTH.iter().find(|(_, value)| *value == asked);
                format!("TLS ({})", name.map_or("", |(name, _)| name))
            }
        };
        match self.logins.as_ref().map(Logins::count) {
            None => summary.push_str(", no passwords"),
            Some(1) => summary.push_str(", 1 user"),
            Some(count) => summary.push_str(&format!(", {count} users")),
        }
        if let Some(RateLimit { rate, .. }) = &self.rate_limit {
            let interval = humantime::format_duration(rate.interval);
            let burst = rate.burst;
            summary.push_str(&format!(", a request every {interval} and {burst} at once"));
        }
        summary
    }

    /// Counts a request, or says how long to wait with it.
    pub(super) fn spend(&self) -> Result<(), Duration> {
        let Some(RateLimit { rate, spent }) = &self.rate_limit else {
            return Ok(());
        };
        let mut spent = spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.spend(*rate, Instant::now())
    }
}

/// The web configuration in use. `borrow()` is the one of now; `send_replace()` puts another in its
/// place, which holds from the next connection and the next request on: connections made under
/// the one before are closed with their next answer, with TLS before or after instead of it.
pub type Web = watch::Sender<Arc<WebConfig>>;

fn web_config(root: &Node, directory: &Path) -> Result<WebConfig, Vec<Mistake>> {
    const KEYS: [&str; 4] = [
        "tls_server_config",
        "http_server_config",
        "basic_auth_users",
        "rate_limit",
    ];
    let mut reader = Reader::default();
    let mut config = WebConfig::default();
    let what = "the web configuration";
    if let Some(fields) = reader.mapping(root, what, &KEYS) {
        for (key, node) in fields.iter() {
            match key {
                "tls_server_config" => config.tls = tls(&mut reader, node, directory),
                "http_server_config" => config.headers = http(&mut reader, node),
                "basic_auth_users" => config.logins = logins(&mut reader, node),
                _ => config.rate_limit = rate_limit(&mut reader, node),
            }
        }
    }
    if reader.mistakes.is_empty() {
        return Ok(config);
    }
    reader.mistakes.sort_by_key(|mistake| mistake.place);
    Err(reader.mistakes)
}

fn tls(reader: &mut Reader, node: &Node, directory: &Path) -> Option<Tls> {
    const KEYS: [&str; 13] = [
        "cert_file",
        "key_file",
        "cert",
        "key",
        "client_auth_type",
        "client_ca_file",
        "client_ca",
        "client_allowed_sans",
        "min_version",
        "max_version",
        "cipher_suites",
        "curve_preferences",
        "prefer_server_cipher_suites",
    ];
    let what = "`tls_server_config`";
    let before = reader.mistakes.len();
    let fields = reader.mapping(node, what, &KEYS)?;
    if fields.iter().next().is_none() && reader.mistakes.len() == before {
        // As the others read an empty section: plain HTTP.
        return None;
    }
    let certificate = pem(reader, &fields, "cert_file", "cert", directory);
    let key = pem(reader, &fields, "key_file", "key", directory);
    for (file, inline, example) in [
        ("cert_file", "cert", "server.crt"),
        ("key_file", "key", "server.key"),
    ] {
        if fields.get(inline).is_none() {
            reader.required(&fields, file, what, example);
        }
    }
    let client_ca = pem(reader, &fields, "client_ca_file", "client_ca", directory);
    let client_auth = client_auth(reader, &fields, client_ca.as_ref().map(|(node, _)| *node));
    let allowed_sans = allowed_sans(reader, &fields, client_auth);
    let versions = versions(reader, &fields);
    let provider = provider(reader, &fields);
    if let Some(node) = fields.get("prefer_server_cipher_suites") {
        reader.boolean(node, "`prefer_server_cipher_suites`");
    }
    if reader.mistakes.len() > before {
        return None;
    }
    let ((certificate_node, certificate), (key_node, key)) = (certificate?, key?);
    let (ca_node, client_ca) = client_ca.unzip();
    let loaded = Tls::load(Settings {
        certificate,
        key,
        client_auth,
        client_ca,
        allowed_sans,
        versions,
        provider: Arc::new(provider),
    });
    match loaded {
        Ok(tls) => Some(tls),
        Err(Fault { part, flaw }) => {
            let (node, inline) = match part {
                Part::Certificate => (certificate_node, "cert"),
                Part::Key => (key_node, "key"),
                Part::ClientCa => (ca_node.unwrap_or(node), "client_ca"),
            };
            let from_file = fields.iter().all(|(key, _)| key != inline);
            let subject = match &node.value {
                Value::Text(path) if from_file => {
                    format!("`{inline}_file` {}", quoted(directory.join(path).display()))
                }
                _ => format!("`{inline}`"),
            };
            reader.mistakes.push(Mistake {
                place: Some(Place::of(node)),
                sentence: format!("{subject}: {}", flaw.sentence),
                may_pass: flaw.may_pass,
            });
            None
        }
    }
}

/// The PEM text of one key or of the file that another one names, and where it is said.
fn pem<'n>(
    reader: &mut Reader,
    fields: &Fields<'n>,
    file: &str,
    inline: &str,
    directory: &Path,
) -> Option<(&'n Node, Pem)> {
    match (fields.get(file), fields.get(inline)) {
        (Some(_), Some(node)) => {
            let sentence = format!("both `{file}` and `{inline}` are given: delete one of them");
            reader.refuse(node, sentence);
            None
        }
        (Some(node), None) => {
            let path = reader.text(node, &format!("`{file}`"))?;
            Some((node, Pem::File(directory.join(path))))
        }
        (None, Some(node)) => match &node.value {
            Value::Text(text) => Some((node, Pem::Inline(text.clone()))),
            _ => {
                let expected = "the text of a PEM file, indented below `|`";
                reader.wrong_type(node, &format!("`{inline}`"), expected);
                None
            }
        },
        (None, None) => None,
    }
}

/// One of some words.
fn word<T: Copy>(reader: &mut Reader, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
    let text = reader.text(node, what)?;
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = match closest(text, &words) {
            Some(word) => format!("did you mean `{word}`?"),
            None => format!("it may be {}", quoted_list(&words)),
        };
        reader.refuse(node, format!("{what} is {}: {hint}", quoted(text)));
    }
    found.map(|(_, value)| *value)
}

fn client_auth(reader: &mut Reader, fields: &Fields<'_>, client_ca: Option<&Node>) -> ClientAuth {
    let node = fields.get("client_auth_type");
    let asked = match node {
        Some(node) => match word(reader, node, "`client_auth_type`", &CLIENT_AUTH) {
            Some(asked) => asked,
            None => return ClientAuth::None,
        },
        None => ClientAuth::None,
    };
    let verifies = [ClientAuth::VerifyIfGiven, ClientAuth::RequireAndVerify].contains(&asked);
    match (client_ca, node) {
        (None, Some(node)) if verifies => reader.refuse(
            node,
            "clients' certificates cannot be verified without the CA that signs them: add \
             `client_ca_file`"
                .to_owned(),
        ),
        (Some(ca), _) if !verifies => reader.refuse(
            ca,
            "a client CA without a `client_auth_type` that verifies by it: add \
             `client_auth_type: RequireAndVerifyClientCert`, or delete this line"
                .to_owned(),
        ),
        _ => {}
    }
    asked
}

fn allowed_sans(reader: &mut Reader, fields: &Fields<'_>, asked: ClientAuth) -> Vec<String> {
    let Some(node) = fields.get("client_allowed_sans") else {
        return Vec::new();
    };
    if ![ClientAuth::RequireAny, ClientAuth::RequireAndVerify].contains(&asked) {
        let sentence = "`client_allowed_sans` needs a `client_auth_type` that lets nobody in \
                        without a certificate: RequireAndVerifyClientCert (or \
                        RequireAnyClientCert, which trusts whoever signs)";
        reader.refuse(node, sentence.to_owned());
    }
    let list = reader.list(node, "`client_allowed_sans`");
    if list.is_empty() && matches!(node.value, Value::List(_) | Value::Null) {
        let sentence = "`client_allowed_sans` is empty, which would let nobody in or everybody: \
                        fill it in or delete the line";
        reader.refuse(node, sentence.to_owned());
    }
    let mut names = Vec::new();
    for node in list {
        let Some(name) = reader.text(node, "an allowed name") else {
            continue;
        };
        if name.contains('@') && !name.contains("://") {
            let sentence = format!(
                "{} is a mail address, by which this exporter knows nobody: use a DNS name, an \
                 address or a URI of the client's certificate",
                quoted(name)
            );
            reader.refuse(node, sentence);
        }
        names.push(name.to_owned());
    }
    names
}

/// The versions from `min_version` to `max_version`.
fn versions(reader: &mut Reader, fields: &Fields<'_>) -> Vec<&'static SupportedProtocolVersion> {
    let mut read = |key: &str, default| {
        let node = fields.get(key)?;
        if let Value::Text(text) = &node.value
            && ["TLS10", "TLS11"].contains(&text.as_str())
        {
            let sentence = format!(
                "`{key}` is {text}, which is broken and which this exporter does not speak: use \
                 TLS12 or TLS13"
            );
            reader.refuse(node, sentence);
            return None;
        }
        let words = [("TLS12", 12), ("TLS13", 13)];
        let version = word(reader, node, &format!("`{key}`"), &words);
        Some((node, version.unwrap_or(default)))
    };
    let (least, most) = (read("min_version", 12), read("max_version", 13));
    let lowest = least.map_or(12, |(_, version)| version);
    let highest = most.map_or(13, |(_, version)| version);
    if let Some((node, _)) = most
        && lowest > highest
    {
        let sentence = "`max_version` is below `min_version`: no version is left";
        reader.refuse(node, sentence.to_owned());
    }
    [(&TLS12, 12), (&TLS13, 13)]
        .into_iter()
        .filter(|(_, version)| (lowest..=highest).contains(version))
        .map(|(version, _)| version)
        .collect()
}

/// Which cipher suites and key exchanges are offered: those of ring, or some of them.
fn provider(reader: &mut Reader, fields: &Fields<'_>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if let Some(node) = fields.get("cipher_suites") {
        // Those of TLS 1.3 are not for choice, in Go as here.
        let is_fixed =
            |suite: &SupportedCipherSuite| suite.version().version == ProtocolVersion::TLSv1_3;
        let names: Vec<_> = provider
            .cipher_suites
            .iter()
            .map(|suite| (name(suite.suite()), (!is_fixed(suite)).then_some(*suite)))
            .collect();
        let words: Vec<_> = names
            .iter()
            .map(|(name, suite)| (name.as_str(), *suite))
            .collect();
        let list = reader.list(node, "`cipher_suites`");
        let chosen = list
            .iter()
            .filter_map(|node| word(reader, node, "cipher suite", &words)?);
        let chosen: Vec<_> = chosen.collect();
        if !list.is_empty() {
            provider.cipher_suites.retain(is_fixed);
            provider.cipher_suites.extend(chosen);
        }
    }
    if let Some(node) = fields.get("curve_preferences") {
        let list = reader.list(node, "`curve_preferences`");
        let chosen = list
            .iter()
            .filter_map(|node| word(reader, node, "curve", &CURVES));
        let chosen: Vec<_> = chosen.collect();
        let groups: Vec<_> = chosen
            .iter()
            .filter_map(|chosen| {
                let mut groups = provider.kx_groups.iter();
                groups.find(|group| group.name() == *chosen).copied()
            })
            .collect();
        if !list.is_empty() {
            provider.kx_groups = groups;
        }
    }
    provider
}

/// The name of a cipher suite in Go and at IANA, which rustls spells otherwise for TLS 1.3.
fn name(suite: CipherSuite) -> String {
    let name = suite.as_str().unwrap_or_default();
    name.replace("TLS13_", "TLS_")
}

/// Section `http_server_config`: the headers of every answer.
fn http(reader: &mut Reader, node: &Node) -> Vec<(HeaderName, HeaderValue)> {
    let mut found = Vec::new();
    let keys = ["http2", "headers"];
    let Some(fields) = reader.mapping(node, "`http_server_config`", &keys) else {
        return found;
    };
    if let Some(node) = fields.get("http2") {
        // Of no effect: this exporter speaks HTTP/1.1 only, which all scrapers do.
        reader.boolean(node, "`http2`");
    }
    let Some(node) = fields.get("headers") else {
        return found;
    };
    let names = HEADERS.map(|(name, _)| name);
    let Some(headers) = reader.mapping(node, "`headers`", &names) else {
        return found;
    };
    for (name, node) in headers.iter() {
        // Blank is unset.
        if matches!(&node.value, Value::Null)
            || matches!(&node.value, Value::Text(text) if text.is_empty())
        {
            continue;
        }
        // `X-XSS-Protection: 0` is the usual value.
        let value = match &node.value {
            Value::Number(number) => number,
            _ => match reader.text(node, &format!("`{name}`")) {
                Some(text) => text,
                None => continue,
            },
        };
        let known = HEADERS.iter().find(|(known, _)| *known == name);
        let values = known.map_or(&[][..], |(_, values)| values);
        if !values.is_empty() && !values.contains(&value) {
            let values = quoted_list(values);
            let sentence = format!("`{name}` is {}: it may be {values}", quoted(value));
            reader.refuse(node, sentence);
            continue;
        }
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => found.push((name, value)),
            _ => reader.refuse(
                node,
                format!("`{name}` holds a character that no header may: delete it"),
            ),
        }
    }
    found
}

/// Section `basic_auth_users`: names and bcrypt hashes.
fn logins(reader: &mut Reader, node: &Node) -> Option<Logins> {
    let before = reader.mistakes.len();
    let mut users: Vec<(String, String)> = Vec::new();
    for (key, value) in reader.entries(node, "`basic_auth_users`") {
        let Some(name) = reader.text(key, "a user's name") else {
            continue;
        };
        if name.contains(':') {
            let sentence = "a user's name holds `:`, at which a browser would cut it: delete it";
            reader.refuse(key, sentence.to_owned());
            continue;
        }
        if users.iter().any(|(known, _)| known == name) {
            let sentence = format!("the user {} stands twice: delete one", quoted(name));
            reader.refuse(key, sentence);
            continue;
        }
        let what = format!("the password of {}", quoted(name));
        let Some(hash) = reader.text(value, &what) else {
            continue;
        };
        match login::cost(hash) {
            Ok(_) => users.push((name.to_owned(), hash.to_owned())),
            Err(why) => reader.refuse(value, format!("{what} {why}")),
        }
    }
    if users.is_empty() || reader.mistakes.len() > before {
        return None;
    }
    let logins = Logins::new(users);
    logins.map_err(|why| reader.refuse(node, why)).ok()
}

/// Section `rate_limit`; `None` also for an interval of 0.
fn rate_limit(reader: &mut Reader, node: &Node) -> Option<RateLimit> {
    let what = "`rate_limit`";
    let fields = reader.mapping(node, what, &["interval", "burst"])?;
    let interval = reader.required(&fields, "interval", what, "1s")?;
    let interval = match &interval.value {
        Value::Number(number) if number == "0" => Duration::ZERO,
        _ => reader.duration(interval, "`interval`", Duration::ZERO, "")?,
    };
    if interval.is_zero() {
        return None;
    }
    let node = reader.required(&fields, "burst", what, "20")?;
    let burst = match &node.value {
        Value::Number(number) => number
            .parse()
            .ok()
            .filter(|burst| (1..=1_000_000).contains(burst)),
        _ => None,
    };
    let Some(burst) = burst else {
        let sentence = "`burst` must be a number from 1 to 1000000: how many requests are \
                        answered at once";
        reader.refuse(node, sentence.to_owned());
        return None;
    };
    Some(RateLimit {
        rate: Rate { interval, burst },
        spent: Mutex::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<WebConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        std::fs::write(&path, text).unwrap();
        WebConfig::load(&path).map_err(|mistakes| {
            let shown = format!("{}/", directory.path().display());
            mistakes.to_string().replace(&shown, "")
        })
    }

    #[test]
    fn what_the_file_leaves_out_is_plain_http_for_everybody() {
        for text in [
            "",
            "# nothing\n",
            "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n",
            "tls_server_config: {}\nrate_limit: {interval: 0}\n",
        ] {
            let config = load(text).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(config.summary(), "plain HTTP, no passwords", "{text}");
            assert_eq!(config.headers, []);
            assert_eq!(config.spend(), Ok(()));
        }
    }

    #[test]
    fn what_the_file_says_is_read() {
        let hash = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";
        let config = load(&format!(
            "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n    \
             X-XSS-Protection: 0\n    Content-Security-Policy: \"\"\n\
             basic_auth_users: {{alice: {hash}, \"1\": {hash}}}\n\
             rate_limit: {{interval: 1m, burst: 2}}\n"
        ));
        let config = config.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(
            config.summary(),
            "plain HTTP, 2 users, a request every 1m and 2 at once"
        );
        let headers: Vec<_> = config
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        let expected = [("x-frame-options", "deny"), ("x-xss-protection", "0")];
        assert_eq!(headers, expected);
        assert_eq!((config.spend(), config.spend()), (Ok(()), Ok(())));
        let wait = config.spend().unwrap_err();
        assert!(wait > Duration::from_secs(50), "{wait:?}");
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let told = load(
            "tls_server_conf: {}\n\
             tls_server_config:\n  \
               cert_fil: x\n  \
               client_auth_type: RequireAndVerifyClientCer\n  \
               client_allowed_sans: [a@example.org]\n  \
               min_version: TLS11\n  \
               cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]\n  \
               curve_preferences: [CurveP521]\n\
             http_server_config:\n  \
               http2: 3\n  \
               headers: {X-Frame-Options: never, X-Frame: deny}\n\
             basic_auth_users:\n  \
               alice: hunter2\n  \
               alice: hunter3\n  \
               a:b: hunter4\n\
             rate_limit: {interval: 1s}\n",
        );
        let told = told.err().unwrap();
        for (place, part) in [
            ("1:1", "did you mean `tls_server_config`?"),
            ("3:3", "did you mean `cert_file`?"),
            ("3:3", "lacks `key_file`"),
            ("4:21", "did you mean `RequireAndVerifyClientCert`?"),
            ("5:24", "that lets nobody in without a certificate"),
            ("5:25", "is a mail address"),
            ("6:16", "use TLS12 or TLS13"),
            ("7:19", "cipher suite is `TLS_RSA_WITH_AES_128_CBC_SHA`"),
            ("8:23", "curve is `CurveP521`"),
            ("10:10", "must be true or false"),
            ("11:30", "it may be `deny` and `sameorigin`"),
            ("11:37", "did you mean `X-Frame-Options`?"),
            ("13:10", "is no bcrypt hash"),
            ("14:10", "is no bcrypt hash"),
            ("15:3", "holds `:`"),
            ("16:13", "lacks `burst`"),
        ] {
            let start = format!("web.yml:{place}: ");
            let mut lines = told.lines().filter(|line| line.starts_with(&start));
            assert!(
                lines.any(|line| line.contains(part)),
                "{place} {part}\n{told}"
            );
        }
        assert_eq!(told.lines().count(), 16, "{told}");
        assert!(!told.contains("hunter"), "{told}");
    }

    #[test]
    fn versions_and_files_must_agree() {
        for (text, part) in [
            (
                "{cert_file: a}",
                "web.yml:1:20: `tls_server_config` lacks `key_file`",
            ),
            (
                "{cert_file: a, cert: b, key: c}",
                "web.yml:1:41: both `cert_file` and `cert`",
            ),
            (
                "{cert_file: a, key: [c]}",
                "web.yml:1:40: `key` must be the text of a PEM file",
            ),
            (
                "{cert_file: a, key_file: b, min_version: TLS13, max_version: TLS12}",
                "web.yml:1:81: `max_version` is below",
            ),
            (
                "{cert_file: a, key_file: b, client_ca_file: c}",
                "web.yml:1:64: a client CA without",
            ),
            (
                "{cert_file: a, key_file: b, client_auth_type: VerifyClientCertIfGiven}",
                "web.yml:1:66: clients' certificates cannot be verified",
            ),
            (
                "{cert_file: a, key_file: b}",
                "web.yml:1:32: `cert_file` `a`: no such file",
            ),
        ] {
            let told = load(&format!("tls_server_config: {text}\n")).err().unwrap();
            assert!(told.starts_with(part), "{text}: {told}");
            assert_eq!(told.lines().count(), 1, "{told}");
        }
    }

    #[test]
    fn cipher_suites_and_curves_have_the_names_of_go() {
        let root = yaml::parse(
            "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256, \
             TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n\
             curve_preferences: [CurveP384, X25519]\n",
            NOUN,
        );
        let root = root.unwrap_or_else(|why| panic!("{why:?}"));
        let mut reader = Reader::default();
        let keys = ["cipher_suites", "curve_preferences"];
        let fields = reader.mapping(&root, "it", &keys).unwrap();
        let provider = provider(&mut reader, &fields);
        assert!(reader.mistakes.is_empty(), "{:?}", reader.mistakes);
        let suites = provider.cipher_suites.iter();
        let suites: Vec<_> = suites.map(|suite| name(suite.suite())).collect();
        assert_eq!(
            suites,
            [
                "TLS_AES_256_GCM_SHA384",
                "TLS_AES_128_GCM_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            ]
        );
        let curves: Vec<_> = provider
            .kx_groups
            .iter()
            .map(|group| group.name())
            .collect();
        assert_eq!(curves, [NamedGroup::secp384r1, NamedGroup::X25519]);
    }
}
