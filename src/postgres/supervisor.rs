//! The thread that starts the server, waits until it exits, and restarts it after a crash.
//!
//! The kernel stops the server when the *thread* that forked it ends. So one thread forks every
//! server process, and runs until the server is stopped on purpose.

use std::{
    error::Error as _,
    fs::File,
    process::{Child, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use super::{
    cluster::Cluster,
    error::{StartError, StopError},
    postmaster,
    timing::{POLL_INTERVAL, START_TIMEOUT},
};

/// Time limit of a fast shutdown, which writes all modified pages to disk.
const FAST_SHUTDOWN: Duration = Duration::from_secs(20);

/// Time limit of an immediate shutdown, which writes nothing. Postgres kills the remaining
/// processes after 5 s.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(10);

/// Pause before the first restart after a crash. It doubles with each failed start.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Running time after which a crash counts as a new crash and not as a continuation of the previous
/// one.
const STEADY: Duration = Duration::from_secs(10);

/// The running server. Dropping it stops the server, and then releases the lock.
#[derive(Debug)]
pub(super) struct Server {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _lock: File,
}

#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The process id of the postmaster. While this field is set, the process has not been waited
    /// for, so its id cannot have been reused.
    pid: Option<Pid>,
    /// Whether the server has accepted connections since the thread began. If so, the thread
    /// restarts the server after an exit. Otherwise, an exit is a failed start.
    served: bool,
    stopping: bool,
    finished: bool,
    failure: Option<StartError>,
}

/// How one run of the server ended.
enum End {
    /// The server was not started, because it has to stop.
    Stopping,
    NotSpawned(StartError),
    Exited(ExitStatus),
}

impl Server {
    /// Starts the thread and the server, and waits until the server accepts connections. `lock` is
    /// held until the server has stopped.
    pub(super) fn start(
        cluster: Cluster,
        lock: File,
        deadline: Instant,
    ) -> Result<Self, StartError> {
        let mark = cluster.log().mark();
        let failed = StartError::io("start a thread for", cluster.data());
        let shared = Arc::new(Shared { cluster, state: Mutex::default(), changed: Condvar::new() });
        let thread = thread::Builder::new().name("private-postgres".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.supervise()
        });
        let server = Self { shared, thread: Some(thread.map_err(failed)?), _lock: lock };
        server.wait_until_ready(mark, deadline)?;
        Ok(server)
    }

    fn wait_until_ready(&self, mark: u64, deadline: Instant) -> Result<(), StartError> {
        let cluster = &self.shared.cluster;
        let data = cluster.data();
        while Instant::now() < deadline {
            let pid = self.shared.lock().pid;
            let ready = pid.is_some() && postmaster::is_ready(&data, cluster.socket_dir(), pid);
            let mut state = self.shared.lock();
            if let Some(failure) = state.failure.take() {
                return Err(failure);
            }
            if ready {
                state.served = true;
                return Ok(());
            }
            drop(state);
            thread::sleep(POLL_INTERVAL);
        }
        Err(StartError::ServerNotReady {
            seconds: START_TIMEOUT.as_secs(),
            log: cluster.log().path().to_owned(),
            said: cluster.log().said_since(mark),
        })
    }

    /// Stops the server and ends the thread. A second call does nothing.
    pub(super) fn stop(&mut self) -> Result<(), StopError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let mut state = self.shared.lock();
        state.stopping = true;
        self.shared.changed.notify_all();
        for (signal, patience) in [(Signal::INT, FAST_SHUTDOWN), (Signal::QUIT, IMMEDIATE_SHUTDOWN)]
        {
            if let Some(pid) = state.pid {
                kill_process(pid, signal).map_err(|error| StopError::Signal {
                    pid: pid.as_raw_pid(),
                    source: error.into(),
                })?;
            }
            let waited =
                self.shared.changed.wait_timeout_while(state, patience, |state| !state.finished);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.finished {
                drop(state);
                // The thread has ended or is ending, and a panic in it has already been reported.
                let _ = thread.join();
                return Ok(());
            }
            tracing::warn!(
                seconds = patience.as_secs(),
                "the private Postgres has not stopped in time"
            );
        }
        Err(StopError::StillRunning { seconds: (FAST_SHUTDOWN + IMMEDIATE_SHUTDOWN).as_secs() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the private Postgres is still running"
            );
        }
    }
}

impl Shared {
    /// No operation leaves the state inconsistent, so a panic in another thread is harmless.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the supervisor's thread. Returns after the server was stopped, or after it failed
    /// before it was ready.
    fn supervise(&self) {
        let mut pause = FIRST_PAUSE;
        let mut reported = false;
        loop {
            let mark = self.cluster.log().mark();
            let began = Instant::now();
            let end = self.run_once();
            if began.elapsed() >= STEADY {
                (pause, reported) = (FIRST_PAUSE, false);
            }

            let mut state = self.lock();
            if !state.stopping && (state.served || self.is_worth_another_try(mark)) {
                if state.served {
                    self.report(&end, &mut reported);
                }
                let waited = self.changed.wait_timeout_while(state, pause, |state| !state.stopping);
                (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                pause = (pause * 2).min(LONGEST_PAUSE);
                if !state.stopping {
                    continue;
                }
            }
            if !state.stopping {
                state.failure = self.failure(end, mark);
            }
            state.finished = true;
            self.changed.notify_all();
            return;
        }
    }

    /// Starts the server and waits until it exits.
    fn run_once(&self) -> End {
        let child = {
            // The lock is held during the start, so that a stop either prevents the start or finds
            // the process.
            let mut state = self.lock();
            if state.stopping {
                return End::Stopping;
            }
            match self.cluster.spawn_server() {
                Ok(child) => {
                    state.pid = Some(Pid::from_child(&child));
                    child
                }
                Err(error) => return End::NotSpawned(error),
            }
        };
        self.wait(child)
    }

    fn wait(&self, mut child: Child) -> End {
        // The first wait keeps the process id reserved, because another thread that stops the
        // server may be about to send a signal. Any error other than an interruption occurs again
        // below.
        let pid = WaitId::Pid(Pid::from_child(&child));
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(pid.clone(), options).is_err_and(|error| error == Errno::INTR) {}

        let mut state = self.lock();
        state.pid = None;
        match child.wait() {
            Ok(status) => End::Exited(status),
            Err(source) => {
                let path = self.cluster.data();
                End::NotSpawned(StartError::Io { action: "wait for the server of", path, source })
            }
        }
    }

    /// Whether another attempt may succeed. The child processes of a killed postmaster exit by
    /// themselves, but this may take a moment. Postgres does not start while they use its memory.
    fn is_worth_another_try(&self, mark: u64) -> bool {
        let said = self.cluster.log().said_since(mark);
        said.contains("shared memory block") && said.contains("still in use")
    }

    /// Logs each crash once. The failed starts that follow it give no new information.
    fn report(&self, end: &End, reported: &mut bool) {
        let cause = match end {
            End::Stopping => return,
            End::NotSpawned(error) => match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            },
            End::Exited(status) => status.to_string(),
        };
        let log = self.cluster.log().path().display();
        if *reported {
            tracing::debug!(cause, %log, "the private Postgres has exited again");
        } else {
            tracing::error!(
                cause,
                %log,
                "the private Postgres exited unexpectedly and is being restarted. See its log"
            );
        }
        *reported = true;
    }

    fn failure(&self, end: End, mark: u64) -> Option<StartError> {
        match end {
            End::Stopping => None,
            End::NotSpawned(error) => Some(error),
            End::Exited(status) => Some(StartError::ServerEnded {
                status,
                log: self.cluster.log().path().to_owned(),
                said: self.cluster.log().said_since(mark),
            }),
        }
    }
}
