//! What every probe shares: work that may block for ever, on threads that do not pile up.

pub mod hostname;
pub mod redis;
pub mod unit_files;
pub mod write_path;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How long one target may take.
pub const TARGET_TIMEOUT: Duration = Duration::from_secs(2);

/// A thread that has not finished its piece of work by then gets another one beside it for the rest.
const PATIENCE: Duration = Duration::from_millis(20);

/// Does work that may block for ever, such as a look at a dead network file system.
///
/// One thread does piece after piece. Whichever piece keeps it waiting keeps only that thread: the
/// rest is taken over by another. Work on a target whose last piece has not come back yet waits for
/// it, so that there is never more than one blocked thread per target.
#[derive(Debug, Clone, Default)]
pub struct Workers {
    busy: Arc<Mutex<HashSet<String>>>,
    /// Tells whenever a target is free again.
    freed: Arc<watch::Sender<()>>,
}

/// One piece of work.
pub struct Work<T> {
    /// What it is about: no two pieces about one target at the same time.
    target: String,
    work: Box<dyn FnOnce() -> T + Send>,
}

impl<T> Work<T> {
    /// `target` is any text that names what may block.
    pub fn new(target: impl Into<String>, work: impl FnOnce() -> T + Send + 'static) -> Self {
        Self {
            target: target.into(),
            work: Box::new(work),
        }
    }
}

impl<T> fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Work").field(&self.target).finish()
    }
}

/// Pieces that nobody has started on, with their places in the result.
type Queue<T> = Arc<Mutex<VecDeque<(usize, Work<T>)>>>;

impl Workers {
    /// The results in the order of `pieces`; `None` for what did not come by `deadline`, what
    /// still hangs from an earlier time, and what panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        pieces: Vec<Work<T>>,
        deadline: Instant,
    ) -> Vec<Option<T>> {
        let mut results: Vec<Option<T>> = pieces.iter().map(|_| None).collect();
        let mut missing = pieces.len();
        let mut waiting: Vec<_> = pieces.into_iter().enumerate().collect();
        let queue: Queue<T> = Arc::default();
        let (done, mut finished) = mpsc::unbounded_channel();
        let mut freed = self.freed.subscribe();
        let mut idle = true;
        while missing > 0 {
            let (free, busy): (Vec<_>, Vec<_>) = {
                let mut busy = lock(&self.busy);
                waiting
                    .into_iter()
                    .partition(|(_, piece)| busy.insert(piece.target.clone()))
            };
            waiting = busy;
            lock(&queue).extend(free);
            let left = !lock(&queue).is_empty();
            // The first thread, and another one each time that nothing comes for a while.
            if left && idle && !self.start(&queue, &done) {
                break;
            }
            let until = if left {
                deadline.min(Instant::now() + PATIENCE)
            } else {
                deadline
            };
            tokio::select! {
                result = finished.recv() => {
                    idle = false;
                    if let Some((place, result)) = result {
                        missing -= 1;
                        if let Some(slot) = results.get_mut(place) {
                            *slot = result;
                        }
                    }
                }
                // The threads may have ended by now.
                _ = freed.changed(), if !waiting.is_empty() => idle = true,
                () = sleep_until(until) => {
                    idle = true;
                    if Instant::now() >= deadline {
                        break;
                    }
                }
            }
        }
        // What nobody began is not begun any more.
        let mut busy = lock(&self.busy);
        for (_, piece) in lock(&queue).drain(..) {
            busy.remove(&piece.target);
        }
        drop(busy);
        self.freed.send_replace(());
        results
    }

    /// One piece alone.
    pub async fn run_one<T: Send + 'static>(
        &self,
        target: &str,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.run(vec![Work::new(target, work)], deadline)
            .await
            .pop()?
    }

    /// Starts one more thread; false if the kernel does not give one.
    fn start<T: Send + 'static>(
        &self,
        queue: &Queue<T>,
        done: &mpsc::UnboundedSender<(usize, Option<T>)>,
    ) -> bool {
        let (queue, done) = (queue.clone(), done.clone());
        let Self { busy, freed } = self.clone();
        let work = move || {
            while let Some((place, piece)) = { lock(&queue).pop_front() } {
                let result = catch_unwind(AssertUnwindSafe(piece.work)).ok();
                lock(&busy).remove(&piece.target);
                freed.send_replace(());
                // Nobody waits any more where the deadline has passed.
                if done.send((place, result)).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("probe".to_owned())
            .spawn(work)
            .is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// Work that blocks until the sender is dropped, and says when it was begun.
    fn blocked(target: &str, begun: &Sender<()>) -> (Sender<()>, Work<&'static str>) {
        let (release, wait) = channel::<()>();
        let begun = begun.clone();
        let work = Work::new(target, move || {
            begun.send(()).unwrap();
            wait.recv().unwrap_err();
            "late"
        });
        (release, work)
    }

    #[tokio::test]
    async fn results_come_in_the_order_of_the_work() {
        let pieces = (0..100)
            .map(|n| Work::new(n.to_string(), move || n))
            .collect();
        let results = Workers::default().run(pieces, soon()).await;
        assert_eq!(results, (0..100).map(Some).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_blocked_target_does_not_delay_the_others_and_is_not_tried_again() {
        let workers = Workers::default();
        let (begun, begins) = channel();
        let (release, hangs) = blocked("hangs", &begun);
        let others = || ["a", "b"].map(|name| Work::new(name, move || name));
        let mut pieces = vec![hangs];
        pieces.extend(others());
        let deadline = Instant::now() + Duration::from_millis(300);
        let results = workers.run(pieces, deadline).await;
        assert_eq!(results, [None, Some("a"), Some("b")]);
        begins.recv().unwrap();

        for _ in 0..3 {
            let (_again, hangs) = blocked("hangs", &begun);
            let mut pieces = vec![hangs];
            pieces.extend(others());
            let deadline = Instant::now() + Duration::from_millis(100);
            let results = workers.run(pieces, deadline).await;
            assert_eq!(results, [None, Some("a"), Some("b")]);
        }
        assert!(
            begins.try_recv().is_err(),
            "no second thread was given to it"
        );

        let waits = workers.run_one("hangs", soon(), || "back");
        let (back, ()) = tokio::join!(waits, async { drop(release) });
        assert_eq!(back, Some("back"));
    }

    #[tokio::test]
    async fn looks_at_one_target_at_the_same_time_all_get_their_answer() {
        let workers = Workers::default();
        let look = |n| workers.run_one("one", soon(), move || n);
        let results = tokio::join!(look(1), look(2), look(3));
        assert_eq!(results, (Some(1), Some(2), Some(3)));
    }

    #[tokio::test]
    async fn work_that_panics_gives_no_result_and_harms_nobody() {
        let workers = Workers::default();
        let pieces = vec![
            Work::new("a", || panic!("on purpose")),
            Work::new("b", || 2),
        ];
        assert_eq!(workers.run(pieces, soon()).await, [None, Some(2)]);
        assert_eq!(workers.run_one("a", soon(), || 1).await, Some(1));
    }

    #[tokio::test]
    async fn what_was_not_begun_by_the_deadline_is_free_again() {
        let workers = Workers::default();
        // Whether it is still begun depends on the clock; that it can be tried again does not.
        workers.run_one("a", Instant::now(), || 1).await;
        assert_eq!(workers.run_one("a", soon(), || 2).await, Some(2));
    }
}
