//! The HTTP server: accepts connections within limits, and ends without cutting answers short.

mod allowance;
mod connections;
mod flight;
mod gate;
mod listen;
mod login;
mod negotiation;
mod routes;
mod tls;
mod web_config;

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use rustix::io::Errno;
use rustix::net::{RecvFlags, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::either::Either;
use tracing::{debug, info, warn};

use self::connections::{Connections, Progress, Socket};
use self::gate::Gate;
use self::listen::SocketFile;
pub use self::listen::{ListenAddress, Listener, bind, inherit};
use self::login::{Client, Peer};
pub use self::negotiation::DEFAULT_LOOK;
use self::routes::Routes;
pub use self::routes::telemetry_path;
pub use self::web_config::{Web, WebConfig};
use crate::observation::Host;
use crate::reload::Reload;
use crate::service::Service;
use crate::status_page::Links;

/// How often connections are looked through for those that have had their time.
const SWEEP: Duration = Duration::from_secs(1);

/// How long answers that are on their way may take once the exporter is told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// A peer that acknowledges nothing for so long is gone; in milliseconds.
const PEER_GONE_MS: u32 = 30_000;

/// The head of a request: hyper answers 431 to what is longer, in bytes or in headers.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;

/// The pause after a failed accept: the shortest, doubled up to the longest.
const ACCEPT_PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What is served.
pub struct Server {
    /// The host that is looked at.
    pub host: Arc<Host>,
    /// Who is told how it goes.
    pub service: Arc<Service>,
    /// What SIGHUP does, and POST where it may.
    pub reload: Arc<Reload>,
    /// `--web.enable-lifecycle`: whether whoever can connect may ask for a reload.
    pub lifecycle: bool,
    /// Where things are: the path of the metrics, as [`telemetry_path`] let it pass.
    pub links: Arc<Links>,
    /// How many bodies may be in the making or on their way; 0 is no limit.
    pub max_requests: usize,
    /// TLS, passwords, headers and rate limit in use.
    pub web: Web,
    /// Whether `/-/healthy` and `/-/ready` are answered without a password.
    pub health_without_credentials: bool,
}

impl Server {
    /// Serves until SIGTERM or SIGINT, then lets answers finish. A second signal ends at once,
    /// with the status that a shell gives for it. Fails only before the first connection.
    pub async fn run(self, listeners: Vec<Listener>) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::install()?;
        let mut hangup = signal(SignalKind::hangup()).context("installing a signal handler")?;
        let listeners = listeners
            .into_iter()
            .map(Listening::new)
            .collect::<io::Result<Vec<_>>>()
            .context("watching the listening sockets")?;
        let web = self.web.clone();
        let summary = web.borrow().summary();
        for listener in &listeners {
            let address = listener.address().context("reading a socket's address")?;
            info!(web = summary, address, "listening");
        }

        let service = self.service.clone();
        let health_without_credentials = self.health_without_credentials;
        let routes = Arc::new(Routes::new(self));
        let told = routes.clone();
        tokio::spawn(async move { told.tell_start().await });
        let reloaded = routes.clone();
        tokio::spawn(async move {
            // Those that come during a reload are one more.
            while hangup.recv().await.is_some() {
                // Told to systemd and to the log.
                drop(reloaded.reload().await);
            }
        });
        let fed = routes.clone();
        tokio::spawn(async move { fed.feed_watchdog().await });
        let gate = Arc::new(Gate {
            web: web.clone(),
            health_without_credentials,
            routes,
        });
        let graceful = GracefulShutdown::new();
        let mut acceptor = Acceptor::new(listeners);
        let mut connections = Connections::default();
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);

        let (name, _) = loop {
            tokio::select! {
                signal = signals.next() => break signal,
                _ = sweep.tick(), if !connections.is_empty() => {
                    connections.close_overdue(Instant::now());
                }
                accepted = acceptor.accept() => match accepted {
                    Ok((stream, client)) if connections.make_room() => {
                        let progress = Progress::new();
                        let connection = Connection {
                            peer: Arc::new(Peer::new(client)),
                            progress: progress.clone(),
                            accepted_by: web.borrow().clone(),
                            gate: gate.clone(),
                        };
                        connections.add(progress, connection.serve(stream, graceful.watcher()));
                    }
                    // Who is to be told inside TLS would have to shake hands first.
                    Ok((stream, _)) if web.borrow().tls.is_none() => refuse(&stream),
                    Ok(_) => {}
                    Err(error) if is_out_of_descriptors(&error) => {
                        connections.close_one();
                    }
                    Err(_) => {}
                },
            }
        };

        info!(signal = name, "stopping");
        service.stopping();
        // From here on new connections are refused by the kernel.
        drop(acceptor);
        connections.close_unanswered();
        let drained = async {
            graceful.shutdown().await;
            connections.closed().await;
        };
        tokio::select! {
            drained = timeout(DRAIN, drained) => {
                match drained {
                    Ok(()) => info!("stopped"),
                    Err(_) => warn!("stopped with answers still on their way"),
                }
                Ok(ExitCode::SUCCESS)
            }
            (name, status) = signals.next() => {
                warn!(signal = name, "stopped at once");
                Ok(ExitCode::from(status))
            }
        }
    }
}

/// TCP or a unix socket.
type Stream = Either<TcpStream, UnixStream>;

/// One connection.
struct Connection {
    peer: Arc<Peer>,
    progress: Progress,
    /// The web configuration when it was accepted.
    accepted_by: Arc<WebConfig>,
    gate: Arc<Gate>,
}

impl Connection {
    /// From the handshake, where there is one, to the last answer.
    async fn serve(self, mut stream: Stream, watcher: Watcher) {
        let (client, accepted_by) = (self.peer.client, self.accepted_by.clone());
        let Some(tls) = &accepted_by.tls else {
            return self.converse(stream, watcher).await;
        };
        let served = async {
            if speaks_plain_http(&stream).await? {
                return turn_away(&mut stream).await;
            }
            let stream = tls.accept(stream).await?;
            self.converse(stream, watcher).await;
            Ok(())
        };
        if let Err(error) = served.await {
            debug!(%client, %error, "TLS handshake failed");
        }
    }

    /// From the first request to the last.
    async fn converse<S>(self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            peer,
            progress,
            accepted_by,
            gate,
        } = self;
        let socket = Socket::new(stream, progress.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            progress.working();
            let (gate, peer, accepted_by) = (gate.clone(), peer.clone(), accepted_by.clone());
            async move { gate.answer(&request, &peer, &accepted_by).await }
        });
        let connection = http1::Builder::new()
            // `Connections` knows when a head is late and when a kept connection is idle; hyper
            // has one time-out for both.
            .header_read_timeout(None)
            .max_buf_size(MOST_HEAD_BYTES)
            .max_headers(MOST_HEADERS)
            // Who closes the sending side after the request still wants the answer.
            .half_close(true)
            .serve_connection(socket, service);
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "connection ended");
        }
    }
}

/// Whether the client's first byte is a letter, as in `GET`; TLS begins with the byte 22.
async fn speaks_plain_http(stream: &Stream) -> io::Result<bool> {
    let mut first = [0];
    match stream {
        Either::Left(tcp) => tcp.peek(&mut first).await?,
        Either::Right(unix) => {
            unix.async_io(Interest::READABLE, || {
                let (read, _) = rustix::net::recv(unix, &mut first[..], RecvFlags::PEEK)?;
                Ok(read)
            })
            .await?
        }
    };
    Ok(first[0].is_ascii_alphabetic())
}

/// Says that this port speaks TLS, in plain HTTP.
async fn turn_away(stream: &mut Stream) -> io::Result<()> {
    let answer = b"HTTP/1.1 400 Bad Request\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 54\r\n\
        Connection: close\r\n\r\n\
        this port speaks TLS: use https:// instead of http://\n";
    stream.write_all(answer).await?;
    stream.shutdown().await?;
    // The kernel takes an answer back if there is anything unread when the socket is closed.
    tokio::io::copy(stream, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Says so to a connection that finds no room; whatever the kernel does not take at once is lost.
fn refuse(stream: &Stream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\
        Retry-After: 1\r\nConnection: close\r\n\r\n\
        too many connections are open already\n";
    let written = match stream {
        Either::Left(tcp) => tcp.try_write(answer),
        Either::Right(unix) => unix.try_write(answer),
    };
    if let Err(error) = written {
        debug!(%error, "refusing a connection");
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .into_iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A socket that is listened on, watched by the runtime.
enum Listening {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// Removed with the listener.
        _file: Option<SocketFile>,
    },
}

impl Listening {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(tcp) => Self::Tcp(TcpListener::from_std(tcp)?),
            Listener::Unix(unix, file) => Self::Unix {
                listener: UnixListener::from_std(unix)?,
                _file: file,
            },
        })
    }

    /// As in `--web.listen-address`.
    fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(tcp) => Ok(tcp.local_addr()?.to_string()),
            Self::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                // One of the abstract kind, which only systemd passes, has none.
                let path = address.as_pathname().unwrap_or_else(|| Path::new(""));
                Ok(format!("unix:{}", path.display()))
            }
        }
    }

    fn poll_accept(&self, cx: &mut TaskContext<'_>) -> Poll<io::Result<(Stream, Option<IpAddr>)>> {
        match self {
            Self::Tcp(tcp) => {
                let accepted = tcp.poll_accept(cx);
                accepted.map_ok(|(stream, from)| (Either::Left(stream), Some(from.ip())))
            }
            Self::Unix { listener, .. } => {
                let accepted = listener.poll_accept(cx);
                accepted.map_ok(|(stream, _)| (Either::Right(stream), None))
            }
        }
    }
}

/// Accepts from several listeners in turn, with a pause after each failure.
struct Acceptor {
    listeners: Vec<Listening>,
    /// Which one to ask first.
    first: usize,
    /// The last failure, and the pause after it; `None` after a success.
    failing: Option<Failing>,
}

struct Failing {
    sentence: String,
    pause: Duration,
    until: Instant,
}

impl Acceptor {
    fn new(listeners: Vec<Listening>) -> Self {
        Self {
            listeners,
            first: 0,
            failing: None,
        }
    }

    /// The next connection, or why there is none now. May be dropped while it waits.
    async fn accept(&mut self) -> io::Result<(Stream, Client)> {
        if let Some(failing) = &self.failing {
            sleep_until(failing.until.into()).await;
        }
        let accepted = poll_fn(|cx| {
            for step in 0..self.listeners.len() {
                let index = (self.first + step) % self.listeners.len();
                if let Poll::Ready(accepted) = self.listeners[index].poll_accept(cx) {
                    // Its neighbour is next, so that one crowded address does not starve it.
                    self.first = index + 1;
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await;
        match accepted {
            Ok((stream, from)) => {
                if self.failing.take().is_some() {
                    info!("accepting connections again");
                }
                if let Either::Left(tcp) = &stream
                    && let Err(error) = configure(tcp)
                {
                    debug!(%error, "configuring a connection");
                }
                Ok((stream, Client::new(from)))
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let (shortest, longest) = ACCEPT_PAUSES;
        let sentence = error.to_string();
        let pause = match &self.failing {
            Some(failing) if failing.sentence == sentence => (failing.pause * 2).min(longest),
            _ => {
                warn!(%error, "cannot accept connections");
                shortest
            }
        };
        self.failing = Some(Failing {
            sentence,
            pause,
            until: Instant::now() + pause,
        });
    }
}

/// An answer goes out at once, and not for ever.
fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_tcp_user_timeout(stream, PEER_GONE_MS)?;
    Ok(())
}

/// The two signals that end the exporter.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("installing a signal handler");
        Ok(Self {
            terminate: install(SignalKind::terminate())?,
            interrupt: install(SignalKind::interrupt())?,
        })
    }

    /// The next one: its name, and the status that a shell gives for it.
    async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 143),
            _ = self.interrupt.recv() => ("SIGINT", 130),
        }
    }
}
