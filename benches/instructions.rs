//! The hot paths, to have their instructions counted: see `.ci/instructions`.
//!
//! Each path is a function that is not inlined, of 1000 rounds. Callgrind counts each with all that it calls.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use failfast::metrics::{CallMetrics, Metrics};
use failfast::{CircuitBreaker, Config, Consecutive, IntoPolicy, LastCalls, LastTime, ManualClock};

const ROUNDS: u64 = 1000;

/// The guarded work: a call that is not inlined, and does next to nothing.
#[inline(never)]
fn work(x: u64) -> Result<u64, u64> {
    black_box(Ok(x.wrapping_mul(3)))
}

fn build<I: IntoPolicy>(policy: I, clock: &ManualClock) -> CircuitBreaker<I::Policy, &ManualClock> {
    let config = Config::new().open_for(Duration::from_secs(86_400));
    CircuitBreaker::builder().policy(policy).config(config).clock(clock).build().unwrap()
}

/// A macro, so that each path has a closure of its own, and is compiled as a user's one call would be.
macro_rules! call {
    ($breaker:expr, $n:expr, $fails:expr) => {
        black_box(&$breaker.call(|| work($n).and_then(|n| if $fails { Err(n) } else { Ok(n) })))
    };
}

/// One function for each path; the table's names are theirs.
macro_rules! paths {
    ($($name:ident($argument:ident: $type:ty, $n:ident) $body:expr;)+) => {$(
        #[inline(never)]
        fn $name($argument: $type) {
            // Two paths with the same code would become one function.
            black_box(stringify!($name));
            for $n in 1..=ROUNDS {
                _ = $body;
            }
        }
    )+};
}

type On<'a, P> = &'a CircuitBreaker<P, &'a ManualClock>;
type Both = (Consecutive, LastCalls<100>);
type Observed<'a> = &'a CircuitBreaker<Consecutive, &'a ManualClock, CallMetrics>;

paths! {
    bare(_nothing: (), n) black_box(&work(n));
    consecutive_success(breaker: On<'_, Consecutive>, n) call!(breaker, n, false);
    consecutive_failure(breaker: On<'_, Consecutive>, n) call!(breaker, n, true);
    consecutive_async(breaker: On<'_, Consecutive>, n) {
        let mut context = Context::from_waker(Waker::noop());
        black_box(&pin!(breaker.call_async(|| std::future::ready(work(n)))).poll(&mut context));
    };
    consecutive_permit(breaker: On<'_, Consecutive>, n) {
        if let Ok(permit) = breaker.try_acquire() {
            permit.settle_by(&black_box(work(n)));
        }
    };
    last_100_success(breaker: On<'_, LastCalls<100>>, n) call!(breaker, n, false);
    last_100_mixed(breaker: On<'_, LastCalls<100>>, n) call!(breaker, n, n % 64 == 0);
    last_100_half_failing(breaker: On<'_, LastCalls<100>>, n) call!(breaker, n, n % 2 == 0);
    last_100_slow_calls(breaker: On<'_, LastCalls<100>>, n) call!(breaker, n, false);
    time_window_success(breaker: On<'_, LastTime<10>>, n) call!(breaker, n, false);
    time_window_mixed(breaker: On<'_, LastTime<10>>, n) call!(breaker, n, n % 64 == 0);
    time_window_failure(breaker: On<'_, LastTime<10>>, n) call!(breaker, n, true);
    both_success(breaker: On<'_, Both>, n) call!(breaker, n, false);
    rejected(breaker: On<'_, Consecutive>, n) call!(breaker, n, false);
    rejected_last_100(breaker: On<'_, LastCalls<100>>, n) call!(breaker, n, false);
    metrics_calls(breaker: Observed<'_>, n) call!(breaker, n, false);
    metrics_durations(breaker: Observed<'_>, n) call!(breaker, n, false);
    metrics_rejected(breaker: Observed<'_>, n) call!(breaker, n, false);
}

fn main() {
    /// Never trips by itself, so that it can be measured failing.
    const PATIENT: f64 = 100.0;
    let clock = ManualClock::new();
    let last = || LastCalls::<100>::new().failure_rate(PATIENT);
    let filled = || {
        let breaker = build(last(), &clock);
        (0..200).for_each(|n| _ = call!(breaker, n, false));
        breaker
    };
    let time = || {
        let breaker = build(LastTime::<10>::new(Duration::from_secs(10)).failure_rate(PATIENT), &clock);
        (0..200).for_each(|n| _ = call!(breaker, n, false));
        breaker
    };

    bare(());
    let consecutive = build(Consecutive::new(u32::MAX), &clock);
    consecutive_success(&consecutive);
    consecutive_async(&consecutive);
    consecutive_permit(&consecutive);
    consecutive_failure(&consecutive);
    last_100_success(&filled());
    last_100_mixed(&filled());
    last_100_half_failing(&filled());
    let slow = build(last().slow_calls(Duration::from_secs(1), PATIENT), &clock);
    (0..200).for_each(|n| _ = call!(slow, n, false));
    last_100_slow_calls(&slow);
    time_window_success(&time());
    time_window_mixed(&time());
    time_window_failure(&time());
    let both = build((Consecutive::new(5), last()), &clock);
    (0..200).for_each(|n| _ = call!(both, n, false));
    both_success(&both);
    let open = build(Consecutive::new(1), &clock);
    _ = call!(open, 0, true);
    rejected(&open);
    let open = build(LastCalls::<100>::new().failures(1), &clock);
    _ = call!(open, 0, true);
    rejected_last_100(&open);

    let observed = |durations| {
        let metrics = Metrics::builder().durations(durations).build().unwrap();
        CircuitBreaker::builder().clock(&clock).observer(metrics.observer("x")).build().unwrap()
    };
    metrics_calls(&observed(false));
    metrics_durations(&observed(true));
    let open = observed(true);
    open.open_for(Duration::from_secs(86_400));
    metrics_rejected(&open);
}
