//! What the programs whose size is compared have in common: they make one call, and differ in the breaker around it.

use failfast::{CircuitBreaker, Clock, Config, Consecutive, LastCalls, LastTime, Timestamp};
use portable_atomic::{AtomicU32, Ordering::Relaxed};

use core::time::Duration;

/// A board's clock: the milliseconds that its timer has counted.
#[derive(Clone, Copy)]
pub struct Ticks;

static TICKS: AtomicU32 = AtomicU32::new(0);

impl Clock for Ticks {
    const MONOTONIC: bool = true;

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(u64::from(TICKS.load(Relaxed)) * 1_000_000)
    }
}

pub type ConsecutiveBreaker = CircuitBreaker<Consecutive, Ticks>;
pub type LastCallsBreaker = CircuitBreaker<LastCalls<20>, Ticks>;
pub type LastTimeBreaker = CircuitBreaker<LastTime<10>, Ticks>;

pub const fn consecutive() -> ConsecutiveBreaker {
    CircuitBreaker::new_with(Consecutive::new(5), Config::new(), Ticks, ())
}

pub const fn last_calls() -> LastCallsBreaker {
    CircuitBreaker::new_with(LastCalls::new().failure_rate(50.0), Config::new(), Ticks, ())
}

pub const fn last_time() -> LastTimeBreaker {
    let policy = LastTime::new(Duration::from_secs(10)).failure_rate(50.0);
    CircuitBreaker::new_with(policy, Config::new(), Ticks, ())
}

/// A program that makes calls with what it is given.
#[macro_export]
macro_rules! size_program {
    ($call:expr) => {
        fn main() {
            loop {
                let read = || core::hint::black_box(Ok::<u32, u32>(1));
                core::hint::black_box($call(read).is_ok());
            }
        }

        $crate::entry!(main);

        #[panic_handler]
        fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
            loop {}
        }
    };
}
