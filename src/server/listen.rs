//! Where to listen: the addresses as they are written, and the sockets for them.

use std::fmt;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, anyhow, bail};
use listenfd::ListenFd;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

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
    /// `unix:/PATH`.
    Unix(PathBuf),
}

/// A socket that is listened on.
pub enum Listener {
    /// An address and a port.
    Tcp(TcpListener),
    /// A path; its file is removed with it, unless systemd made it.
    Unix(UnixListener, Option<SocketFile>),
}

/// The file of a unix socket, removed when this is dropped.
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: a file that another instance put there since stays.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Where it stays, the next start finds nobody behind it and replaces it.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "write :9100, 127.0.0.1:9100, [::1]:9100, host:9100 or unix:/run/x.sock";
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.ends_with('/') {
                return Err(format!(
                    "'{path}' is no absolute path of a socket; {example}"
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
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
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Listens on all of these, or says on which it cannot, why, and what to do.
pub fn bind(addresses: &[ListenAddress]) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let bound = match address {
            ListenAddress::Everywhere(port) => bind_everywhere(*port),
            ListenAddress::One(address) => bind_one(*address),
            ListenAddress::Named(host, port) => {
                listeners.extend(bind_name(host, *port)?.into_iter().map(Listener::Tcp));
                continue;
            }
            ListenAddress::Unix(path) => {
                listeners.push(bind_path(path)?);
                continue;
            }
        };
        let bound = bound.map_err(|error| refusal(&address.to_string(), &error))?;
        listeners.push(Listener::Tcp(bound));
    }
    Ok(listeners)
}

/// The sockets that systemd passes to a service with a socket unit, at least one.
///
/// To be called while the process has one thread: it takes the variables that tell of them out
/// of the environment.
pub fn inherit() -> anyhow::Result<Vec<Listener>> {
    let mut passed = ListenFd::from_env();
    if passed.len() == 0 {
        bail!(
            "systemd passed no socket (LISTEN_FDS is not set for this process): start it by a \
             socket unit, or leave out --web.systemd-socket"
        );
    }
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let listener = if let Ok(Some(tcp)) = passed.take_tcp_listener(index) {
            tcp.set_nonblocking(true)
                .context("using a socket that systemd passed")?;
            Listener::Tcp(tcp)
        } else if let Ok(Some(unix)) = passed.take_unix_listener(index) {
            unix.set_nonblocking(true)
                .context("using a socket that systemd passed")?;
            Listener::Unix(unix, None)
        } else {
            bail!(
                "socket {} that systemd passed is no stream socket: use ListenStream= only in \
                 the socket unit",
                index + 1
            );
        };
        let listens = match &listener {
            Listener::Tcp(tcp) => sockopt::socket_acceptconn(tcp),
            Listener::Unix(unix, _) => sockopt::socket_acceptconn(unix),
        };
        if !listens.context("asking a socket that systemd passed whether it listens")? {
            bail!(
                "socket {} that systemd passed is a connection, not a listening socket: leave \
                 out Accept=yes in the socket unit",
                index + 1
            );
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Listens on a path, in place of a socket that nobody listens on any more.
fn bind_path(path: &Path) -> anyhow::Result<Listener> {
    let failed = |error: &io::Error| {
        let shown = path.display();
        let advice = match error.kind() {
            ErrorKind::NotFound => {
                "make the directory (RuntimeDirectory= in the unit makes one below /run)"
            }
            ErrorKind::PermissionDenied => {
                "let the exporter's user write the directory (RuntimeDirectory= in the unit \
                 makes one below /run)"
            }
            ErrorKind::AddrInUse => {
                "another instance listens on it, or it is no socket: stop that one, or choose \
                 another path with --web.listen-address"
            }
            ErrorKind::InvalidInput => "the path is longer than the 107 bytes that there may be",
            _ => "choose another path with --web.listen-address",
        };
        anyhow!("cannot listen on unix:{shown}: {error}; {advice}")
    };
    let bound = match bind_new_path(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_stale(path) => {
            fs::remove_file(path).map_err(|error| failed(&error))?;
            bind_new_path(path)
        }
        outcome => outcome,
    };
    bound.map_err(|error| failed(&error))
}

fn bind_new_path(path: &Path) -> io::Result<Listener> {
    const MODE: u32 = 0o660;
    let address = SocketAddrUnix::new(path).map_err(|_| ErrorKind::InvalidInput)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The kernel makes the file with the socket's mode less the umask: there is no moment in
    // which others may connect.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(MODE))?;
    rustix::net::bind(&socket, &address)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: identity(path)?,
    };
    // Back what the umask took from the group.
    fs::set_permissions(path, Permissions::from_mode(MODE))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(Listener::Unix(UnixListener::from(socket), Some(file)))
}

/// Whether it is a socket that nobody listens on.
fn is_stale(path: &Path) -> bool {
    // Whoever listens and does not accept must not keep this waiting.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let refused = || {
        let address = SocketAddrUnix::new(path)?;
        let kind = SocketType::STREAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
        rustix::net::connect(&socket, &address)
    };
    fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && refused() == Err(Errno::CONNREFUSED)
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
    [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT]
        .into_iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn refusal(address: &str, error: &io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, or another instance, listens on this port: stop it, or choose a \
             free port with --web.listen-address"
        }
        ErrorKind::PermissionDenied => {
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
        for text in [
            ":9100",
            "127.0.0.1:9100",
            "[::1]:9100",
            "localhost:0",
            "unix:/run/x.sock",
        ] {
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
            ("unix:", "'' is no absolute path"),
            ("unix:x.sock", "'x.sock' is no absolute path"),
            ("unix:/run/", "'/run/' is no absolute path"),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.starts_with(reason), "{text}: {error}");
            assert!(
                error.ends_with("host:9100 or unix:/run/x.sock"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_port_in_use_is_explained() {
        let first = bind(&[ListenAddress::Everywhere(0)]).unwrap();
        let [Listener::Tcp(first)] = &first[..] else {
            panic!("one address is one listener");
        };
        let port = first.local_addr().unwrap().port();
        let error = bind(&[ListenAddress::Everywhere(port)]).err().unwrap();
        let sentence = format!("{error:#}");
        assert!(sentence.starts_with(&format!("cannot listen on :{port}: ")));
        assert!(sentence.contains("choose a free port with --web.listen-address"));
    }
}
