//! The open connections: how far each one is, which has had its time, which must make room.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{AbortHandle, JoinSet};

/// Connections that are open at once. Prometheus needs one; the rest is room for mistakes.
const MOST: usize = 512;

/// From the connection, or from the first byte on a kept one, to the end of the request's head.
const ASKING: Duration = Duration::from_secs(10);

/// From the first byte of an answer to its last.
const SENDING: Duration = Duration::from_secs(60);

/// Between two requests: above the scrape intervals that are in use.
const IDLE: Duration = Duration::from_secs(150);

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has not sent a whole request yet; the TLS handshake is part of that.
    Asking,
    /// Its answer is in the making; the answer has its own time limit.
    Working,
    /// Its answer is on the way.
    Sending,
    /// It is kept for the next request.
    Idle,
}

/// The phase of one connection and since when: told by its socket, read by [`Connections`].
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<(Phase, Instant)>>);

impl Progress {
    /// A connection that was just accepted.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new((Phase::Asking, Instant::now()))))
    }

    /// The whole request is in.
    pub fn working(&self) {
        self.set(Phase::Working, Instant::now());
    }

    fn get(&self) -> (Phase, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase, since: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (phase, since);
    }

    /// Goes on to `next`, unless it is in none of these phases.
    fn advance(&self, from: &[Phase], next: Phase) {
        if from.contains(&self.get().0) {
            self.set(next, Instant::now());
        }
    }

    fn is_overdue(&self, now: Instant) -> bool {
        let (phase, since) = self.get();
        let limit = match phase {
            Phase::Asking => ASKING,
            Phase::Working => return false,
            Phase::Sending => SENDING,
            Phase::Idle => IDLE,
        };
        now.saturating_duration_since(since) > limit
    }
}

/// A socket, or TLS over one, that tells its connection's progress.
pub struct Socket<S> {
    inner: TokioIo<S>,
    progress: Progress,
}

impl<S> Socket<S> {
    /// Wraps `stream` for hyper.
    pub fn new(stream: S, progress: Progress) -> Self {
        Self {
            inner: TokioIo::new(stream),
            progress,
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.progress.advance(&[Phase::Idle], Phase::Asking);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Write for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // hyper itself answers what is no HTTP, so that Asking may be the phase before.
        self.progress
            .advance(&[Phase::Asking, Phase::Working], Phase::Sending);
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.progress
            .advance(&[Phase::Asking, Phase::Working], Phase::Sending);
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once nothing is left to write.
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.progress.advance(&[Phase::Sending], Phase::Idle);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Every open connection, each served by a task of its own.
#[derive(Default)]
pub struct Connections {
    tasks: JoinSet<()>,
    open: Vec<Open>,
}

struct Open {
    progress: Progress,
    task: AbortHandle,
}

impl Connections {
    /// Makes sure that one more may be opened. False if all of them are being answered.
    pub fn make_room(&mut self) -> bool {
        self.forget_closed();
        self.open.len() < MOST || self.close_one()
    }

    /// Closes the one that is missed least: who has not said anything yet goes before who
    /// waits for the next scrape, the oldest first. False if all are being answered.
    pub fn close_one(&mut self) -> bool {
        let oldest = |wanted: Phase| {
            self.open
                .iter()
                .enumerate()
                .map(|(index, open)| (open.progress.get(), index))
                .filter(|((phase, _), _)| *phase == wanted)
                .min_by_key(|((_, since), _)| *since)
        };
        let found = oldest(Phase::Asking).or_else(|| oldest(Phase::Idle));
        if let Some((_, index)) = found {
            self.open.swap_remove(index).task.abort();
        }
        found.is_some()
    }

    /// Serves one more.
    pub fn add(&mut self, progress: Progress, serve: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(serve);
        self.open.push(Open { progress, task });
    }

    /// Closes those that have had their time.
    pub fn close_overdue(&mut self, now: Instant) {
        self.forget_closed();
        for open in &self.open {
            if open.progress.is_overdue(now) {
                open.task.abort();
            }
        }
    }

    /// Closes those that wait for nothing of ours.
    pub fn close_unanswered(&mut self) {
        while self.close_one() {}
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits until the last one is closed.
    pub async fn closed(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    fn forget_closed(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.open.retain(|open| !open.task.is_finished());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections in these phases, entered one second after another.
    fn connections(phases: &[Phase]) -> Connections {
        let mut connections = Connections::default();
        let mut since = Instant::now();
        for phase in phases {
            let progress = Progress::new();
            progress.set(*phase, since);
            connections.add(progress, std::future::pending());
            since += Duration::from_secs(1);
        }
        connections
    }

    fn phases(connections: &Connections) -> Vec<Phase> {
        let open = connections.open.iter();
        open.map(|open| open.progress.get().0).collect()
    }

    #[tokio::test]
    async fn the_silent_make_room_first_then_the_idle_and_the_answered_never() {
        let mut connections = connections(&[
            Phase::Idle,
            Phase::Working,
            Phase::Asking,
            Phase::Sending,
            Phase::Asking,
        ]);
        for left in [4, 3, 2] {
            assert!(connections.close_one());
            assert_eq!(phases(&connections).len(), left);
            let idle_left = phases(&connections).contains(&Phase::Idle);
            assert_eq!(idle_left, left > 2, "idle goes last");
        }
        assert!(!connections.close_one());
        let mut left = phases(&connections);
        left.sort_by_key(|phase| *phase == Phase::Sending);
        assert_eq!(left, [Phase::Working, Phase::Sending]);
    }

    #[tokio::test]
    async fn there_is_room_for_as_many_as_the_limit_and_the_newest_stays() {
        let mut connections = connections(&[Phase::Asking; MOST]);
        let newest = connections.open[MOST - 1].progress.clone();
        assert!(connections.make_room());
        assert_eq!(connections.open.len(), MOST - 1);
        let stays = |open: &Open| Arc::ptr_eq(&open.progress.0, &newest.0);
        assert!(connections.open.iter().any(stays));
        assert!(connections.make_room());
        assert_eq!(connections.open.len(), MOST - 1, "room there is");
    }

    #[tokio::test]
    async fn there_is_no_room_when_all_are_being_answered() {
        assert!(!connections(&[Phase::Working; MOST]).make_room());
    }

    #[tokio::test]
    async fn each_phase_has_its_time() {
        let start = Instant::now();
        for (phase, limit) in [
            (Phase::Asking, Some(ASKING)),
            (Phase::Working, None),
            (Phase::Sending, Some(SENDING)),
            (Phase::Idle, Some(IDLE)),
        ] {
            let progress = Progress::new();
            progress.set(phase, start);
            let moment = Duration::from_millis(1);
            let overdue_at = |after| progress.is_overdue(start + after);
            match limit {
                Some(limit) => {
                    assert!(!overdue_at(limit), "{phase:?}");
                    assert!(overdue_at(limit + moment), "{phase:?}");
                }
                None => assert!(!overdue_at(Duration::from_secs(3600))),
            }
        }
    }
}
