//! Where to listen: the addresses as they are written, and the sockets for them.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::str::FromStr;

use anyhow::{Context, anyhow};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Connections that the kernel keeps until they are accepted; it may keep fewer.
const BACKLOG: i32 = 1024;

/// One value of `--web.listen-address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// `:PORT`: every address of the host.
    Everywhere(u16),
    /// `ADDRESS:PORT`.
    One(SocketAddr),
    /// `NAME:PORT`: every address that the name has when the exporter starts.
    Named(String, u16),
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write :9100, 127.0.0.1:9100, [::1]:9100 or host:9100";
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("there is no port; {example}"));
        };
        let port = port
            .parse()
            .map_err(|_| format!("'{port}' is no port from 0 to 65535; {example}"))?;
        if host.is_empty() {
            Ok(Self::Everywhere(port))
        } else if let Ok(address) = text.parse() {
            Ok(Self::One(address))
        } else if host.contains([':', '[', ']', '/', ' ']) {
            Err(format!("'{host}' is no address and no name; {example}"))
        } else {
            Ok(Self::Named(host.to_owned(), port))
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::One(address) => address.fmt(f),
            Self::Named(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Listens on all of these, or says on which it cannot, why, and what to do.
pub fn bind(addresses: &[ListenAddress]) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = match address {
            ListenAddress::Everywhere(port) => bind_everywhere(*port),
            ListenAddress::One(address) => bind_one(*address),
            ListenAddress::Named(host, port) => {
                listeners.append(&mut bind_name(host, *port)?);
                continue;
            }
        };
        listeners.push(bound.map_err(|error| refusal(&address.to_string(), &error))?);
    }
    Ok(listeners)
}

/// IPv6 and IPv4 by one socket, or IPv4 alone where the host has IPv6 switched off.
fn bind_everywhere(port: u16) -> io::Result<TcpListener> {
    match bind_one((Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if is_missing(&error) => bind_one((Ipv4Addr::UNSPECIFIED, port).into()),
        outcome => outcome,
    }
}

/// All addresses of a name that this host has, at least one.
fn bind_name(host: &str, port: u16) -> anyhow::Result<Vec<TcpListener>> {
    let name = format!("{host}:{port}");
    let mut addresses: Vec<_> = (host, port)
        .to_socket_addrs()
        .with_context(|| {
            format!(
                "cannot listen on {name}: looking up {host} failed; \
                 give an address instead, such as --web.listen-address=127.0.0.1:{port}"
            )
        })?
        .collect();
    addresses.dedup();

    let mut listeners = Vec::new();
    let mut missing = None;
    for address in addresses {
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) => return Err(refusal(&format!("{name} ({address})"), &error)),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(refusal(&name, &error)),
        _ => Ok(listeners),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    if address.is_ipv6() {
        // [::] is every address, whatever net.ipv6.bindv6only says.
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    // A restart need not wait for the old connections' last minute.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// The host has no such address, or not even the protocol.
fn is_missing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT]
        .into_iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn refusal(address: &str, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program, or another instance, listens on this port: stop it, or choose a \
             free port with --web.listen-address"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: grant it, or choose a higher port with \
             --web.listen-address"
        }
        _ if is_missing(error) => {
            "this host has no such address: choose one that `ip address` shows, or :PORT for \
             all, with --web.listen-address"
        }
        _ => "choose another address with --web.listen-address",
    };
    anyhow!("cannot listen on {address}: {error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_printed() {
        for text in [":9100", "127.0.0.1:9100", "[::1]:9100", "localhost:0"] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_examples() {
        for (text, reason) in [
            ("9100", "there is no port"),
            ("", "there is no port"),
            (":", "'' is no port"),
            (":http", "'http' is no port"),
            (":65536", "'65536' is no port"),
            ("::1:9100", "'::1' is no address"),
            ("http://a:9100", "'http://a' is no address"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.starts_with(reason), "{text}: {error}");
            assert!(error.ends_with("or host:9100"), "{text}: {error}");
        }
    }

    #[test]
    fn a_port_in_use_is_explained() {
        let first = bind(&[ListenAddress::Everywhere(0)]).unwrap();
        let port = first[0].local_addr().unwrap().port();
        let error = bind(&[ListenAddress::Everywhere(port)]).unwrap_err();
        let sentence = format!("{error:#}");
        assert!(sentence.starts_with(&format!("cannot listen on :{port}: ")));
        assert!(sentence.contains("choose a free port with --web.listen-address"));
    }
}
