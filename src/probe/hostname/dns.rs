//! What the DNS servers of resolv.conf say, without NSS, cache or hosts file.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout_at};

use super::{Answer, Reason, some};

const PORT: u16 = 53;

/// glibc asks no more servers than these.
const MOST_SERVERS: usize = 3;

/// glibc takes no larger `ndots`.
const MOST_DOTS: usize = 15;

/// Less is no time for an answer.
const SHORTEST: Duration = Duration::from_millis(10);

/// Who is asked for which names: resolv.conf(5), read as glibc reads it, which skips what it does
/// not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// In the order in which they are asked; never none.
    servers: Vec<SocketAddr>,
    /// Domains to look for the name in, too.
    search: Vec<String>,
    /// A name with fewer dots is looked for in these first.
    ndots: usize,
}

impl Settings {
    /// `text` is the file's, empty where there is no file; `nodename` is the name of this host, whose
    /// domain is searched where the file names none.
    pub fn parse(text: &str, nodename: &str) -> Self {
        let mut servers = Vec::new();
        let mut search = None;
        let mut ndots = 1;
        for line in text.lines() {
            // A keyword begins the line: after a blank it is none.
            let Some((keyword, values)) = line.split_once([' ', '\t']) else {
                continue;
            };
            let mut words = values.split_whitespace();
            match keyword {
                "nameserver" => {
                    let word = words.next().unwrap_or_default();
                    let address = word.split([';', '#', '%']).next().unwrap_or_default();
                    servers.extend(address.parse().map(|ip: IpAddr| SocketAddr::new(ip, PORT)));
                }
                "domain" => search = Some(words.take(1).map(str::to_owned).collect()),
                "search" => search = Some(words.map(str::to_owned).collect()),
                "options" => {
                    for word in words {
                        let dots = word.strip_prefix("ndots:");
                        let dots = dots.and_then(|dots| dots.parse().ok());
                        ndots = dots.unwrap_or(ndots).min(MOST_DOTS);
                    }
                }
                _ => {}
            }
        }
        servers.truncate(MOST_SERVERS);
        if servers.is_empty() {
            servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT));
        }
        let own_domain = || {
            let domain = nodename.trim_end().split_once('.');
            domain.map(|(_, domain)| domain.to_owned())
        };
        Self {
            servers,
            search: search.unwrap_or_else(|| own_domain().into_iter().collect()),
            ndots,
        }
    }

    /// The names to ask for, the first first.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut whole = name.clone();
        whole.set_fqdn(true);
        if name.is_fqdn() {
            return vec![whole];
        }
        // A domain that is none, or makes the name too long, is passed over.
        let in_domain = |domain: &String| {
            let domain = Name::from_ascii(domain).ok()?;
            let mut name = name.clone().append_domain(&domain).ok()?;
            name.set_fqdn(true);
            Some(name)
        };
        let mut names: Vec<Name> = self.search.iter().filter_map(in_domain).collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let place = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(place, whole);
        // `search .` is common, and is the name itself.
        let mut seen = Vec::new();
        names.retain(|name| {
            let new = !seen.contains(name);
            seen.push(name.clone());
            new
        });
        names
    }
}

/// Asks for both kinds of addresses: one server after the other until one can tell, and one name
/// after the other until one has an address. `localhost` and what is below it is never asked for:
/// the library answers by itself.
pub async fn look_up(name: &str, settings: &Settings, deadline: Instant) -> Answer {
    // Not by the text itself: that way refuses underscores.
    let names = match Name::from_ascii(name) {
        Ok(name) => settings.candidates(&name),
        Err(error) => {
            let why = format!("{name} is no name for DNS: {error}");
            return Answer::Failure(Reason::Invalid, why);
        }
    };
    // Each that may have to be waited for gets an equal share of the time.
    let mut shares = names.len() * settings.servers.len();
    let mut failure: Option<Answer> = None;
    for name in names {
        let mut answer = None;
        for server in &settings.servers {
            if !answer.as_ref().is_some_and(is_told) {
                answer = Some(ask(*server, &name, share(shares, deadline)).await);
            }
            shares = shares.saturating_sub(1);
        }
        let Some(answer) = answer else { continue };
        // For the other names it would be silent, too.
        if let Answer::Addresses(_) | Answer::Failure(Reason::Timeout, _) = &answer {
            return answer;
        }
        if failure
            .as_ref()
            .is_none_or(|before| rank(before) <= rank(&answer))
        {
            failure = Some(answer);
        }
    }
    failure.unwrap_or_else(|| {
        let why = "no DNS server was asked".to_owned();
        Answer::Failure(Reason::Invalid, why)
    })
}

/// True if another server need not be asked.
fn is_told(answer: &Answer) -> bool {
    matches!(
        answer,
        Answer::Addresses(_) | Answer::Failure(Reason::NotFound | Reason::NoData, _)
    )
}

/// Which of several failures counts: the highest.
fn rank(answer: &Answer) -> u8 {
    match answer {
        Answer::Addresses(_) => 0,
        Answer::Failure(Reason::NotFound, _) => 1,
        Answer::Failure(Reason::NoData, _) => 2,
        Answer::Failure(..) => 3,
    }
}

fn share(shares: usize, deadline: Instant) -> Instant {
    let now = Instant::now();
    let shares = u32::try_from(shares).unwrap_or(u32::MAX).max(1);
    let left = deadline.saturating_duration_since(now) / shares;
    now + left.max(SHORTEST)
}

/// One server's answer for this very name.
async fn ask(server: SocketAddr, name: &Name, until: Instant) -> Answer {
    let ip = server.ip();
    let silent = || {
        let why = format!("the DNS server {ip} gave no answer in time");
        Answer::Failure(Reason::Timeout, why)
    };
    let mut config = NameServerConfig::udp_and_tcp(ip);
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    // Twice within the time, so that one lost packet is no outage.
    options.attempts = 1;
    options.timeout = until.saturating_duration_since(Instant::now()) * 9 / 20;
    let resolver = match builder.build() {
        Ok(resolver) => resolver,
        Err(error) => return failed(ip, &error),
    };
    let both = async {
        tokio::join!(
            resolver.lookup(name.clone(), RecordType::A),
            resolver.lookup(name.clone(), RecordType::AAAA),
        )
    };
    let Ok((four, six)) = timeout_at(until, both).await else {
        return silent();
    };
    let mut addresses = Vec::new();
    let mut failures = Vec::new();
    for answer in [four, six] {
        match answer {
            Ok(found) => {
                let found = found.answers().iter();
                addresses.extend(found.filter_map(|record| record.data.ip_addr()));
            }
            Err(NetError::Timeout) => failures.push(silent()),
            Err(error) => failures.push(failed(ip, &error)),
        }
    }
    // One kind that cannot be told is not the same as none of that kind.
    let worst = failures.into_iter().max_by_key(rank);
    some(addresses).or(worst).unwrap_or_else(|| no_data(ip))
}

fn no_data(ip: IpAddr) -> Answer {
    let why = format!("the DNS server {ip} knows the name, but no address of it");
    Answer::Failure(Reason::NoData, why)
}

fn failed(ip: IpAddr, error: &NetError) -> Answer {
    let server = format!("the DNS server {ip}");
    let (reason, why) = if error.is_nx_domain() {
        let why = format!("{server} knows no such name (NXDOMAIN)");
        (Reason::NotFound, why)
    } else {
        match error.as_metrics_label() {
            "dns_no_records" => return no_data(ip),
            "dns_response_code_servfail" => (
                Reason::Temporary,
                format!("{server} could not find out (SERVFAIL)"),
            ),
            "dns_response_code_refused" => (
                Reason::Refused,
                format!("{server} refuses to answer (REFUSED)"),
            ),
            "proto" | "dns_response_code_formerror" => (
                Reason::Invalid,
                format!("what {server} answers makes no sense: {error}"),
            ),
            _ => (Reason::Temporary, format!("asking {server}: {error}")),
        }
    };
    Answer::Failure(reason, why)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{RData, Record};
    use tokio::net::UdpSocket;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// How a server answers one question, by its name and whether it asks for IPv6: with these
    /// addresses, which may be none, or a code; `None`: not at all.
    type Says = fn(&str, bool) -> Option<Result<Vec<&'static str>, ResponseCode>>;

    /// A DNS server of its own, and the names that it was asked for.
    async fn server(says: Says) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries.first().unwrap().clone();
                let name = question.name().to_ascii();
                let six = question.query_type() == RecordType::AAAA;
                if !six {
                    log.lock().unwrap().push(name.clone());
                }
                let Some(says) = says(&name, six) else {
                    continue;
                };
                let mut answer = query.into_response();
                match says {
                    Err(code) => answer.metadata.response_code = code,
                    Ok(addresses) => {
                        for address in addresses {
                            let data = match address.parse().unwrap() {
                                IpAddr::V4(ip) => RData::A(ip.into()),
                                IpAddr::V6(ip) => RData::AAAA(ip.into()),
                            };
                            let name = question.name().clone();
                            answer.add_answer(Record::from_rdata(name, 60, data));
                        }
                    }
                }
                let answer = answer.to_vec().unwrap();
                socket.send_to(&answer, client).await.unwrap();
            }
        });
        (address, asked)
    }

    fn settings(servers: &[SocketAddr], search: &[&str]) -> Settings {
        Settings {
            servers: servers.to_vec(),
            search: search.iter().map(|&domain| domain.to_owned()).collect(),
            ndots: 1,
        }
    }

    /// The addresses, or the reason why there are none.
    async fn found(name: &str, settings: &Settings, deadline: Instant) -> Result<String, Reason> {
        match look_up(name, settings, deadline).await {
            Answer::Addresses(list) => {
                let list: Vec<_> = list.iter().map(ToString::to_string).collect();
                Ok(list.join(" "))
            }
            Answer::Failure(reason, _) => Err(reason),
        }
    }

    #[test]
    fn resolv_conf_is_read_as_glibc_does() {
        let is = |text: &str, servers: &str, search: &str, ndots: usize| {
            let settings = Settings::parse(text, "host.own.test\n");
            let found: Vec<_> = settings.servers.iter().map(ToString::to_string).collect();
            assert_eq!(
                (found.join(" ").as_str(), settings.search.join(" ").as_str()),
                (servers, search),
                "{text:?}"
            );
            assert_eq!(settings.ndots, ndots, "{text:?}");
        };
        let local = "127.0.0.1:53";
        for text in [
            "",
            "\u{0}\u{fffd}",
            "nameserver",
            "nameserver nonsense\n",
            "#nameserver 10.0.0.1\n",
            ";nameserver 10.0.0.1\n",
            " nameserver 10.0.0.1\n",
            "nameservers 10.0.0.1\n",
        ] {
            is(text, local, "own.test", 1);
        }
        is(
            "nameserver\t10.0.0.1 # first\nnameserver 10.0.0.2;second\nnameserver ::1\n\
             nameserver 10.0.0.4",
            "10.0.0.1:53 10.0.0.2:53 [::1]:53",
            "own.test",
            1,
        );
        is("nameserver fe80::1%eth0", "[fe80::1]:53", "own.test", 1);
        is("search a.test b.test\n", local, "a.test b.test", 1);
        is("search a.test\ndomain b.test c.test\n", local, "b.test", 1);
        is("domain b.test\nsearch a.test\r\n", local, "a.test", 1);
        is("search \n", local, "", 1);
        is("options edns0 ndots:2 ndots:x\n", local, "own.test", 2);
        is("options ndots:99 timeout:1\n", local, "own.test", 15);
        assert!(Settings::parse("", "host").search.is_empty());
    }

    #[test]
    fn the_names_to_ask_for_are_put_together_as_glibc_does() {
        let names = |name: &str, ndots| {
            let settings = Settings {
                ndots,
                ..settings(&[], &["a.test", "bad..domain", "."])
            };
            let names = settings.candidates(&Name::from_ascii(name).unwrap());
            let names: Vec<_> = names.iter().map(Name::to_ascii).collect();
            names.join(" ")
        };
        assert_eq!(names("one", 1), "one.a.test. one.");
        assert_eq!(names("one", 0), "one. one.a.test.");
        assert_eq!(names("one.two", 1), "one.two. one.two.a.test.");
        assert_eq!(names("one.two", 2), "one.two.a.test. one.two.");
        assert_eq!(names("one.", 1), "one.");
    }

    #[tokio::test]
    async fn every_answer_is_told_apart() {
        let (server, _) = server(|name, six| match (name, six) {
            ("both_kinds.", false) => Some(Ok(vec!["127.0.0.2", "127.0.0.1", "127.0.0.2"])),
            ("both_kinds.", true) => Some(Ok(vec!["::1"])),
            ("nodata.", _) => Some(Ok(vec![])),
            ("servfail.", _) => Some(Err(ResponseCode::ServFail)),
            ("refused.", _) => Some(Err(ResponseCode::Refused)),
            // One kind is not there, and the other cannot be told.
            ("half.", false) => Some(Ok(vec![])),
            ("half.", true) => Some(Err(ResponseCode::ServFail)),
            ("four.", false) => Some(Ok(vec!["127.0.0.1"])),
            ("four.", true) => Some(Err(ResponseCode::ServFail)),
            _ => Some(Err(ResponseCode::NXDomain)),
        })
        .await;
        let settings = settings(&[server], &[]);
        for (name, expected) in [
            ("both_kinds", Ok("127.0.0.1 127.0.0.2 ::1".to_owned())),
            ("nodata", Err(Reason::NoData)),
            ("servfail", Err(Reason::Temporary)),
            ("refused", Err(Reason::Refused)),
            ("half", Err(Reason::Temporary)),
            ("four", Ok("127.0.0.1".to_owned())),
            ("nowhere", Err(Reason::NotFound)),
            ("10.1", Err(Reason::NotFound)),
            ("-bad-", Err(Reason::Invalid)),
            ("a..b", Err(Reason::Invalid)),
        ] {
            assert_eq!(found(name, &settings, soon()).await, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn the_next_server_is_asked_only_if_the_first_cannot_tell() {
        let (refusing, _) = server(|_, _| Some(Err(ResponseCode::Refused))).await;
        let (silent, _) = server(|_, _| None).await;
        let (denying, _) = server(|_, _| Some(Err(ResponseCode::NXDomain))).await;
        let (knowing, asked) = server(|_, six| {
            let found = if six { vec![] } else { vec!["127.0.0.1"] };
            Some(Ok(found))
        })
        .await;
        let of = |servers: &[SocketAddr]| settings(servers, &[]);
        let right = Ok("127.0.0.1".to_owned());
        let definite = of(&[denying, knowing]);
        assert_eq!(found("a", &definite, soon()).await, Err(Reason::NotFound));
        assert!(asked.lock().unwrap().is_empty());
        assert_eq!(found("a", &of(&[refusing, knowing]), soon()).await, right);
        let until = Instant::now() + Duration::from_secs(2);
        assert_eq!(found("a", &of(&[silent, knowing]), until).await, right);
        let alone = of(&[silent]);
        let brief = Instant::now() + Duration::from_millis(200);
        assert_eq!(found("a", &alone, brief).await, Err(Reason::Timeout));
        let passed = Instant::now();
        assert_eq!(found("a", &alone, passed).await, Err(Reason::Timeout));
    }

    #[tokio::test]
    async fn the_search_list_is_followed_and_the_most_telling_failure_kept() {
        let (server, asked) = server(|name, six| match name {
            "alias.b.test." if six => Some(Ok(vec![])),
            "alias.b.test." => Some(Ok(vec!["127.0.0.1"])),
            "empty.a.test." => Some(Ok(vec![])),
            "down.a.test." => Some(Err(ResponseCode::ServFail)),
            _ => Some(Err(ResponseCode::NXDomain)),
        })
        .await;
        let settings = settings(&[server], &["a.test", "b.test"]);
        let right = Ok("127.0.0.1".to_owned());
        assert_eq!(found("alias", &settings, soon()).await, right);
        assert_eq!(*asked.lock().unwrap(), ["alias.a.test.", "alias.b.test."]);
        for (name, expected) in [
            ("empty", Reason::NoData),
            ("down", Reason::Temporary),
            ("nowhere", Reason::NotFound),
        ] {
            let failure = Err(expected);
            assert_eq!(found(name, &settings, soon()).await, failure, "{name}");
        }
    }
}
