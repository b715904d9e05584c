//! Fallbacks by operation.

use std::error::Error as _;
use std::io::{Error, ErrorKind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use failfast::{CallError, CircuitBreaker, Consecutive, FallbackError, Fallbacks, ManualClock, Outcome};

type Quotes = Fallbacks<u32, u32, &'static str>;

fn breaker(clock: &ManualClock) -> CircuitBreaker<Consecutive, &ManualClock> {
    CircuitBreaker::builder().failures(1).open_for(Duration::from_secs(10)).clock(clock).build().unwrap()
}

/// Answers 10 times the request, and 20 times in a future.
fn quotes() -> Quotes {
    Fallbacks::new()
        .on_rejected("rejected", |request, _| Ok(request * 10))
        .on_error("error", |request, _| Ok(request * 10))
        .on_rejected("both", |request, _| Ok(request * 10))
        .on_rejected_async("both", times_20)
        .on_rejected_async("rejected, async", times_20)
        .on_error_async("error, async", times_20)
}

fn times_20(request: &u32, _: &CallError<&'static str>) -> std::future::Ready<Result<u32, &'static str>> {
    std::future::ready(Ok(request * 20))
}

#[test]
fn the_call_s_value_goes_before_any_fallback_s() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    for operation in quotes().operations() {
        assert_eq!(quotes().resolve(operation, &1, breaker.call(|| Ok(7))), Ok(7));
        let call = breaker.call_async(|| async { Ok(7) });
        assert_eq!(pollster::block_on(quotes().resolve_async(operation, &1, call)), Ok(7));
    }
}

#[test]
fn a_fallback_stands_in_for_what_it_was_registered_for() {
    let clock = ManualClock::new();
    let quotes = quotes();
    let ask = |operation: &str, is_open: bool| {
        let breaker = breaker(&clock);
        if is_open {
            breaker.open();
        }
        let sync = quotes.resolve(operation, &1, breaker.call(|| Err("down"))).ok();
        let breaker = self::breaker(&clock);
        if is_open {
            breaker.open();
        }
        let call = breaker.call_async(|| async { Err("down") });
        (sync, pollster::block_on(quotes.resolve_async(operation, &1, call)).ok())
    };
    // Of a rejected call and of a failed one: sync and async.
    assert_eq!((ask("rejected", true), ask("rejected", false)), ((Some(10), Some(10)), (None, None)));
    assert_eq!((ask("error", true), ask("error", false)), ((Some(10), Some(10)), (Some(10), Some(10))));
    assert_eq!((ask("both", true), ask("both", false)), ((Some(10), Some(20)), (None, None)));
    assert_eq!((ask("rejected, async", true), ask("rejected, async", false)), ((None, Some(20)), (None, None)));
    assert_eq!((ask("error, async", true), ask("error, async", false)), ((None, Some(20)), (None, Some(20))));
    assert_eq!((ask("unknown", true), ask("unknown", false)), ((None, None), (None, None)));
}

#[test]
fn without_a_fallback_the_error_is_the_call_s_own() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let failed = quotes().resolve("unknown", &1, breaker.call(|| Err("down"))).unwrap_err();
    assert_eq!(failed, FallbackError::Call(CallError::Failed("down")));
    assert_eq!(failed.to_string(), "down");
    let rejected = quotes().resolve("unknown", &1, breaker.call(|| Ok(7))).unwrap_err();
    assert!(rejected.cause().rejected().is_some());
    assert_eq!(rejected.to_string(), "circuit open: 1 call failed in a row (limit 1); retry in 10.0 s");
}

#[test]
fn a_failed_fallback_says_whose_after_what_and_why() {
    let clock = ManualClock::new();
    let refused = || Error::from(ErrorKind::ConnectionRefused);
    let quotes: Fallbacks<(), u32, Error> = Fallbacks::new()
        .on_error("quote", move |(), _| Err(refused()))
        .on_error_async("price", move |(), _| async move { Err(refused()) });
    let breaker = breaker(&clock);
    let timed_out = || Err(Error::from(ErrorKind::TimedOut));

    let error = quotes.resolve("quote", &(), breaker.call(timed_out)).unwrap_err();
    let text = "fallback for \"quote\" failed after the call failed (timed out): connection refused";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.source().unwrap().downcast_ref::<Error>().unwrap().kind(), ErrorKind::ConnectionRefused);

    clock.advance(Duration::from_millis(3_100));
    let error = quotes.resolve("quote", &(), breaker.call(timed_out)).unwrap_err();
    let text = "failed after the call was rejected (circuit open, retry in 6.9 s): connection refused";
    assert_eq!(error.to_string(), format!("fallback for \"quote\" {text}"));

    let call = breaker.call_async(|| async { Ok(1) });
    let error = pollster::block_on(quotes.resolve_async("price", &(), call)).unwrap_err();
    assert_eq!(error.to_string(), format!("fallback for \"price\" {text}"));
    assert!(matches!(&error, FallbackError::Fallback(failed) if failed.cause().rejected().is_some()));

    breaker.force_open();
    let error = quotes.resolve("quote", &(), breaker.call(timed_out)).unwrap_err();
    let text = "failed after the call was rejected (circuit forced open by hand): connection refused";
    assert_eq!(error.to_string(), format!("fallback for \"quote\" {text}"));
}

#[test]
fn a_fallback_is_not_recorded_and_its_panic_goes_on() {
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let quotes: Fallbacks<(), u32, &str> = Fallbacks::new().on_error("quote", |(), _| panic!("a fallback's own"));
    let neutral = |_: &Result<u32, &str>| Outcome::Ignored;
    let ask = || quotes.resolve("quote", &(), breaker.call_with(neutral, || Err("bad request")));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask)).is_err());
    assert_eq!(breaker.snapshot().consecutive_failures(), Some(0));
}

#[test]
fn an_async_fallback_waits_and_can_be_dropped() {
    use std::task::{Context, Poll, Waker};

    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    breaker.open();
    let polls = Arc::new(AtomicU32::new(0));
    let count = polls.clone();
    let quotes: Fallbacks<(), u32, &str> = Fallbacks::new().on_rejected_async("quote", move |(), _| {
        let count = count.clone();
        std::future::poll_fn(move |_| match count.fetch_add(1, SeqCst) {
            0 | 2 => Poll::Pending,
            _ => Poll::Ready(Ok(41)),
        })
    });
    let mut context = Context::from_waker(Waker::noop());
    let calls = Mutex::new(0);
    let ask = || {
        quotes.resolve_async(
            "quote",
            &(),
            breaker.call_async(|| {
                *calls.lock().unwrap() += 1;
                async { Ok(42) }
            }),
        )
    };
    let mut future = std::pin::pin!(ask());
    assert_eq!(future.as_mut().poll(&mut context), Poll::Pending);
    assert_eq!(future.as_mut().poll(&mut context), Poll::Ready(Ok(41)));
    {
        let mut dropped = std::pin::pin!(ask());
        assert_eq!(dropped.as_mut().poll(&mut context), Poll::Pending);
    }
    assert_eq!((polls.load(SeqCst), *calls.lock().unwrap()), (3, 0));
}

#[test]
fn a_later_registration_replaces_an_earlier_one() {
    let quotes: Fallbacks<(), u32, &str> =
        Fallbacks::new().on_error("quote", |(), _| Ok(1)).on_rejected("quote", |(), _| Ok(2));
    assert!(quotes.operations().eq(["quote"]));
    assert_eq!(quotes.resolve("quote", &(), Err(CallError::Failed("down"))).ok(), None);
}

#[test]
fn tables_futures_and_errors_go_wherever_they_are_wanted() {
    fn is_shared<T: Send + Sync>(_: T) {}
    fn is_send<T: Send>(_: T) {}
    let clock = ManualClock::new();
    let breaker = breaker(&clock);
    let quotes = quotes();
    is_shared(&quotes);
    is_send(quotes.resolve_async("error, async", &1, breaker.call_async(|| async { Ok(1) })));
    let error: FallbackError<Error> = FallbackError::Call(CallError::Failed(ErrorKind::TimedOut.into()));
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    is_shared(boxed);
}
