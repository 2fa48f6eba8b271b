//! Background jobs under one supervisor. Each job has a name and runs until it is stopped. The
//! supervisor stops the jobs in a fixed order, and reports a job that ends by itself.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

/// Time limit for stopping all jobs. The service first drains its requests. After it has stopped
/// the jobs, it closes its connections to the database. In total, this takes less than 90 s, which
/// is the stop timeout of the systemd unit in the book.
const STOP_TIMEOUT: Duration = Duration::from_secs(25);

/// Time limit for stopping a job after the others have used up [`STOP_TIMEOUT`].
const LEAST_STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A future that becomes ready when a job has to stop.
pub type Stop = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The jobs of one service.
pub struct Jobs {
    /// The jobs in the order of their start.
    running: Vec<Job>,
    ended: watch::Sender<Option<&'static str>>,
    stop_timeout: Duration,
}

struct Job {
    name: &'static str,
    /// The sender whose drop stops the job.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Reports a job that ends or panics before it is stopped.
struct Watched {
    name: &'static str,
    told: bool,
    ended: watch::Sender<Option<&'static str>>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { running: Vec::new(), ended: watch::Sender::new(None), stop_timeout: STOP_TIMEOUT }
    }
}

impl Jobs {
    /// Starts a job. `run` gets a future that becomes ready when the job has to stop, and must
    /// return soon after that. Until it returns, it may rely on the jobs that were started earlier.
    pub fn start<F>(&mut self, name: &'static str, run: impl FnOnce(Stop) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, was_told) = oneshot::channel::<()>();
        let job = run(Box::pin(async move {
            // The future becomes ready when the sender is dropped.
            let _ = stopped.await;
            // An error means that the job has already ended.
            let _ = told.send(());
        }));
        let watched = Watched { name, told: false, ended: self.ended.clone() };
        let task = tokio::spawn(async move {
            let (mut watched, mut was_told) = (watched, was_told);
            job.await;
            watched.told = was_told.try_recv().is_ok();
        });
        self.running.push(Job { name, stop, task });
    }

    /// Becomes ready with the name of a job that has ended by itself. No job should end by itself.
    pub fn one_ended(&self) -> impl Future<Output = &'static str> + Send + 'static {
        let mut ended = self.ended.subscribe();
        async move {
            loop {
                if let Some(name) = *ended.borrow_and_update() {
                    return name;
                }
                if ended.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Stops all jobs one by one, in the reverse order of their start. Returns the names of the
    /// jobs that panicked or did not stop in time.
    pub async fn stop(mut self) -> Vec<&'static str> {
        let deadline = Instant::now() + self.stop_timeout;
        let mut broken = Vec::new();
        while let Some(Job { name, stop, mut task }) = self.running.pop() {
            drop(stop);
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left.max(LEAST_STOP_TIMEOUT), &mut task).await {
                Ok(Ok(())) => debug!(job = name, "background job stopped"),
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(job = name, error, "background job panicked");
                    broken.push(name);
                }
                Err(_) => {
                    task.abort();
                    warn!(job = name, "background job did not stop in time and was aborted");
                    broken.push(name);
                }
            }
        }
        broken
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.told {
            self.ended.send_replace(Some(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn jobs_stop_one_by_one_in_reverse_order_of_their_start() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut jobs = Jobs::default();
        for name in ["first", "second", "third"] {
            let order = Arc::clone(&order);
            jobs.start(name, move |stop| async move {
                stop.await;
                tokio::task::yield_now().await;
                order.lock().expect("no panic").push(name);
            });
        }
        let ended = jobs.one_ended();
        assert!(jobs.stop().await.is_empty());
        assert_eq!(*order.lock().expect("no panic"), ["third", "second", "first"]);
        let reported = timeout(Duration::from_millis(1), ended).await;
        assert!(reported.is_err(), "a job that was asked to stop was reported: {reported:?}");
    }

    #[tokio::test]
    async fn a_job_that_returns_or_panics_by_itself_is_reported() {
        let mut jobs = Jobs::default();
        jobs.start("steady", |stop| stop);
        jobs.start("returns", |_| async {});
        assert_eq!(jobs.one_ended().await, "returns");
        assert!(jobs.stop().await.is_empty());

        let mut jobs = Jobs::default();
        jobs.start("panics", |_| async { panic!("a fault in a job") });
        assert_eq!(jobs.one_ended().await, "panics");
        assert_eq!(jobs.stop().await, ["panics"]);
    }

    #[tokio::test]
    async fn job_that_does_not_stop_is_aborted_and_the_others_still_stop() {
        let (stopped, was_stopped) = oneshot::channel();
        let mut jobs = Jobs { stop_timeout: Duration::from_millis(10), ..Jobs::default() };
        jobs.start("orderly", |stop| async move {
            stop.await;
            let _ = stopped.send(());
        });
        jobs.start("stubborn", |_| std::future::pending());
        assert_eq!(jobs.stop().await, ["stubborn"]);
        assert_eq!(was_stopped.await, Ok(()));
    }
}
