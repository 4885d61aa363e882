//! Single flight: those who ask for the same thing while it is being made share it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

/// Work that is under way, by what it makes. Nothing is kept once it is made.
#[derive(Debug)]
pub struct Flights<K, V> {
    under_way: Arc<Mutex<Vec<Flight<K, V>>>>,
}

#[derive(Debug)]
struct Flight<K, V> {
    key: K,
    deadline: Instant,
    /// `None` until it lands.
    landing: watch::Receiver<Option<V>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            under_way: Arc::default(),
        }
    }
}

impl<K, V> Clone for Flights<K, V> {
    /// The same flights, for another task.
    fn clone(&self) -> Self {
        Self {
            under_way: self.under_way.clone(),
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: PartialEq + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Waits for the flight to `key` that is under way, or starts `work` as one.
    ///
    /// A flight that may take longer than `deadline` is not joined: another starts, so that
    /// the impatient get what can be had in their time. The work is a task of its own: it goes
    /// on when those who wait for it hang up. `None` if it panicked.
    pub async fn join<W>(&self, key: K, deadline: Instant, work: impl FnOnce() -> W) -> Option<V>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let joined = self.lock().iter().find_map(|flight| {
            // The channel of one that panicked is closed.
            let flies = flight.landing.has_changed().is_ok();
            (flight.key == key && flight.deadline <= deadline && flies)
                .then(|| flight.landing.clone())
        });
        let mut landing = joined.unwrap_or_else(|| self.start(key, deadline, work()));
        let landed = landing.wait_for(Option::is_some).await.ok()?;
        landed.clone()
    }

    /// True if the deadline of a flight passed before this moment and it has not landed.
    pub fn any_overdue(&self, moment: Instant) -> bool {
        let under_way = self.lock();
        under_way
            .iter()
            .any(|flight| flight.deadline < moment && flight.landing.has_changed().is_ok())
    }

    fn start<W>(&self, key: K, deadline: Instant, work: W) -> watch::Receiver<Option<V>>
    where
        W: Future<Output = V> + Send + 'static,
    {
        let (sender, landing) = watch::channel(None);
        let mut under_way = self.lock();
        under_way.retain(|flight| flight.landing.has_changed().is_ok());
        under_way.push(Flight {
            key,
            deadline,
            landing: landing.clone(),
        });
        drop(under_way);

        let flights = self.clone();
        let own = landing.clone();
        tokio::spawn(async move {
            let value = work.await;
            // Whoever asks from here on starts anew: what is made is never served again.
            flights
                .lock()
                .retain(|flight| !flight.landing.same_channel(&own));
            sender.send_replace(Some(value));
        });
        landing
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Flight<K, V>>> {
        // No code that can panic runs under this lock.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::Notify;

    use super::*;

    type Bodies = Flights<&'static str, Bytes>;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// A task that joins, and has run up to where it waits.
    async fn join(
        flights: &Arc<Bodies>,
        key: &'static str,
        deadline: Instant,
        starts: &Arc<AtomicUsize>,
        go: &Arc<Notify>,
    ) -> tokio::task::JoinHandle<Option<Bytes>> {
        let (flights, starts, go) = (flights.clone(), starts.clone(), go.clone());
        let task = tokio::spawn(async move {
            flights
                .join(key, deadline, || async move {
                    let number = starts.fetch_add(1, Ordering::SeqCst);
                    go.notified().await;
                    Bytes::from(format!("{key} {number}"))
                })
                .await
        });
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        task
    }

    #[tokio::test]
    async fn fifty_at_once_share_one_body_without_a_copy() {
        let (flights, starts, go) = <(Arc<Bodies>, Arc<AtomicUsize>, Arc<Notify>)>::default();
        let mut tasks = Vec::new();
        for _ in 0..50 {
            tasks.push(join(&flights, "text", soon(), &starts, &go).await);
        }
        // The deadlines of those who come later are later.
        assert_eq!(starts.load(Ordering::SeqCst), 1);
        go.notify_waiters();
        let mut bodies = Vec::new();
        for task in tasks {
            bodies.push(task.await.unwrap().unwrap());
        }
        assert!(
            bodies
                .iter()
                .all(|body| body.as_ptr() == bodies[0].as_ptr())
        );
        assert!(flights.lock().is_empty(), "nothing is kept");
    }

    #[tokio::test]
    async fn what_comes_after_the_landing_flies_anew() {
        let (flights, starts, go) = <(Arc<Bodies>, Arc<AtomicUsize>, Arc<Notify>)>::default();
        for expected in ["text 0", "text 1"] {
            let task = join(&flights, "text", soon(), &starts, &go).await;
            go.notify_waiters();
            assert_eq!(task.await.unwrap().unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn another_key_is_another_flight() {
        let (flights, starts, go) = <(Arc<Bodies>, Arc<AtomicUsize>, Arc<Notify>)>::default();
        let text = join(&flights, "text", soon(), &starts, &go).await;
        let gzip = join(&flights, "gzip", soon(), &starts, &go).await;
        go.notify_waiters();
        assert_eq!(text.await.unwrap().unwrap(), "text 0");
        assert_eq!(gzip.await.unwrap().unwrap(), "gzip 1");
    }

    #[tokio::test]
    async fn the_impatient_fly_alone_and_the_patient_join_them() {
        let (flights, starts, go) = <(Arc<Bodies>, Arc<AtomicUsize>, Arc<Notify>)>::default();
        let patient = join(&flights, "text", soon(), &starts, &go).await;
        let impatient_deadline = Instant::now() + Duration::from_secs(1);
        let impatient = join(&flights, "text", impatient_deadline, &starts, &go).await;
        let second = join(&flights, "text", impatient_deadline, &starts, &go).await;
        assert_eq!(starts.load(Ordering::SeqCst), 2);
        go.notify_waiters();
        assert_eq!(patient.await.unwrap().unwrap(), "text 0");
        assert_eq!(impatient.await.unwrap().unwrap(), "text 1");
        assert_eq!(second.await.unwrap().unwrap(), "text 1");
    }

    #[tokio::test]
    async fn a_hang_up_does_not_stop_the_flight() {
        let (flights, starts, go) = <(Arc<Bodies>, Arc<AtomicUsize>, Arc<Notify>)>::default();
        let first = join(&flights, "text", soon(), &starts, &go).await;
        let second = join(&flights, "text", soon(), &starts, &go).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        go.notify_waiters();
        assert_eq!(second.await.unwrap().unwrap(), "text 0");
    }

    #[tokio::test]
    async fn only_what_flies_is_overdue() {
        let (flights, starts, go) = <(Arc<Bodies>, Arc<AtomicUsize>, Arc<Notify>)>::default();
        let deadline = Instant::now();
        let (before, after) = (
            deadline - Duration::from_secs(1),
            deadline + Duration::from_secs(1),
        );
        assert!(!flights.any_overdue(after));
        let task = join(&flights, "text", deadline, &starts, &go).await;
        assert!(!flights.any_overdue(before));
        assert!(flights.any_overdue(after));
        go.notify_waiters();
        task.await.unwrap();
        assert!(!flights.any_overdue(after));

        let crash = flights.join("crash", deadline, || async { panic!("on purpose") });
        assert_eq!(crash.await, None);
        assert!(!flights.any_overdue(after));
    }

    #[tokio::test]
    async fn a_panic_is_told_and_not_joined() {
        let flights = Flights::<(), u8>::default();
        let crash = flights.join((), soon(), || async { panic!("on purpose") });
        assert_eq!(crash.await, None);
        assert_eq!(flights.join((), soon(), || async { 7 }).await, Some(7));
    }
}
