//! Threads with a stack that is large enough for a template, and a limit on its time.
//!
//! A thread that has done its work waits for more: starting one costs more than rendering a short conversation. One that
//! takes too long is left to itself and ends with its work.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};

/// Threads that wait at most.
const MAX_IDLE: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(super) struct Workers {
    stack_bytes: usize,
    pub(super) time_limit: Duration,
    /// Where the threads that wait take their next work from.
    idle: Mutex<Vec<Sender<Job>>>,
}

impl Workers {
    pub(super) fn new(stack_bytes: usize, time_limit: Duration) -> Self {
        Self { stack_bytes, time_limit, idle: Mutex::default() }
    }

    /// The error of work that takes too long.
    pub(super) fn late(&self) -> Error {
        Error::TemplateTime { seconds: self.time_limit.as_secs() }
    }

    /// Runs on one of the threads.
    ///
    /// # Errors
    /// No thread could be started; the time is over.
    ///
    /// # Panics
    /// If `run` does.
    pub(super) fn run<R: Send + 'static>(&self, run: impl FnOnce() -> R + Send + 'static) -> Result<R> {
        let waiting = self.idle().pop();
        let worker = match waiting {
            Some(worker) => worker,
            None => self.start()?,
        };
        let (sender, receiver) = sync_channel(1);
        let job: Job = Box::new(move || {
            // Nobody waits any more once the time is over.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(run)));
        });
        worker.send(job).map_err(|_| self.late())?;
        match receiver.recv_timeout(self.time_limit) {
            Ok(done) => {
                let mut idle = self.idle();
                if idle.len() < MAX_IDLE {
                    idle.push(worker);
                }
                drop(idle);
                done.or_else(|panic| resume_unwind(panic))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(self.late()),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Sender<Job>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) -> Result<Sender<Job>> {
        let (sender, jobs) = channel::<Job>();
        let thread = std::thread::Builder::new().stack_size(self.stack_bytes);
        thread.spawn(move || jobs.into_iter().for_each(|job| job())).map_err(Error::TemplateThread)?;
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_used_again_but_not_one_that_is_late() {
        let workers = Workers::new(1 << 20, Duration::from_millis(200));
        let id = || std::thread::current().id();
        let first = workers.run(id).unwrap();
        assert_eq!(workers.run(id).unwrap(), first);
        let (sender, receiver) = channel::<()>();
        let late = workers.run(move || receiver.recv());
        assert!(matches!(late, Err(Error::TemplateTime { .. })), "{late:?}");
        drop(sender);
        assert_ne!(workers.run(id).unwrap(), first);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_next_work_runs() {
        let workers = Workers::new(1 << 20, Duration::from_mins(1));
        let caught = catch_unwind(AssertUnwindSafe(|| workers.run(|| panic!("in the template"))));
        assert!(caught.is_err());
        assert_eq!(workers.run(|| 7).unwrap(), 7);
    }
}
