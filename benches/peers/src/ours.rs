//! failfast's rows.

use std::future::ready;
use std::time::Duration;

use failfast::{CallError, CircuitBreaker, Clock, CoarseClock, Consecutive, LastCalls, LastTime, Policy};

use crate::measure::{Subject, look_at, work};
use crate::peers::{HOUR, ready_now};
use crate::row::{Group, Row};

const NAME: &str = "failfast";

/// The rows, for up to so many threads.
pub(crate) fn rows(threads: usize) -> Vec<Row> {
    let healthy = |n| n;
    let mut rows = vec![
        with_open(row("5 in a row", consecutive, healthy), consecutive),
        with_open(row("5 in a row, coarse clock", consecutive_coarse, healthy), consecutive_coarse).coarse(),
        Row::new(
            Group::Ours,
            NAME,
            "5 in a row, async",
            Subject::new(
                consecutive,
                |_| (),
                |breaker, (), n| {
                    let result = ready_now(breaker.call_async(|| ready(work(n))));
                    look_at(&result);
                    !matches!(result, Err(CallError::Rejected(_)))
                },
            ),
        ),
        // No peer has such a row to compare it with.
        row("every call fails, none trips", || build(Consecutive::new(u32::MAX)), |_| 0).uncharted(),
        row("last 100", last_100, healthy),
        row("last 100, 1 failure in 64", last_100, |n| n % 64),
        row("10 × 1 s, coarse clock", time_window_coarse::<1>, healthy).coarse(),
        row("10 × 1 s", time_window::<1>, healthy),
    ];
    // The number of stripes of an inline window is part of its type.
    macro_rules! striped {
        ($($stripes:literal)+) => {
            match threads.next_power_of_two() {
                $($stripes => rows.extend([
                    row(concat!("10 × 1 s, ", $stripes, " stripes, coarse clock"), time_window_coarse::<$stripes>, healthy)
                        .coarse(),
                    row(concat!("10 × 1 s, ", $stripes, " stripes"), time_window::<$stripes>, healthy),
                ]),)+
                _ => {}
            }
        };
    }
    striped!(2 4 8 16 32 64);
    rows
}

fn row<P: Policy + 'static, C: Clock + 'static>(
    setting: &str,
    make: impl FnOnce() -> CircuitBreaker<P, C>,
    input: impl Fn(u64) -> u64 + Sync + 'static,
) -> Row {
    let call = move |breaker: &CircuitBreaker<P, C>, (): &mut (), n| admits(breaker, input(n));
    Row::new(Group::Ours, NAME, setting, Subject::new(make, |_| (), call))
}

/// The same, tripped.
fn with_open<P: Policy + 'static, C: Clock + 'static>(row: Row, make: impl FnOnce() -> CircuitBreaker<P, C>) -> Row {
    let open = || {
        let breaker = make();
        while let Err(CallError::Failed(_)) = breaker.call(|| work(0)) {}
        breaker
    };
    row.rejecting(Subject::new(open, |_| (), |breaker, (), n| admits(breaker, n)))
}

#[inline(always)]
fn admits<P: Policy, C: Clock>(breaker: &CircuitBreaker<P, C>, n: u64) -> bool {
    let result = breaker.call(|| work(n));
    look_at(&result);
    !matches!(result, Err(CallError::Rejected(_)))
}

fn build<S: failfast::IntoPolicy>(policy: S) -> CircuitBreaker<S::Policy> {
    CircuitBreaker::builder().policy(policy).open_for(HOUR).build().expect("legal numbers")
}

fn build_coarse<S: failfast::IntoPolicy>(policy: S) -> CircuitBreaker<S::Policy, CoarseClock> {
    CircuitBreaker::builder().policy(policy).open_for(HOUR).clock(CoarseClock).build().expect("legal numbers")
}

fn consecutive() -> CircuitBreaker {
    build(Consecutive::new(5))
}

fn consecutive_coarse() -> CircuitBreaker<Consecutive, CoarseClock> {
    build_coarse(Consecutive::new(5))
}

fn last_100() -> CircuitBreaker<LastCalls<100>> {
    build(LastCalls::new().failure_rate(50.0))
}

fn time_window<const S: usize>() -> CircuitBreaker<LastTime<10, S>> {
    build(LastTime::new(Duration::from_secs(10)).failure_rate(50.0))
}

fn time_window_coarse<const S: usize>() -> CircuitBreaker<LastTime<10, S>, CoarseClock> {
    build_coarse(LastTime::new(Duration::from_secs(10)).failure_rate(50.0))
}
