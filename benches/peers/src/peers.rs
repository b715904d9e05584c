//! The other breakers' rows: each set to what comes nearest to five failures in a row, or to a window of the last 100
//! calls or 10 s, with an open wait of an hour.

use std::future::{Ready, ready};
use std::pin::pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::measure::{Fault, Subject, look_at, work};
use crate::row::{Group, Row};

/// Longer than any run, so that what is open stays open.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

const FAILURES: u32 = 5;
const LOCK_NOTE: &str = "Its lock may keep a future pending: it is polled again at once, which is kinder than parking. \
                         Open, and asked while another thread asks, it is ready after a timer's millisecond; the timer \
                         has a thread, and where there are no more cores than callers that disturbs every batch (–).";
const WALK_NOTE: &str = "Not measured: each outcome walks all calls of the window, and what it takes is the load's \
                         doing (1,000 calls a second are 10,000 steps a call).";

pub(crate) fn rows() -> Vec<Row> {
    vec![
        mx_core(),
        ferryman_core(),
        circuit_breaker(),
        recloser(),
        nobreak(),
        plain_mutex(),
        failsafe_consecutive(),
        failsafe_default(),
        breaker(),
        reliakit(),
        seatbelt(),
        circuitbreaker_rs(),
        tower_resilience(),
        Row::empty(Group::Peer, named("tower-resilience-circuitbreaker"), "last 10 s, async").note(WALK_NOTE),
    ]
}

/// Drives a future that has nothing to wait for, except maybe a lock.
#[inline]
pub(crate) fn ready_now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // No `spin_loop`: on some processors it takes 40 ns, even where it is only guessed that it comes to it.
    }
}

/// A closed and an open breaker, called in one and the same way.
fn row<B, F>(name: &str, setting: &str, make: impl Fn() -> B, trip: impl FnOnce(&B), call: F) -> Row
where
    B: Sync + 'static,
    F: Fn(&B, u64) -> bool + Sync + Copy + 'static,
{
    let open = || {
        let breaker = make();
        trip(&breaker);
        breaker
    };
    let call = move |breaker: &B, (): &mut (), n| call(breaker, n);
    let closed = Subject::new(&make, |_| (), call);
    Row::new(Group::Peer, named(name), setting, closed).rejecting(Subject::new(open, |_| (), call))
}

/// A crate with the version that was built.
fn named(krate: &str) -> String {
    let entry = format!("name = \"{krate}\"\nversion = \"");
    let found = include_str!("../Cargo.lock").split_once(&entry).and_then(|(_, rest)| rest.split('"').next());
    found.map_or(krate.into(), |version| format!("{krate} {version}"))
}

fn mx_core() -> Row {
    use mx_core::resilience::{AtomicCircuitBreaker, CircuitBreaker, CircuitBreakerConfig};
    let call = |breaker: &AtomicCircuitBreaker, n| {
        if !breaker.allows_request() {
            return false;
        }
        let result = work(n);
        look_at(&result);
        match result {
            Ok(_) => breaker.record_success(),
            Err(_) => breaker.record_failure(),
        }
        true
    };
    let make = || AtomicCircuitBreaker::new(CircuitBreakerConfig::new(FAILURES, HOUR));
    row("mx-core", "5 in a row", make, |breaker| breaker.trip(), call)
}

fn ferryman_core() -> Row {
    use ferryman_core::{Breaker, BreakerConfig};
    let call = |breaker: &Breaker, n| {
        let Some(ticket) = breaker.try_acquire() else {
            return false;
        };
        let result = work(n);
        look_at(&result);
        match result {
            Ok(_) => breaker.record_success(ticket),
            Err(_) => breaker.record_failure(ticket),
        }
        true
    };
    let config = BreakerConfig::default().with_failure_threshold(FAILURES).with_cooldown(HOUR);
    let make = || Breaker::new(config.clone()).expect("legal numbers");
    row("ferryman-core", "5 in a row", make, |breaker| while call(breaker, 0) {}, call)
}

fn circuit_breaker() -> Row {
    use circuit_breaker::CircuitBreaker;
    let call = |breaker: &CircuitBreaker, n| {
        // Rejections and failures come boxed alike.
        let result = breaker.execute(|| work(n));
        look_at(&result);
        result.is_ok()
    };
    let trip = |breaker: &CircuitBreaker| (0..FAILURES).for_each(|_| drop(breaker.execute(|| work(0))));
    row("circuit_breaker", "5 in its lifetime", || CircuitBreaker::new(FAILURES, HOUR), trip, call)
}

fn recloser() -> Row {
    use recloser::{Error, Recloser};
    let call = |breaker: &Recloser, n| {
        let result = breaker.call(|| work(n));
        look_at(&result);
        !matches!(result, Err(Error::Rejected))
    };
    let make = || Recloser::custom().error_rate(0.5).closed_len(100).open_wait(HOUR).build();
    row("recloser", "last 100", make, |breaker| while call(breaker, 0) {}, call)
}

fn nobreak() -> Row {
    use nobreak::{CircuitBreaker, CircuitError};
    let call = |breaker: &CircuitBreaker, n| {
        let result = breaker.call(|| work(n));
        look_at(&result);
        !matches!(result, Err(CircuitError::Open))
    };
    let make = || nobreak::builder().with_failure_threshold(FAILURES as usize).with_open_duration(HOUR).build();
    row("nobreak", "5 in a row", make, |breaker| while call(breaker, 0) {}, call)
}

/// What one writes in ten minutes.
fn plain_mutex() -> Row {
    #[derive(Default)]
    struct Plain {
        failures: u32,
        opened: Option<Instant>,
    }
    let lock = |breaker: &Mutex<Plain>, n| {
        let state = || breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if state().opened.is_some_and(|opened| opened.elapsed() < HOUR) {
            return false;
        }
        let result = work(n);
        look_at(&result);
        let mut state = state();
        if result.is_ok() {
            *state = Plain::default();
        } else {
            state.failures += 1;
            state.opened = (state.failures >= FAILURES).then(Instant::now);
        }
        true
    };
    row("a plain `Mutex`", "5 in a row", Mutex::default, |breaker| while lock(breaker, 0) {}, lock)
}

fn failsafe_consecutive() -> Row {
    use failsafe::{Config, backoff, failure_policy};
    let policy = || failure_policy::consecutive_failures(FAILURES, backoff::constant(HOUR));
    let make = || Config::new().failure_policy(policy()).build();
    row("failsafe", "5 in a row", make, |breaker| while failsafe_call(breaker, 0) {}, failsafe_call)
}

fn failsafe_default() -> Row {
    use failsafe::{Config, FailurePolicy, backoff, failure_policy};
    let wait = || backoff::equal_jittered(2 * HOUR, 3 * HOUR);
    let rate = || failure_policy::success_rate_over_time_window(0.8, 5, Duration::from_secs(30), wait());
    let policy = || rate().or_else(failure_policy::consecutive_failures(FAILURES, wait()));
    let make = || Config::new().failure_policy(policy()).build();
    row(
        "failsafe",
        "its default: average over 30 s, or 5 in a row",
        make,
        |breaker| while failsafe_call(breaker, 0) {},
        failsafe_call,
    )
}

fn failsafe_call(breaker: &impl failsafe::CircuitBreaker, n: u64) -> bool {
    let result = breaker.call(|| work(n));
    look_at(&result);
    !matches!(result, Err(failsafe::Error::Rejected))
}

fn breaker() -> Row {
    use breaker::{CircuitBreaker, CircuitBreakerConfig, CircuitBreakerError};
    let call = |breaker: &CircuitBreaker, n| {
        let result = ready_now(breaker.call(|| ready(work(n))));
        look_at(&result);
        !matches!(result, Err(CircuitBreakerError::CircuitOpen | CircuitBreakerError::Rejected))
    };
    let config = CircuitBreakerConfig::builder().consecutive_failures(FAILURES).sliding_window_size(100);
    let config = config.failure_rate_threshold(0.5).wait_duration(HOUR).build();
    let make = || CircuitBreaker::new(config.clone());
    row("breaker", "5 in a row, or of the last 100; async", make, |breaker| breaker.trip(), call)
}

fn reliakit() -> Row {
    use reliakit::circuit::CircuitBreaker;
    // It counts time in a unit of the caller's, and leaves the lock to the caller.
    struct Locked {
        breaker: Mutex<CircuitBreaker>,
        origin: Instant,
    }
    let call = |locked: &Locked, n| {
        let now = || locked.origin.elapsed().as_millis() as u64;
        let breaker = || locked.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let time = now();
        if !breaker().allow(time) {
            return false;
        }
        let result = work(n);
        look_at(&result);
        match result {
            Ok(_) => breaker().on_success(),
            Err(_) => {
                let time = now();
                breaker().on_failure(time);
            }
        }
        true
    };
    let make = || Locked {
        breaker: Mutex::new(CircuitBreaker::new(FAILURES, HOUR.as_millis() as u64)),
        origin: Instant::now(),
    };
    row("reliakit", "5 in a row", make, |breaker| while call(breaker, 0) {}, call)
        .note("Not synchronized itself, and has no clock: here in a `Mutex`, with `Instant`.")
}

fn seatbelt() -> Row {
    use layered::{Execute, Service, Stack};
    use seatbelt::breaker::Breaker;
    use seatbelt::{RecoveryInfo, ResilienceContext};
    // Nothing here waits for a timer, so that nobody has to drive the clock; but it lives as long as its driver.
    let (clock, driver) = tick::runtime::InactiveClock::new_shared().activate(Waker::noop().clone());
    Box::leak(Box::new(driver));
    let context = ResilienceContext::new(&clock);
    let make = || {
        let layer = Breaker::layer("peer", &context)
            .recovery_with(|result: &Result<u64, Fault>, _| match result {
                Ok(_) => RecoveryInfo::never(),
                Err(_) => RecoveryInfo::retry(),
            })
            .rejected_input_error(|_, _| Fault)
            .sampling_duration(Duration::from_secs(10))
            .break_duration(HOUR);
        (layer, Execute::new(|n| ready(work(n)))).into_service()
    };
    fn call(service: &impl Service<u64, Out = Result<u64, Fault>>, n: u64) -> bool {
        // Its rejections are of the call's own type.
        let result = ready_now(service.execute(n));
        look_at(&result);
        result.is_ok()
    }
    let trip = |service: &_| while call(service, 1) && !call(service, 0) {};
    row("seatbelt", "last 10 s, async", make, trip, call)
}

fn circuitbreaker_rs() -> Row {
    use circuitbreaker_rs::{BreakerError, CircuitBreaker, DefaultPolicy};
    type Peer = CircuitBreaker<DefaultPolicy, Fault>;
    let call = |breaker: &Peer, n| {
        let result = breaker.call(|| work(n));
        look_at(&result);
        !matches!(result, Err(BreakerError::Open))
    };
    let make = || Peer::builder().consecutive_failures(u64::from(FAILURES)).cooldown(HOUR).build();
    row("circuitbreaker-rs", "lifetime rate, or 5 in a row", make, |breaker| _ = breaker.force_open(), call)
}

fn tower_resilience() -> Row {
    use tokio::runtime::{EnterGuard, Runtime};
    use tower_resilience_circuitbreaker::{
        CircuitBreaker, CircuitBreakerError, CircuitBreakerLayer, DefaultClassifier,
    };
    use tower_service::Service;

    #[derive(Clone)]
    struct Work;

    impl Service<u64> for Work {
        type Response = u64;
        type Error = Fault;
        type Future = Ready<Result<u64, Fault>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Fault>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, n: u64) -> Self::Future {
            ready(work(n))
        }
    }

    type Peer = CircuitBreaker<Work, DefaultClassifier>;
    let make = || {
        let builder = CircuitBreakerLayer::builder().consecutive_failures(FAILURES as usize);
        builder.wait_duration_in_open(HOUR).build().expect("legal numbers").layer_fn(Work)
    };
    let open = || {
        let service = make();
        ready_now(service.force_open());
        service
    };
    // Asked while another thread asks, an open one sets a timer, for which it needs a runtime.
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_time().build().expect("a runtime can be made")
    });
    let own = |service: &Peer| (service.clone(), RUNTIME.enter());
    let call = |_: &Peer, (service, _): &mut (Peer, EnterGuard<'static>), n| {
        let mut context = Context::from_waker(Waker::noop());
        while service.poll_ready(&mut context).is_pending() {
            std::hint::spin_loop();
        }
        let result = ready_now(service.call(n));
        look_at(&result);
        !matches!(result, Err(CircuitBreakerError::OpenCircuit))
    };
    let closed = Subject::new(make, own, call);
    let open = Subject::new(open, own, call);
    Row::new(Group::Peer, named("tower-resilience-circuitbreaker"), "5 in a row, async", closed)
        .rejecting(open)
        .note(LOCK_NOTE)
}
