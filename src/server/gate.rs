//! What stands before the routes: passwords, the rate limit, and the headers of every answer.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Body;
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use tracing::debug;

use super::login::{Peer, Verdict};
use super::routes::{Answer, HEALTHY, READY, Routes, sentence, with};
use super::web_config::{Web, WebConfig};

/// The handshake of this connection was by other rules than those in force: it may be plain, or its
/// client unknown.
#[derive(Debug, thiserror::Error)]
#[error("the web configuration was read again since the handshake")]
pub struct Outdated;

/// Answers the requests of all connections.
pub struct Gate {
    /// The web configuration in use.
    pub web: Web,
    /// Whether `/-/healthy` and `/-/ready` are answered without a password.
    pub health_without_credentials: bool,
    /// Who answers those that may pass.
    pub routes: Arc<Routes>,
}

impl Gate {
    /// The answer to a request by `peer`, a connection that was made under `accepted_by`. Without
    /// one the connection is to be closed, which clients take for a reason to make another.
    pub async fn answer<B: Body>(
        &self,
        request: &Request<B>,
        peer: &Peer,
        accepted_by: &Arc<WebConfig>,
    ) -> Result<Answer, Outdated> {
        let web = self.web.borrow().clone();
        let has_tls = web.tls.is_some() || accepted_by.tls.is_some();
        if has_tls && !Arc::ptr_eq(&web, accepted_by) {
            return Err(Outdated);
        }
        let mut answer = match self.refusal(&web, request, peer).await {
            None => self.routes.answer(request).await,
            Some(mut refusal) => {
                let status = refusal.status().as_u16();
                let client = peer.client;
                debug!(%client, path = request.uri().path(), status, "refused");
                if request.method() == Method::HEAD {
                    // The headers tell the length of what a GET would bring.
                    *refusal.body_mut() = Default::default();
                }
                refusal
            }
        };
        for (name, value) in &web.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        // A body is never read. What follows it on the connection is not taken for a request
        // either, wherever the two ends may see its end.
        let has_body = !request.body().is_end_stream();
        if has_body || !Arc::ptr_eq(&self.web.borrow(), accepted_by) {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(CONNECTION, close);
        }
        Ok(answer)
    }

    /// Why a request is not passed on to the routes; `None` if it is.
    async fn refusal<B>(
        &self,
        web: &WebConfig,
        request: &Request<B>,
        peer: &Peer,
    ) -> Option<Answer> {
        let over_rate = || {
            let wait = web.spend().err()?;
            let text = "more requests than the rate limit of the web configuration allows";
            Some(later(StatusCode::TOO_MANY_REQUESTS, text, wait))
        };
        let Some(logins) = &web.logins else {
            return over_rate();
        };
        if self.health_without_credentials && [HEALTHY, READY].contains(&request.uri().path()) {
            return None;
        }
        match logins.judge(request.headers(), peer).await {
            // Not before: a stranger would use up what is for the scraper.
            Verdict::Welcome => over_rate(),
            Verdict::Refused => {
                let answer = sentence(
                    StatusCode::UNAUTHORIZED,
                    "a user's name and password are needed (basic_auth_users of the web \
                     configuration), and these are not right",
                );
                let challenge = "Basic realm=\"baseline-exporter\", charset=\"UTF-8\"";
                Some(with(answer, WWW_AUTHENTICATE, challenge))
            }
            Verdict::TooMany(wait) => {
                let text = "too many wrong passwords came from this address";
                Some(later(StatusCode::TOO_MANY_REQUESTS, text, wait))
            }
            Verdict::Busy => {
                let text =
                    "this password cannot be checked now: too many wait, or threads have run out";
                let second = Duration::from_secs(1);
                Some(later(StatusCode::SERVICE_UNAVAILABLE, text, second))
            }
        }
    }
}

/// A refusal of now that says when to come again.
fn later(status: StatusCode, text: &str, wait: Duration) -> Answer {
    let mut answer = sentence(status, text);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    answer
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    answer
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;
    use crate::baseline::Baseline;
    use crate::observation::Host;
    use crate::reload::{Files, Reload};
    use crate::server::Server;
    use crate::server::login::Client;
    use crate::service::Service;
    use crate::status_page::Links;

    fn gate(web: &Web) -> Gate {
        let host = Arc::new(Host::watch(Baseline::embedded()));
        let service = Arc::new(Service::from_environment().unwrap());
        let files = Files {
            baseline: None,
            web_config: None,
        };
        let reload = Reload::new(files, web.clone(), host.clone(), service.clone());
        let server = Server {
            host,
            service,
            reload: Arc::new(reload),
            lifecycle: false,
            links: Arc::new(Links {
                telemetry_path: "/metrics".to_owned(),
                runbook: String::new(),
            }),
            max_requests: 1,
            web: web.clone(),
            health_without_credentials: false,
        };
        Gate {
            web: web.clone(),
            health_without_credentials: false,
            routes: Arc::new(Routes::new(server)),
        }
    }

    fn healthy<B>(body: B) -> Request<B> {
        let request = Request::builder().uri(HEALTHY);
        request.body(body).unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_closed_once_another_configuration_is_in_use() {
        let web = Web::new(Arc::new(WebConfig::default()));
        let (gate, peer) = (gate(&web), Peer::new(Client::new(None)));
        let old = web.borrow().clone();
        let request = healthy(Empty::<Bytes>::new());
        let closes = |answer: &Answer| answer.headers().get(CONNECTION).is_some();

        assert!(!closes(&gate.answer(&request, &peer, &old).await.unwrap()));
        web.send_replace(Arc::new(WebConfig::default()));
        let answer = gate.answer(&request, &peer, &old).await.unwrap();
        assert!(answer.status().is_success() && closes(&answer));
        let new = web.borrow().clone();
        assert!(!closes(&gate.answer(&request, &peer, &new).await.unwrap()));
    }

    #[tokio::test]
    async fn a_connection_is_closed_after_a_request_with_a_body() {
        let web = Web::new(Arc::new(WebConfig::default()));
        let (gate, config) = (gate(&web), web.borrow().clone());
        let peer = Peer::new(Client::new(None));
        let request = healthy(Full::new(Bytes::from_static(b"body")));
        let answer = gate.answer(&request, &peer, &config).await.unwrap();
        assert!(answer.status().is_success());
        assert_eq!(answer.headers()[CONNECTION], "close");
    }
}
