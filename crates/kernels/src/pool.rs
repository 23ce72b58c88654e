//! A thread pool for jobs of microseconds: workers spin for a while before they sleep.
//!
//! A decoding step dispatches some 200 jobs; waking a sleeping thread costs more than many of them.
//! Tasks are claimed from one atomic ticket that carries the job's number of tasks, so a worker that
//! comes late can never run a task of a job that is over. Which thread runs a task never changes a result.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// How often a waiting thread looks again before it sleeps: about 100 µs, the gap between two jobs
/// of one decoding step at most.
const SPINS: u32 = 4_000;

const INDEX_BITS: u32 = 32;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

type Task = dyn Fn(usize) + Sync;

struct Shared {
    /// High half: number of tasks of the current job. Low half: the next task to claim.
    ticket: AtomicU64,
    /// The current job, a pointer to a fat pointer on the stack of [`Pool::run`].
    job: AtomicPtr<&'static Task>,
    /// Tasks of the current job that aren't finished.
    unfinished: AtomicUsize,
    sleepers: AtomicUsize,
    stop: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Shared {
    /// Claims and runs tasks until none is left.
    fn work(&self) {
        loop {
            let ticket = self.ticket.fetch_add(1, Ordering::SeqCst);
            let (tasks, index) = (ticket >> INDEX_BITS, ticket & INDEX_MASK);
            if index >= tasks {
                return;
            }
            // SAFETY: the claimed task is unfinished, so `run` is still waiting and its job pointer,
            // stored before the ticket that was claimed, is alive.
            let task = unsafe { &*self.job.load(Ordering::SeqCst) };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| task(index as usize))) {
                *lock(&self.panic) = Some(payload);
            }
            self.unfinished.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn has_work(&self) -> bool {
        let ticket = self.ticket.load(Ordering::SeqCst);
        ticket & INDEX_MASK < ticket >> INDEX_BITS
    }

    fn worker(&self) {
        IN_POOL.set(true);
        while !self.stop.load(Ordering::SeqCst) {
            if self.has_work() {
                self.work();
                continue;
            }
            if (0..SPINS).any(|_| {
                std::hint::spin_loop();
                self.has_work()
            }) {
                continue;
            }
            let guard = lock(&self.sleep);
            self.sleepers.fetch_add(1, Ordering::SeqCst);
            if !self.has_work() && !self.stop.load(Ordering::SeqCst) {
                drop(self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner));
            }
            self.sleepers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

thread_local! {
    /// True while this thread runs a pool's tasks: a nested job then runs in place.
    static IN_POOL: Cell<bool> = const { Cell::new(false) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads that run the tasks of one job at a time. The calling thread works too.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs: jobs of several threads come one after the other.
    turn: Mutex<()>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` (at least one), the caller of [`Pool::run`] counted.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            ticket: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            unfinished: AtomicUsize::new(0),
            sleepers: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.worker())
            })
            .collect();
        Self { shared, workers, turn: Mutex::new(()) }
    }

    /// One thread for each core the process may use.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)` … `task(tasks - 1)` and returns when all are done.
    ///
    /// # Panics
    /// With the panic of a task, after all tasks are over.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || IN_POOL.get() {
            (0..tasks).for_each(task);
            return;
        }
        let turn = lock(&self.turn);
        // SAFETY: the lifetime ends when this function returns, and it returns only after every
        // task is finished; a worker reads the pointer only while it holds an unfinished task.
        let task: &'static Task = unsafe { std::mem::transmute(task) };
        let shared = &*self.shared;
        shared.job.store((&raw const task).cast_mut(), Ordering::SeqCst);
        shared.unfinished.store(tasks, Ordering::SeqCst);
        shared.ticket.store((tasks as u64) << INDEX_BITS, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&shared.sleep);
            shared.wake.notify_all();
        }
        IN_POOL.set(true);
        shared.work();
        IN_POOL.set(false);
        let mut spins = 0_u32;
        while shared.unfinished.load(Ordering::SeqCst) > 0 {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let panic = lock(&shared.panic).take();
        drop(turn);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Splits `0..len` into runs of whole `grain`s, at most `threads * 4` of them, one task each.
    ///
    /// Tasks are dealt so that a thread tends to go on where it ended: what it has prefetched is its own.
    pub fn for_each_range(&self, len: usize, grain: usize, body: impl Fn(std::ops::Range<usize>) + Sync) {
        let grains = len.div_ceil(grain);
        let threads = self.threads();
        // A multiple of the threads, or fewer than that.
        let tasks = grains.min(threads * 4);
        let tasks = if tasks > threads { tasks / threads * threads } else { tasks };
        self.run(tasks, &|claim| {
            let task =
                if tasks > threads { claim % threads * (tasks / threads) + claim / threads } else { claim };
            let start = grains * task / tasks * grain;
            let end = (grains * (task + 1) / tasks * grain).min(len);
            body(start..end);
        });
    }

    /// Gives each task its own piece of `slice`; the last may be shorter.
    pub fn for_each_chunk<T: Send>(
        &self,
        slice: &mut [T],
        chunk_len: usize,
        body: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let len = slice.len();
        let parts = Parts::new(slice);
        self.run(len.div_ceil(chunk_len), &|index| {
            let start = index * chunk_len;
            // SAFETY: chunks of different tasks don't overlap, and each task runs once.
            body(index, unsafe { parts.slice(start, chunk_len.min(len - start)) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        {
            let _guard = lock(&self.shared.sleep);
            self.shared.wake.notify_all();
        }
        for worker in self.workers.drain(..) {
            // A worker catches every task's panic; joining can't fail for another reason.
            let _ = worker.join();
        }
    }
}

/// A mutable slice that several tasks write disjoint parts of.
#[derive(Debug)]
pub(crate) struct Parts<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: the pointer is only used through `slice`, whose caller promises disjoint parts.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len() }
    }

    /// # Safety
    /// No two live slices may overlap, and the slice given to `new` must still be borrowed.
    #[expect(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "{start}+{len} of {}", self.len);
        // SAFETY: in bounds by the assertion above.
        let from = unsafe { self.start.add(start) };
        // SAFETY: in bounds; the caller promises that no other slice overlaps.
        unsafe { std::slice::from_raw_parts_mut(from, len) }
    }

    /// Where `start` lies, for writers whose rows are far apart; `len` values from there are inside.
    pub(crate) fn pointer(&self, start: usize, len: usize) -> *mut T {
        assert!(start <= self.len && len <= self.len - start, "{start}+{len} of {}", self.len);
        // SAFETY: in bounds by the assertion above.
        unsafe { self.start.add(start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_over_many_jobs() {
        let pool = Pool::new(3);
        for tasks in [0, 1, 2, 7, 1000] {
            for _ in 0..200 {
                let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|index| {
                    hits[index].fetch_add(1, Ordering::SeqCst);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::SeqCst) == 1));
            }
        }
    }

    #[test]
    fn ranges_cover_without_overlap() {
        let pool = Pool::new(2);
        for (len, grain) in [(0, 4), (1, 4), (17, 4), (1000, 1)] {
            let covered = Mutex::new(vec![0; len]);
            pool.for_each_range(len, grain, |range| {
                assert_eq!(range.start % grain, 0);
                for i in range {
                    lock(&covered)[i] += 1;
                }
            });
            assert!(lock(&covered).iter().all(|&count| count == 1));
        }
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            pool.run(8, &|index| assert!(index != 5, "task five"));
        }));
        assert!(caught.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(8, &|index| {
            sum.fetch_add(index, Ordering::SeqCst);
        });
        assert_eq!(sum.load(Ordering::SeqCst), 28);
    }

    #[test]
    fn jobs_from_several_threads_and_nested_jobs_finish() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(3, &|_| {
                            pool.run(2, &|_| {
                                sum.fetch_add(1, Ordering::SeqCst);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.load(Ordering::SeqCst), 4 * 100 * 6);
    }
}
