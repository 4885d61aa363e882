//! The HTTP server: accepts connections within limits, and ends without cutting answers short.

mod connections;
mod flight;
mod listen;
mod negotiation;
mod routes;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener as StdListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use self::connections::{Connections, Progress, Socket};
pub use self::listen::{ListenAddress, bind};
pub use self::negotiation::DEFAULT_LOOK;
use self::routes::Routes;
pub use self::routes::telemetry_path;
use crate::observation::Host;
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
    /// Where things are: the path of the metrics, as [`telemetry_path`] let it pass.
    pub links: Arc<Links>,
    /// How many bodies may be in the making or on their way; 0 is no limit.
    pub max_requests: usize,
}

impl Server {
    /// Serves until SIGTERM or SIGINT, then lets answers finish. A second signal ends at once,
    /// with the status that a shell gives for it. Fails only before the first connection.
    pub async fn run(self, listeners: Vec<StdListener>) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::install()?;
        let listeners = listeners
            .into_iter()
            .map(TcpListener::from_std)
            .collect::<io::Result<Vec<_>>>()
            .context("watching the listening sockets")?;
        for listener in &listeners {
            let address = listener
                .local_addr()
                .context("reading a socket's address")?;
            info!(%address, "listening");
        }

        let routes = Arc::new(Routes::new(self));
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
                    Ok(stream) if connections.make_room() => {
                        let progress = Progress::new();
                        let socket = Socket::new(stream, progress.clone());
                        let connection = serve(socket, progress.clone(), routes.clone());
                        let connection = graceful.watch(connection);
                        connections.add(progress, async move {
                            if let Err(error) = connection.await {
                                debug!(%error, "connection ended");
                            }
                        });
                    }
                    Ok(stream) => refuse(&stream),
                    Err(error) if is_out_of_descriptors(&error) => {
                        connections.close_one();
                    }
                    Err(_) => {}
                },
            }
        };

        info!(signal = name, "stopping");
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

/// One connection, from its first request to its last.
fn serve(
    socket: Socket,
    progress: Progress,
    routes: Arc<Routes>,
) -> impl GracefulConnection<Error = hyper::Error> + Send {
    let service = service_fn(move |request: Request<Incoming>| {
        progress.working();
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.answer(&request).await) }
    });
    http1::Builder::new()
        // `Connections` knows when a head is late and when a kept connection is idle; hyper
        // has one time-out for both.
        .header_read_timeout(None)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS)
        // Who closes the sending side after the request still wants the answer.
        .half_close(true)
        .serve_connection(socket, service)
}

/// Says so to a connection that finds no room; whatever the kernel does not take at once is lost.
fn refuse(stream: &TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n\
        Retry-After: 1\r\nConnection: close\r\n\r\n\
        too many connections are open already\n";
    if let Err(error) = stream.try_write(answer) {
        debug!(%error, "refusing a connection");
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE]
        .into_iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Accepts from several listeners in turn, with a pause after each failure.
struct Acceptor {
    listeners: Vec<TcpListener>,
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
    fn new(listeners: Vec<TcpListener>) -> Self {
        Self {
            listeners,
            first: 0,
            failing: None,
        }
    }

    /// The next connection, or why there is none now. May be dropped while it waits.
    async fn accept(&mut self) -> io::Result<TcpStream> {
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
            Ok((stream, _)) => {
                if self.failing.take().is_some() {
                    info!("accepting connections again");
                }
                if let Err(error) = configure(&stream) {
                    debug!(%error, "configuring a connection");
                }
                Ok(stream)
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
