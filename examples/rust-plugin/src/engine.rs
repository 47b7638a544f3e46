//! The threads of one open store, and the queue that feeds them.
//!
//! A submit puts the operation into the queue and answers PENDING; `flush`, which the host calls at
//! the end of a batch, rings the bell; a worker takes the operation, runs it and completes it. What an
//! operation needs on its way lies in its scratch memory, so the queue holds pointers only and has
//! all its memory from the start.
//!
//! The rules of the ABI that shape this file:
//! - at most `limit` operations are inside; the next submit answers BUSY, and the first one to end
//!   wakes the host;
//! - `complete` comes last: after it a worker touches neither operation nor backend, holds no lock,
//!   and goes on with this engine only, which lives until the workers have been joined;
//! - a read that is told LATER is dropped here and then; `dst_ready` queues it anew;
//! - `cancel` may come beside or after `complete`: it touches the scratch, which is valid until cancel
//!   returns, and the queue, where it finds the operation or does not.

use crate::abi::*;
use crate::store::Fail;
use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How a task ended when it did not fail.
pub enum Outcome {
    Done,
    /// The host said LATER: the operation is not ours until dst_ready.
    Parked,
}

/// One operation's work. `run` may be called again after it was parked.
pub trait Task: Copy {
    /// # Safety
    /// The pointers inside the task and `op` are those of an operation under way.
    unsafe fn run(self, engine: &Arc<Engine<Self>>, op: *mut PstOp) -> Result<Outcome, Fail>;
}

/// What lies in `op.scratch`.
pub struct Scratch<T> {
    cancelled: AtomicBool,
    task: T,
}

struct Job {
    op: *mut PstOp,
    due: Option<Instant>, // None: at once
}

unsafe impl Send for Job {}

struct Queue {
    jobs: VecDeque<Job>,
    outstanding: usize,
    submits: usize,
    is_starved: bool, // somebody was told BUSY
    is_closing: bool,
}

pub struct Engine<T> {
    pub host: *const PstHost,
    pub bucket: Vec<u8>,
    backend: AtomicPtr<PstBackend>,
    limit: usize,
    delay: Duration,
    queue: Mutex<Queue>,
    bell: Condvar,
    task: std::marker::PhantomData<fn() -> T>,
}

// The host's table may be used from any thread.
unsafe impl<T> Send for Engine<T> {}
unsafe impl<T> Sync for Engine<T> {}

/// Every this many submits linger, so that an idle worker has completed before the submit returns:
/// the ABI allows it, so a host has to be ready for it.
const LINGER_EVERY: usize = 8;
const LINGER_YIELDS: usize = 100;

impl<T: Task + 'static> Engine<T> {
    pub fn new(host: *const PstHost, bucket: &[u8], limit: usize, delay: Duration) -> Arc<Self> {
        Arc::new(Engine {
            host,
            bucket: bucket.to_vec(),
            backend: AtomicPtr::new(std::ptr::null_mut()),
            limit,
            delay,
            queue: Mutex::new(Queue {
                jobs: VecDeque::with_capacity(limit),
                outstanding: 0,
                submits: 0,
                is_starved: false,
                is_closing: false,
            }),
            bell: Condvar::new(),
            task: std::marker::PhantomData,
        })
    }

    /// Start the workers. `backend` is what the host knows this store by.
    pub fn start(
        self: &Arc<Self>,
        backend: *mut PstBackend,
        n_threads: usize,
    ) -> std::io::Result<Vec<JoinHandle<()>>> {
        self.backend.store(backend, Ordering::Release);
        let mut threads = Vec::with_capacity(n_threads);
        for i in 0..n_threads {
            let engine = self.clone();
            let worker = move || engine.work();
            match thread::Builder::new().name(format!("rustmem-{i}")).spawn(worker) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    self.stop(threads);
                    return Err(error);
                }
            }
        }
        Ok(threads)
    }

    pub fn stop(&self, threads: Vec<JoinHandle<()>>) {
        self.lock().is_closing = true;
        self.bell.notify_all();
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// # Safety
    /// `op` is being submitted to this store and `task` holds its arguments.
    pub unsafe fn submit(&self, op: *mut PstOp, task: T) -> PstRc {
        let lingers;
        {
            let mut queue = self.lock();
            if queue.outstanding == self.limit {
                queue.is_starved = true;
                return PST_BUSY;
            }
            queue.outstanding += 1;
            queue.submits += 1;
            lingers = queue.submits % LINGER_EVERY == 0;
            let scratch = (*op).scratch as *mut Scratch<T>;
            scratch.write(Scratch { cancelled: AtomicBool::new(false), task });
            let due = if self.delay.is_zero() { None } else { Some(Instant::now() + self.delay) };
            queue.jobs.push_back(Job { op, due });
        }
        if lingers {
            self.bell.notify_one();
            for _ in 0..LINGER_YIELDS {
                thread::yield_now();
            }
        }
        PST_PENDING // from here on the operation may be over: not one look at it
    }

    pub fn flush(&self) {
        self.bell.notify_all();
    }

    /// # Safety
    /// The host says so, once after each LATER.
    pub unsafe fn dst_ready(&self, op: *mut PstOp) {
        self.lock().jobs.push_back(Job { op, due: None });
        self.bell.notify_one();
    }

    /// # Safety
    /// `op` was PENDING here, and stays valid until this returns.
    pub unsafe fn cancel(&self, op: *mut PstOp) {
        (*((*op).scratch as *const Scratch<T>)).cancelled.store(true, Ordering::Release);
        let mut queue = self.lock();
        if let Some(at) = queue.jobs.iter().position(|job| job.op == op) {
            queue.jobs.remove(at);
            queue.jobs.push_front(Job { op, due: None });
            drop(queue);
            self.bell.notify_all();
        }
    }

    /// Has the host lost interest? Long loops ask now and then.
    ///
    /// # Safety
    /// `op` is under way.
    pub unsafe fn is_cancelled(&self, op: *mut PstOp) -> bool {
        (*((*op).scratch as *const Scratch<T>)).cancelled.load(Ordering::Acquire)
    }

    fn work(self: &Arc<Self>) {
        while let Some(op) = self.next() {
            // Sound: the host keeps `op` valid until finish() has completed it.
            unsafe { self.run(op) };
        }
    }

    /// Wait for the next operation that is due; None when the store closes.
    fn next(&self) -> Option<*mut PstOp> {
        let mut queue = self.lock();
        loop {
            // All have the same delay and cancelled ones come to the front, so the first is due first.
            let wait = match queue.jobs.front() {
                None if queue.is_closing => return None,
                None => None,
                Some(job) => {
                    match job.due.and_then(|due| due.checked_duration_since(Instant::now())) {
                        Some(left) if !left.is_zero() => Some(left),
                        _ => return queue.jobs.pop_front().map(|job| job.op),
                    }
                }
            };
            queue = match wait {
                None => self.bell.wait(queue).unwrap_or_else(|poisoned| poisoned.into_inner()),
                Some(left) => match self.bell.wait_timeout(queue, left) {
                    Ok((queue, _)) => queue,
                    Err(poisoned) => poisoned.into_inner().0,
                },
            };
        }
    }

    unsafe fn run(self: &Arc<Self>, op: *mut PstOp) {
        let task = (*((*op).scratch as *const Scratch<T>)).task;
        let outcome = if self.is_cancelled(op) {
            Err(Fail { rc: PST_E_CANCELLED, message: "cancelled before it began".into() })
        } else {
            // A panic must not unwind into C, nor end the process: it is this operation's failure.
            catch_unwind(AssertUnwindSafe(|| task.run(self, op))).unwrap_or_else(|_| {
                Err(Fail { rc: PST_E_INTERNAL, message: "rustmem panicked".into() })
            })
        };
        match outcome {
            Ok(Outcome::Parked) => {}
            Ok(Outcome::Done) => self.finish(op, PST_OK),
            Err(fail) => {
                crate::ops::fill_error((*op).err, &fail);
                self.finish(op, fail.rc);
            }
        }
    }

    unsafe fn finish(&self, op: *mut PstOp, rc: PstRc) {
        let wakes = {
            let mut queue = self.lock();
            queue.outstanding -= 1;
            std::mem::replace(&mut queue.is_starved, false)
        };
        if wakes {
            ((*self.host).wake)(self.host, self.backend.load(Ordering::Acquire));
        }
        // Through the host of the operation: the process may hold two.
        let host = (*op).host;
        ((*host).complete)(host, op, rc);
    }
}
