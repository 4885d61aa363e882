//! Basic authentication: who may read, by name and bcrypt hash, and how often a client may guess.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use ring::hmac;
use ring::rand::SystemRandom;
use tokio::sync::{Semaphore, oneshot};

use super::allowance::{Allowance, Rate};

/// Wrong passwords that one client may send at once, and the time after which it may send another.
const GUESSES: Rate = Rate {
    interval: Duration::from_secs(1),
    burst: 10,
};

/// Clients whose wrong passwords are remembered.
const MOST_CLIENTS: usize = 1024;

/// Passwords that are compared with a hash at once: each keeps a core busy for a tenth of a second
/// at cost 10.
const AT_ONCE: usize = 1;

/// Passwords that wait to be compared.
const MOST_WAITING: usize = 32;

/// Who connects: an address, for IPv6 its network of 64 bits; `None` on a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client(Option<IpAddr>);

impl Client {
    /// The client at `address`; `None` on a unix socket.
    pub fn new(address: Option<IpAddr>) -> Self {
        Self(address.map(|address| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            // Whoever has one address of such a network has them all.
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
        }))
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// One connection of a client.
pub struct Peer {
    /// Whose it is.
    pub client: Client,
    /// The keyed hash of the credentials that its last request brought, if they were right.
    proof: Mutex<Option<hmac::Tag>>,
}

impl Peer {
    /// A new connection of this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            proof: Mutex::default(),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Name and password are right.
    Welcome,
    /// They are not, or there are none.
    Refused,
    /// The client sent too many wrong ones; it may try again after this time.
    TooMany(Duration),
    /// Too many wait already, or there is no thread to compare this one.
    Busy,
}

/// Section `basic_auth_users`. Has no Debug: nothing of it is for a log.
pub struct Logins {
    users: Vec<User>,
    /// What the password of somebody unknown is compared with, to take as long as any other.
    nobody: String,
    /// Of this process alone.
    key: hmac::Key,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    guesses: Mutex<HashMap<Client, Allowance>>,
}

struct User {
    name: String,
    hash: String,
    /// The keyed hash of the credentials that were right; `None` until some were.
    known: Mutex<Option<hmac::Tag>>,
}

/// Checks the bcrypt hash of a password: its cost, or what is wrong with it. Never with its text.
pub fn cost(hash: &str) -> Result<u32, String> {
    let make = "make one with `htpasswd -nBC 10 \"\" | tr -d ':\\n'`";
    let version = hash.get(..4).unwrap_or_default();
    if !["$2a$", "$2b$", "$2y$"].contains(&version) || hash.len() != 60 {
        return Err(format!(
            "is no bcrypt hash, which has 60 characters and begins with $2a$, $2b$ or $2y$: {make}"
        ));
    }
    let parts = hash
        .parse::<bcrypt::HashParts>()
        .map_err(|error| format!("is no bcrypt hash ({error}): {make}"))?;
    match parts.get_cost() {
        cost @ 4..=16 => Ok(cost),
        cost => Err(format!(
            "has the cost {cost}: it must be from 4 to 16, each step takes twice as long, and a \
             scrape does not wait; {make}"
        )),
    }
}

impl Logins {
    /// Users with their hashes, at least one, each as [`cost`] lets it pass.
    pub fn new(users: Vec<(String, String)>) -> Result<Self, String> {
        let random = SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| "the kernel gives no random numbers".to_owned())?;
        let costs = users.iter().filter_map(|(_, hash)| cost(hash).ok());
        let dearest = costs.max().unwrap_or(bcrypt::DEFAULT_COST);
        Ok(Self {
            nobody: format!("$2b${dearest:02}${}", ".".repeat(53)),
            users: users
                .into_iter()
                .map(|(name, hash)| User {
                    name,
                    hash,
                    known: Mutex::default(),
                })
                .collect(),
            key,
            running: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(MOST_WAITING),
            guesses: Mutex::default(),
        })
    }

    /// How many users there are.
    pub fn count(&self) -> usize {
        self.users.len()
    }

    /// Judges the credentials of a request.
    pub async fn judge(&self, headers: &HeaderMap, peer: &Peer) -> Verdict {
        let Some(credentials) = credentials(headers) else {
            return Verdict::Refused;
        };
        // In constant time.
        let is = |tag: &hmac::Tag| hmac::verify(&self.key, &credentials, tag.as_ref()).is_ok();
        // What was right on this very connection is no guess, so that a scraper goes on while
        // somebody at its address guesses. Whoever shares it has one try: then it is forgotten.
        let proof = lock(&peer.proof).take().filter(is);
        if proof.is_some() {
            *lock(&peer.proof) = proof;
            return Verdict::Welcome;
        }
        // Before the password is looked at, and given back only if it is right: so many guesses
        // at once are no more than one after another.
        if let Err(wait) = self.spend(peer.client, Instant::now()) {
            return Verdict::TooMany(wait);
        }
        let Some((name, password)) = split(&credentials) else {
            return Verdict::Refused;
        };
        let user = self.users.iter().find(|user| user.name.as_bytes() == name);
        let known = user.and_then(|user| *lock(&user.known)).filter(is);
        if known.is_none() {
            let Ok(_waiting) = self.waiting.try_acquire() else {
                self.give_back(peer.client);
                return Verdict::Busy;
            };
            let hash = user.map_or(&self.nobody, |user| &user.hash);
            match self.compare(password.to_vec(), hash.clone()).await {
                Some(true) => {}
                Some(false) => return Verdict::Refused,
                None => {
                    self.give_back(peer.client);
                    return Verdict::Busy;
                }
            }
        }
        // Nobody's hash is no password's, but the name decides.
        let Some(user) = user else {
            return Verdict::Refused;
        };
        let tag = known.unwrap_or_else(|| hmac::sign(&self.key, &credentials));
        *lock(&user.known) = Some(tag);
        *lock(&peer.proof) = Some(tag);
        self.give_back(peer.client);
        Verdict::Welcome
    }

    /// Compares a password with a hash, on a thread apart: the runtime has only one, and its few
    /// for blocking calls may all wait for a name look-up that hangs. `None` where there is no
    /// thread to be had.
    async fn compare(&self, password: Vec<u8>, hash: String) -> Option<bool> {
        let turn = self.running.clone().acquire_owned().await.ok()?;
        let (sender, receiver) = oneshot::channel();
        let compare = move || {
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false);
            // Also for those who hang up: the next one begins when this one has ended.
            drop(turn);
            // Nobody receives it when they did.
            sender.send(is_right).unwrap_or_default();
        };
        let thread = thread::Builder::new().name("bcrypt".to_owned());
        thread.spawn(compare).ok()?;
        receiver.await.ok()
    }

    fn spend(&self, client: Client, now: Instant) -> Result<(), Duration> {
        let mut guesses = lock(&self.guesses);
        if !guesses.contains_key(&client) && guesses.len() >= MOST_CLIENTS {
            guesses.retain(|_, spent| spent.whole_at().is_some_and(|at| at > now));
            // All of them guess: the one is forgotten that would be soonest.
            let soonest = guesses.iter().min_by_key(|(_, spent)| spent.whole_at());
            if let Some(soonest) = soonest.map(|(client, _)| *client)
                && guesses.len() >= MOST_CLIENTS
            {
                guesses.remove(&soonest);
            }
        }
        guesses.entry(client).or_default().spend(GUESSES, now)
    }

    fn give_back(&self, client: Client) {
        if let Some(spent) = lock(&self.guesses).get_mut(&client) {
            spent.give_back(GUESSES);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // No code that can panic runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the one `Authorization: Basic` header says, `NAME:PASSWORD`; `None` if it is not there,
/// not alone, or no such thing.
fn credentials(headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (all.next(), all.next()) else {
        return None;
    };
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    BASE64_STANDARD.decode(encoded.trim()).ok()
}

/// Name and password.
fn split(credentials: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = credentials.iter().position(|byte| *byte == b':')?;
    let (name, rest) = credentials.split_at_checked(colon)?;
    Some((name, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    /// Of "secret", at the lowest cost: these tests are not about time.
    fn logins() -> Logins {
        let hash = bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap();
        let hash = hash.format_for_version(bcrypt::Version::TwoY);
        Logins::new(vec![("alice".to_owned(), hash)]).unwrap()
    }

    fn header(text: &str) -> HeaderMap {
        let value = format!("Basic {}", BASE64_STANDARD.encode(text));
        let value = HeaderValue::from_str(&value).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    fn client(address: &str) -> Client {
        Client::new(Some(address.parse().unwrap()))
    }

    /// On a new connection.
    async fn judge(logins: &Logins, credentials: &str, client: Client) -> Verdict {
        logins.judge(&header(credentials), &Peer::new(client)).await
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_welcome() {
        let logins = logins();
        for (text, verdict) in [
            ("alice:secret", Verdict::Welcome),
            ("alice:secret", Verdict::Welcome),
            ("alice:wrong", Verdict::Refused),
            ("alice:", Verdict::Refused),
            ("bob:secret", Verdict::Refused),
            (":secret", Verdict::Refused),
            ("alice", Verdict::Refused),
            ("", Verdict::Refused),
        ] {
            let judged = judge(&logins, text, client("192.0.2.1")).await;
            assert_eq!(judged, verdict, "{text}");
        }
        let peer = Peer::new(client("192.0.2.1"));
        let judged = logins.judge(&HeaderMap::new(), &peer).await;
        assert_eq!(judged, Verdict::Refused);
        let mut two = header("alice:secret");
        two.append(AUTHORIZATION, HeaderValue::from_static("Basic eDp5"));
        let judged = logins.judge(&two, &peer).await;
        assert_eq!(judged, Verdict::Refused);
    }

    #[tokio::test]
    async fn who_guesses_has_to_wait_and_others_have_not() {
        let logins = logins();
        let (bad, good) = (client("192.0.2.1"), client("192.0.2.2"));
        let proved = Peer::new(bad);
        let right = header("alice:secret");
        assert_eq!(logins.judge(&right, &proved).await, Verdict::Welcome);
        let mut refused = 0;
        let wait = loop {
            match judge(&logins, "alice:wrong", bad).await {
                Verdict::Refused => refused += 1,
                Verdict::TooMany(wait) => break wait,
                other => panic!("{other:?}"),
            }
        };
        assert!(refused >= GUESSES.burst);
        assert!(wait <= GUESSES.interval);
        // However long the rest of this test takes.
        let later = Instant::now() + Duration::from_secs(600);
        while logins.spend(bad, later).is_ok() {}
        // Even the right password has to wait: else it could be told from wrong ones.
        let judged = judge(&logins, "alice:secret", bad).await;
        assert!(matches!(judged, Verdict::TooMany(_)), "{judged:?}");
        for _ in 0..100 {
            let judged = judge(&logins, "alice:secret", good).await;
            assert_eq!(judged, Verdict::Welcome);
        }
        // But not where it was right before, until something else is tried there.
        for _ in 0..100 {
            assert_eq!(logins.judge(&right, &proved).await, Verdict::Welcome);
        }
        for credentials in ["alice:wrong", "alice:secret"] {
            let judged = logins.judge(&header(credentials), &proved).await;
            assert!(matches!(judged, Verdict::TooMany(_)), "{judged:?}");
        }
        // As if the wait were over.
        lock(&logins.guesses).clear();
        let judged = judge(&logins, "alice:secret", bad).await;
        assert_eq!(judged, Verdict::Welcome);
    }

    #[tokio::test]
    async fn what_cannot_be_compared_is_no_guess() {
        let logins = logins();
        // As where no thread can be made.
        logins.running.close();
        for _ in 0..GUESSES.burst * 2 {
            let judged = judge(&logins, "alice:secret", client("192.0.2.1")).await;
            assert_eq!(judged, Verdict::Busy);
        }
    }

    #[test]
    fn the_memory_of_guesses_is_bounded_and_keeps_the_worst() {
        let logins = logins();
        let now = Instant::now();
        let worst = client("203.0.113.1");
        for _ in 0..GUESSES.burst {
            logins.spend(worst, now).unwrap();
        }
        for number in 0..5_000_u16 {
            let [high, low] = number.to_be_bytes();
            let address = IpAddr::from([10, 0, high, low]);
            logins.spend(Client::new(Some(address)), now).unwrap();
        }
        assert_eq!(lock(&logins.guesses).len(), MOST_CLIENTS);
        logins.spend(worst, now).unwrap_err();
    }

    #[test]
    fn clients_are_told_apart_by_address_and_network() {
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("::ffff:192.0.2.2"), client("192.0.2.1"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:0:2"));
        assert_ne!(client("2001:db8:0:1::1"), client("2001:db8::1"));
        assert_ne!(Client::new(None), client("192.0.2.1"));
    }

    #[test]
    fn somebody_unknown_costs_as_much_as_the_dearest_user() {
        assert_eq!(cost(&logins().nobody), Ok(4));
        // Compared in full, not refused at first sight.
        assert_eq!(bcrypt::verify("secret", &logins().nobody).ok(), Some(false));
    }

    #[test]
    fn what_is_no_hash_is_refused_without_being_shown() {
        let rest = "bYsZFkXW3FO7IlXVhhHKSO9OpVHJoXd3GXUGs4nV4dN7sDkc5bQ4u";
        for (text, part) in [
            ("hunter2", "is no bcrypt hash"),
            ("", "is no bcrypt hash"),
            (&format!("$2x$10${rest}"), "is no bcrypt hash"),
            (&format!("$2y$17${rest}"), "has the cost 17"),
            (&format!("$2y$03${rest}"), "has the cost 3"),
            (&format!("$2y$10${}", "!".repeat(53)), "is no bcrypt hash ("),
        ] {
            let error = cost(text).unwrap_err();
            assert!(error.starts_with(part), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
