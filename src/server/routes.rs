//! The paths, and what is answered on each.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::flight::Flights;
use super::{DEFAULT_LOOK, Server, negotiation};
use crate::command_line::Output;
use crate::metrics::{self, Format, Kept};
use crate::observation::Observation;
use crate::report::report;
use crate::status_page::{self, Links};

const ROOT: &str = "/";
pub const HEALTHY: &str = "/-/healthy";
pub const READY: &str = "/-/ready";
const RELOAD: &str = "/-/reload";

/// A body that is still on its way to somebody also goes to whoever asks so soon after its look
/// began: fifty clients at once need not hold fifty bodies.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// Room for a body, in bytes of address space: memory is only what is written to. From
/// 32 MiB on, glibc takes every block from the kernel and gives it back as soon as it is freed;
/// smaller ones stay in the heaps of the threads that made them.
const ROOM: usize = 33 * 1024 * 1024;

/// How long systemd waits at most, once the exporter listens, until it is told that the start is
/// over; the units are known in a fraction of a second where the bus is there.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A look that has not ended so long after its deadline never will.
const OVERDUE: Duration = Duration::from_secs(5);

const PLAIN: &str = "text/plain; charset=utf-8";

pub type Answer = Response<Full<Bytes>>;

/// What can be made of one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// For Prometheus.
    Metrics(Format),
    /// For a person.
    Page,
    /// What `check --output=json` prints.
    Report,
}

/// What bodies differ by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    content: Content,
    gzip: bool,
    /// Reloads before it: who asks after one gets what it put in force.
    reloads: u64,
}

/// A body that was made: its kind, and when its look began.
type Latest = (Kind, Instant, Weak<Body>);

/// Why there is no body.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// `--web.max-requests` answers are on their way already.
    TooMany,
    /// A panic, which is a bug; standard error tells where.
    Crashed,
}

/// Checks `--web.telemetry-path`: the path as it is given, or what is wrong with it.
pub fn telemetry_path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err("it must start with '/'".to_owned());
    }
    if path == ROOT || path.starts_with("/-/") {
        return Err("this path is taken; choose another, such as /metrics".to_owned());
    }
    if !path
        .bytes()
        .all(|b| b.is_ascii_graphic() && !br#"?#"<>\"#.contains(&b))
    {
        return Err("only a plain path can be served, without spaces, '?' or '#'".to_owned());
    }
    Ok(path.to_owned())
}

/// Answers requests.
pub struct Routes {
    server: Server,
    /// The page's Content-Security-Policy.
    policy: HeaderValue,
    /// Reloads that are under way or wait, by how many began before those who share it asked.
    reloads: Flights<u64, Result<String, String>>,
    /// Looks that are under way, for everyone who needs one.
    /// By the number of reloads before it.
    looks: Flights<u64, Arc<Observation>>,
    /// Looks and what is made of them, for everyone who asks for the same kind.
    bodies: Flights<Kind, Result<Arc<Body>, Refusal>>,
    /// The last body of each kind, not kept alive by this.
    latest: Arc<Mutex<Vec<Latest>>>,
    /// Texts of units for the next scrape.
    kept: Arc<Kept>,
    /// One for each body, from before its look until its last byte is out; `None` is no limit.
    places: Option<Arc<Semaphore>>,
}

impl Routes {
    /// Nothing is looked at until somebody asks.
    pub fn new(server: Server) -> Self {
        let limit = server.max_requests.min(Semaphore::MAX_PERMITS);
        // Whoever cannot say what is permitted permits nothing.
        let policy = HeaderValue::try_from(status_page::content_security_policy())
            .unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self {
            server,
            policy,
            reloads: Flights::default(),
            looks: Flights::default(),
            bodies: Flights::default(),
            places: (limit > 0).then(|| Arc::new(Semaphore::new(limit))),
            latest: Arc::default(),
            kept: Arc::default(),
        }
    }

    /// The answer to one request. Its body, if it has one, is not read.
    pub async fn answer<B>(&self, request: &Request<B>) -> Answer {
        let started = Instant::now();
        let path = request.uri().path();
        let mut answer = self.route(request.method(), path, request.headers()).await;
        debug!(
            method = %request.method(),
            path,
            status = answer.status().as_u16(),
            took_ms = started.elapsed().as_millis(),
            "answered"
        );
        if request.method() == Method::HEAD {
            // The headers tell the length of what a GET would bring.
            *answer.body_mut() = Full::default();
        }
        answer
    }

    async fn route(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        let server = &self.server;
        let telemetry_path = &server.links.telemetry_path;
        if path == RELOAD {
            return self.reload_asked_for(method).await;
        }
        if ![ROOT, HEALTHY, READY, telemetry_path].contains(&path) {
            let paths = format!("{ROOT}, {telemetry_path}, {HEALTHY} and {READY}");
            return sentence(
                StatusCode::NOT_FOUND,
                &format!("nothing is here; the paths are {paths}"),
            );
        }
        if ![Method::GET, Method::HEAD].contains(method) {
            let text = "this exporter is only read: use GET or HEAD";
            let answer = sentence(StatusCode::METHOD_NOT_ALLOWED, text);
            return with(answer, ALLOW, "GET, HEAD");
        }
        match path {
            ROOT if negotiation::json(headers) => self.made(Content::Report, headers).await,
            ROOT => self.made(Content::Page, headers).await,
            HEALTHY => sentence(StatusCode::OK, "healthy"),
            READY if server.host.is_ready() => sentence(StatusCode::OK, "ready"),
            READY => sentence(
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: the first full reading of the units is not in yet",
            ),
            _ => {
                let format = negotiation::format(headers);
                self.made(Content::Metrics(format), headers).await
            }
        }
    }

    /// As Prometheus has it: POST or PUT, and only where it is switched on.
    async fn reload_asked_for(&self, method: &Method) -> Answer {
        if ![Method::POST, Method::PUT].contains(method) {
            let text = "a reload is asked for by POST or PUT";
            let answer = sentence(StatusCode::METHOD_NOT_ALLOWED, text);
            return with(answer, ALLOW, "POST, PUT");
        }
        if !self.server.lifecycle {
            let text =
                "this is off: start the exporter with --web.enable-lifecycle, or send it SIGHUP";
            return sentence(StatusCode::FORBIDDEN, text);
        }
        match self.reload().await {
            Ok(summary) => sentence(StatusCode::OK, &format!("reloaded {summary}")),
            Err(mistakes) => sentence(StatusCode::INTERNAL_SERVER_ERROR, &mistakes),
        }
    }

    /// Reads the files again, to its end also where who asked for it hangs up; then tells systemd
    /// how the host stands. Whoever asks while a reload waits for the one before shares it.
    pub async fn reload(&self) -> Result<String, String> {
        let Server {
            reload, service, ..
        } = &self.server;
        let begun = reload.begun();
        let work = || {
            let reload = reload.clone();
            async move { reload.run().await }
        };
        let outcome = self.reloads.join(begun, Instant::now(), work).await;
        if service.is_heard() {
            tokio::spawn(self.look(Instant::now() + DEFAULT_LOOK));
        }
        outcome.unwrap_or_else(|| {
            // It did not come as far as this.
            service.ready();
            Err(
                "the reload crashed, which is a mistake in this exporter; its log tells where"
                    .to_owned(),
            )
        })
    }

    /// The answer that a look makes.
    async fn made(&self, content: Content, headers: &HeaderMap) -> Answer {
        let patience = negotiation::patience(headers);
        let kind = Kind {
            content,
            gzip: negotiation::gzip(headers),
            reloads: self.server.host.reloads(),
        };
        let deadline = Instant::now() + patience.look;
        let body = async {
            match self.shared(kind) {
                Some(body) => Some(Ok(body)),
                None => {
                    let work = || self.work(kind, deadline);
                    self.bodies.join(kind, deadline, work).await
                }
            }
        };
        let refused = match timeout(patience.answer, body).await {
            Ok(Some(Ok(body))) => {
                let content_type = match content {
                    Content::Metrics(Format::OpenMetrics) => {
                        "application/openmetrics-text; version=1.0.0; charset=utf-8"
                    }
                    Content::Metrics(Format::Text) => "text/plain; version=0.0.4; charset=utf-8",
                    Content::Page => "text/html; charset=utf-8",
                    Content::Report => "application/json",
                };
                let body = Bytes::from_owner(Shared(body));
                let mut answer = answer(StatusCode::OK, content_type, body);
                answer = with(answer, VARY, "Accept, Accept-Encoding");
                if !matches!(content, Content::Metrics(_)) {
                    answer = with(answer, CACHE_CONTROL, "no-store");
                }
                if content == Content::Page {
                    answer = with(answer, REFERRER_POLICY, "no-referrer");
                    let policy = self.policy.clone();
                    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
                }
                return if kind.gzip {
                    with(answer, CONTENT_ENCODING, "gzip")
                } else {
                    answer
                };
            }
            Ok(Some(Err(refusal))) => refusal,
            Ok(None) => Refusal::Crashed,
            Err(_) => {
                let waited = patience.answer.as_secs_f64();
                let text = format!("the look at the host took longer than {waited} s");
                let answer = sentence(StatusCode::SERVICE_UNAVAILABLE, &text);
                return with(answer, RETRY_AFTER, "1");
            }
        };
        match refused {
            Refusal::TooMany => {
                let text = "as many answers as --web.max-requests allows are on their way already";
                with(
                    sentence(StatusCode::SERVICE_UNAVAILABLE, text),
                    RETRY_AFTER,
                    "1",
                )
            }
            Refusal::Crashed => sentence(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the look at the host crashed, which is a mistake in this exporter; its log tells where",
            ),
        }
    }

    /// Looks at the host, or waits for the look that is under way, and tells systemd what was
    /// seen. `None` if the look panicked.
    fn look(&self, deadline: Instant) -> impl Future<Output = Option<Arc<Observation>>> + use<> {
        let looks = self.looks.clone();
        let (host, service) = (self.server.host.clone(), self.server.service.clone());
        let reloads = host.reloads();
        async move {
            let look = || async move {
                let observation = Arc::new(host.look(deadline).await);
                // What a reload overtook is no news.
                let is_news = observation.last_reload.number == host.reloads();
                if is_news && service.is_heard() {
                    let seen = observation.clone();
                    on_a_thread("status", move || service.saw(&seen)).await;
                }
                observation
            };
            looks.join(reloads, deadline, look).await
        }
    }

    /// Tells systemd that the start is over, and how the host stands: the one look that nobody
    /// else asked for, and only where somebody hears of it.
    pub async fn tell_start(&self) {
        let Server { host, service, .. } = &self.server;
        if !service.is_heard() {
            return;
        }
        // Where the units stay unknown, systemd must not take the start for a failed one.
        if timeout(READY_WITHIN, host.ready()).await.is_err() {
            warn!("the units are not known yet, the exporter serves what else there is");
        }
        service.ready();
        self.look(Instant::now() + DEFAULT_LOOK).await;
    }

    /// Feeds systemd's watchdog while the exporter does its work.
    pub async fn feed_watchdog(&self) {
        let Server { host, service, .. } = &self.server;
        let is_well = || {
            if !host.is_watched() {
                return Err("the task that follows systemd crashed");
            }
            let since = Instant::now().checked_sub(OVERDUE);
            if since.is_some_and(|since| self.looks.any_overdue(since)) {
                return Err("a look at the host does not come to its end");
            }
            Ok(())
        };
        service.feed_watchdog(is_well).await;
    }

    /// The latest body of this kind, if it is young and still on its way to somebody.
    fn shared(&self, kind: Kind) -> Option<Arc<Body>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, began, body) = latest.iter().find(|(key, ..)| *key == kind)?;
        (began.elapsed() < SHARED_FOR).then(|| body.upgrade())?
    }

    /// The work of one flight: look, encode, compress.
    fn work(
        &self,
        kind: Kind,
        deadline: Instant,
    ) -> impl Future<Output = Result<Arc<Body>, Refusal>> + use<> {
        let began = Instant::now();
        let place = self
            .places
            .as_ref()
            .map(|places| places.clone().try_acquire_owned());
        let look = self.look(deadline);
        let latest = self.latest.clone();
        let web = self.server.web.borrow().clone();
        let links = self.server.links.clone();
        let kept = self.kept.clone();
        async move {
            let place = place.transpose().map_err(|_| Refusal::TooMany)?;
            // A scraper that keeps its connection makes no handshake, which would look at them.
            let tls_files = async {
                match (&web.tls, kind.content) {
                    (Some(tls), Content::Metrics(_)) => Some(tls.refresh(deadline.into()).await),
                    _ => None,
                }
            };
            let (observation, tls_files) = tokio::join!(look, tls_files);
            let observation = observation.ok_or(Refusal::Crashed)?;
            let bytes = make(observation, kind, tls_files, links, kept).await?;
            let body = Arc::new(Body {
                bytes,
                _place: place,
            });
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.retain(|(key, _, body)| *key != kind && body.strong_count() > 0);
            latest.push((kind, began, Arc::downgrade(&body)));
            Ok(body)
        }
    }
}

/// One body; its place is free when the last who asked for it is served.
struct Body {
    bytes: Vec<u8>,
    _place: Option<OwnedSemaphorePermit>,
}

/// One answer's share of a body.
struct Shared(Arc<Body>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// Makes a body on a thread of its own: signals and other clients do not wait for it, and it does
/// not wait behind a name look-up that hangs in the runtime's few threads for blocking calls.
async fn make(
    observation: Arc<Observation>,
    kind: Kind,
    tls_files: Option<bool>,
    links: Arc<Links>,
    kept: Arc<Kept>,
) -> Result<Vec<u8>, Refusal> {
    let encode = move || {
        let text = match kind.content {
            Content::Metrics(format) => {
                metrics::encode(&observation, tls_files, &kept, format, ROOM)
            }
            Content::Page => status_page::page(&observation, &links, ROOM),
            Content::Report => report(&observation, Output::Json).0,
        };
        if kind.gzip {
            compress(text.as_bytes())
        } else {
            Ok(text.into_bytes())
        }
    };
    let encoded = on_a_thread("encode", encode).await;
    encoded.and_then(Result::ok).ok_or(Refusal::Crashed)
}

/// Does work that keeps a core busy for a while. `None` if it panicked.
async fn on_a_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Clone + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn({
        let work = work.clone();
        // Nobody receives it when the runtime has ended.
        move || drop(sender.send(work()))
    });
    match spawned {
        Ok(_) => receiver.await.ok(),
        // Out of threads: slower for others, but done.
        Err(_) => Some(work()),
    }
}

/// Level 1: a tenth of the text in a fifth of the time of the usual level.
fn compress(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(ROOM), Compression::new(1));
    encoder.write_all(text)?;
    encoder.finish()
}

/// An answer of one line.
pub fn sentence(status: StatusCode, text: &str) -> Answer {
    answer(status, PLAIN, Bytes::from(format!("{text}\n")))
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let length = body.len();
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    with(
        with(answer, CONTENT_TYPE, content_type),
        X_CONTENT_TYPE_OPTIONS,
        "nosniff",
    )
}

/// The answer with one more header.
pub fn with(mut answer: Answer, name: HeaderName, value: &'static str) -> Answer {
    answer
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telemetry_path_is_a_plain_path_that_is_not_taken() {
        for path in ["/metrics", "/a/b", "/metrics/"] {
            assert_eq!(telemetry_path(path).unwrap(), path);
        }
        for path in [
            "", "metrics", "/", "/-/ready", "/-/x", "/a b", "/a?b", "/\u{e9}", "/<",
        ] {
            telemetry_path(path).unwrap_err();
        }
    }

    #[tokio::test]
    async fn a_body_keeps_its_place_until_the_last_holder_is_served() {
        let places = Arc::new(Semaphore::new(1));
        let body = Arc::new(Body {
            bytes: vec![1],
            _place: Some(places.clone().try_acquire_owned().unwrap()),
        });
        let one = Bytes::from_owner(Shared(body.clone()));
        let other = Bytes::from_owner(Shared(body));
        assert_eq!(one.as_ptr(), other.as_ptr(), "no copy");
        drop(one);
        assert_eq!(places.available_permits(), 0);
        drop(other);
        assert_eq!(places.available_permits(), 1);
    }
}
