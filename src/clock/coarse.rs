use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Clock, DefaultClock};
use crate::sync::{AtomicU64, Ordering};
use crate::time::Timestamp;

/// The cached time in nanoseconds; 0 while no thread keeps it.
static CACHED: AtomicU64 = AtomicU64::new(0);

/// A clock whose read is one load: a thread keeps the time of [`DefaultClock`] in a cell.
///
/// Its thread is started with [`start`](Self::start) and runs until the [`Upkeep`] that this gives is dropped. While
/// none runs, it reads `DefaultClock` itself, so a forgotten start costs speed and nothing else. Its reading is
/// behind by up to the thread's interval, and by more where the thread is not scheduled in time: waits end and calls
/// become slow by so much later or earlier.
///
/// ```
/// use failfast::{CircuitBreaker, CoarseClock, TimeWindow};
/// use std::time::Duration;
///
/// let upkeep = CoarseClock::start(Duration::from_millis(1))?;
/// let breaker = CircuitBreaker::builder()
///     .policy(TimeWindow::over(Duration::from_secs(10), 10).failure_rate(50.0))
///     .clock(CoarseClock)
///     .build()?;
/// # drop(breaker);
/// upkeep.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CoarseClock;

impl CoarseClock {
    /// Starts the thread that reads the time every `interval` (1 ms is a good one).
    ///
    /// # Errors
    /// When one runs already, `interval` is 0, or the operating system gives no thread.
    pub fn start(interval: Duration) -> std::io::Result<Upkeep> {
        use std::io::{Error, ErrorKind};
        if interval.is_zero() {
            return Err(Error::new(ErrorKind::InvalidInput, "the interval is 0 ns: must be more than 0"));
        }
        // ORDERING: Release, as in the thread. It says who may start one: only who finds 0 there.
        let now = DefaultClock.now().as_nanos().max(1);
        if CACHED.compare_exchange(0, now, Ordering::Release, Ordering::Relaxed).is_err() {
            return Err(Error::new(ErrorKind::AlreadyExists, "the coarse clock's thread runs already"));
        }
        let (stop, stopped) = channel::<()>();
        let keep = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                // ORDERING: Release, pairs with the Acquire in `now`.
                CACHED.store(DefaultClock.now().as_nanos().max(1), Ordering::Release);
            }
            // ORDERING: Release, as above.
            CACHED.store(0, Ordering::Release);
        };
        match std::thread::Builder::new().name("failfast-clock".into()).spawn(keep) {
            Ok(thread) => Ok(Upkeep { stop: Some(stop), thread: Some(thread) }),
            Err(error) => {
                // ORDERING: Release, as above.
                CACHED.store(0, Ordering::Release);
                Err(error)
            }
        }
    }
}

impl Clock for CoarseClock {
    // Started while it is read, it goes from a precise time to one that was taken a little earlier.
    const MONOTONIC: bool = false;

    #[inline]
    fn now(&self) -> Timestamp {
        // ORDERING: Acquire, pairs with the thread's Release. It costs nothing on x86-64, and time read here is not
        // earlier than what the thread did before.
        match CACHED.load(Ordering::Acquire) {
            0 => DefaultClock.now(),
            nanos => Timestamp::from_nanos(nanos),
        }
    }
}

/// Keeps [`CoarseClock`] going until it is dropped.
#[derive(Debug)]
#[must_use = "the thread stops when this is dropped"]
pub struct Upkeep {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Stops the thread and waits for its end, as dropping does.
    ///
    /// ```
    /// let upkeep = failfast::CoarseClock::start(std::time::Duration::from_millis(1))?;
    /// upkeep.stop();
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn stop(self) {}
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}
