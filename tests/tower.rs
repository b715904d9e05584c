//! A breaker around a tower service: who is asked when, which inner service is called, and what is settled.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use failfast::tower::{AsError, ByResult, CircuitBreakerLayer, CircuitBreakerService, ResponseFuture};
use failfast::{
    Builder, CallError, CircuitBreaker, Config, Consecutive, DefaultClock, ManualClock, OnCancel, Outcome, Spec, State,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// What the inner service is to do with a request.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Answer(Result<u32, &'static str>),
    Hang,
    PanicInCall,
    PanicInPoll,
}

#[derive(Default)]
struct Seen {
    ready: AtomicBool,
    broken: AtomicBool,
    clones: AtomicU32,
    polled: AtomicU32,
    /// The numbers of those that were called.
    called: Mutex<Vec<u32>>,
    /// How many hold a place: ready, or waiting for it, and neither called nor dropped.
    places: AtomicU32,
}

/// Takes a place in `poll_ready`, panics when it is called unready, and knows each of its clones by number.
struct Inner {
    number: u32,
    has_place: bool,
    is_ready: bool,
    seen: Arc<Seen>,
}

impl Inner {
    fn new() -> (Self, Arc<Seen>) {
        let seen = Arc::new(Seen { ready: true.into(), ..Seen::default() });
        (Self { number: 0, has_place: false, is_ready: false, seen: seen.clone() }, seen)
    }

    fn give_back(&mut self) {
        self.is_ready = false;
        if std::mem::take(&mut self.has_place) {
            self.seen.places.fetch_sub(1, SeqCst);
        }
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        let number = self.seen.clones.fetch_add(1, SeqCst) + 1;
        Self { number, has_place: false, is_ready: false, seen: self.seen.clone() }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.give_back();
    }
}

type Answering = std::pin::Pin<Box<dyn Future<Output = Result<u32, &'static str>> + Send>>;

impl Service<Ask> for Inner {
    type Response = u32;
    type Error = &'static str;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.seen.polled.fetch_add(1, SeqCst);
        if self.seen.broken.load(SeqCst) {
            return Poll::Ready(Err("broken"));
        }
        if !std::mem::replace(&mut self.has_place, true) {
            self.seen.places.fetch_add(1, SeqCst);
        }
        self.is_ready = self.seen.ready.load(SeqCst);
        if self.is_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(self.is_ready, "called before it was ready");
        self.give_back();
        self.seen.called.lock().unwrap().push(self.number);
        match ask {
            Ask::Answer(answer) => Box::pin(async move { answer }),
            Ask::Hang => Box::pin(std::future::pending()),
            Ask::PanicInCall => panic!("in call"),
            Ask::PanicInPoll => Box::pin(async { panic!("in poll") }),
        }
    }
}

type Breaker = CircuitBreaker<Consecutive, Arc<ManualClock>>;
type Guarded = CircuitBreakerService<Inner, Arc<Breaker>>;

struct Bench {
    clock: Arc<ManualClock>,
    breaker: Arc<Breaker>,
    service: Guarded,
    seen: Arc<Seen>,
}

/// One failure opens it, for 30 s; one probe closes it.
fn builder() -> Builder {
    CircuitBreaker::builder().failures(1).probes(1)
}

fn bench(builder: Builder<Spec<Consecutive>, DefaultClock>) -> Bench {
    let clock = Arc::new(ManualClock::new());
    let breaker = Arc::new(builder.clock(clock.clone()).build().unwrap());
    let (inner, seen) = Inner::new();
    let service = CircuitBreakerLayer::new(breaker.clone()).layer(inner);
    Bench { clock, breaker, service, seen }
}

fn poll_ready(service: &mut Guarded) -> Poll<Result<(), CallError<&'static str>>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The answer of a service that was made ready, without waiting.
fn now(future: impl Future<Output = Result<u32, CallError<&'static str>>>) -> Result<u32, CallError<&'static str>> {
    match poll(pin!(future)) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it is not ready"),
    }
}

const OK: Ask = Ask::Answer(Ok(1));
const ERROR: Ask = Ask::Answer(Err("down"));

#[test]
fn a_closed_breaker_calls_the_inner_service_that_it_made_ready() {
    let Bench { mut service, seen, .. } = bench(builder());
    for _ in 0..3 {
        assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
        assert_eq!(now(service.call(OK)), Ok(1));
    }
    assert_eq!(*seen.called.lock().unwrap(), [0, 0, 0]);
    assert_eq!(seen.clones.load(SeqCst), 0);
}

#[test]
fn a_closed_breaker_is_as_ready_as_the_inner_service() {
    let Bench { mut service, seen, breaker, .. } = bench(builder());
    for admit_all in [|_: &Breaker| (), |b: &Breaker| b.disable(), |b: &Breaker| b.metrics_only()] {
        admit_all(&breaker);
        seen.ready.store(false, SeqCst);
        assert_eq!(poll_ready(&mut service), Poll::Pending);
        seen.ready.store(true, SeqCst);
        assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
        assert_eq!(now(service.call(OK)), Ok(1));
    }
    assert_eq!(seen.clones.load(SeqCst), 0);
}

#[test]
fn no_rejection_waits_for_the_inner_service() {
    let Bench { mut service, seen, breaker, clock } = bench(builder());
    seen.ready.store(false, SeqCst);
    assert_eq!(poll_ready(&mut service), Poll::Pending);
    let polled = seen.polled.load(SeqCst);

    breaker.open();
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    let rejected = now(service.call(OK)).unwrap_err();
    assert_eq!(rejected.rejected().unwrap().retry_after(), Some(Duration::from_secs(30)));

    // Half-open with its probe out.
    clock.advance(Duration::from_secs(30));
    let mut other = service.clone();
    assert_eq!(poll_ready(&mut other), Poll::Ready(Ok(())));
    let _probe = other.call(OK);
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    assert_eq!(now(service.call(OK)).unwrap_err().rejected().unwrap().state(), State::HalfOpen);

    breaker.force_open();
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    assert_eq!(now(service.call(OK)).unwrap_err().rejected().unwrap().state(), State::ForcedOpen);

    assert_eq!(seen.polled.load(SeqCst), polled, "who rejects leaves the inner service alone");
    assert!(seen.called.lock().unwrap().is_empty());
}

/// Otherwise who waits behind it for a place waits for good.
#[test]
fn a_rejection_gives_back_the_inner_services_place() {
    for ready in [true, false] {
        let Bench { mut service, seen, breaker, .. } = bench(builder());
        seen.ready.store(ready, SeqCst);
        assert_eq!(poll_ready(&mut service).is_ready(), ready);
        assert_eq!(seen.places.load(SeqCst), 1);
        breaker.open();
        assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
        assert!(now(service.call(OK)).is_err());
        assert_eq!(seen.places.load(SeqCst), 0);
        assert!(now(service.call(OK)).is_err());
        assert_eq!(seen.clones.load(SeqCst), 1, "only one that has a place is replaced");
    }
}

#[test]
fn a_probe_makes_the_inner_service_ready_itself() {
    let Bench { mut service, seen, breaker, clock } = bench(builder());
    seen.ready.store(false, SeqCst);
    breaker.open();
    clock.advance(Duration::from_secs(30));
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    let mut probe = pin!(service.call(OK));
    assert_eq!(poll(probe.as_mut()), Poll::Pending);
    assert_eq!(breaker.state(), State::HalfOpen);
    seen.ready.store(true, SeqCst);
    assert_eq!(poll(probe.as_mut()), Poll::Ready(Ok(1)));
    assert_eq!(breaker.state(), State::Closed);
    assert_eq!(*seen.called.lock().unwrap(), [0]);
    // Its place has been taken by a clone, which is made ready before it is called.
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    assert_eq!(now(service.call(OK)), Ok(1));
    assert_eq!(*seen.called.lock().unwrap(), [0, 1]);
}

#[test]
fn a_probe_whose_inner_service_does_not_become_ready_fails_or_is_cancelled() {
    let Bench { mut service, seen, breaker, clock } = bench(builder());
    seen.ready.store(false, SeqCst);
    breaker.open();
    clock.advance(Duration::from_secs(30));
    drop(service.call(OK));
    assert_eq!(breaker.state(), State::HalfOpen, "the place is free again");
    seen.broken.store(true, SeqCst);
    assert_eq!(now(service.call(OK)), Err(CallError::Failed("broken")));
    assert_eq!(breaker.state(), State::Open);
}

/// Opened when `poll_ready` was asked, and closed again when `call` is.
#[test]
fn an_unready_inner_service_is_not_called() {
    let Bench { mut service, breaker, .. } = bench(builder());
    breaker.open();
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    breaker.close();
    assert_eq!(now(service.call(OK)), Ok(1));
    // Not asked at all.
    assert_eq!(now(service.call(OK)), Ok(1));
    // Asked, and no longer ready.
    let (inner, seen) = Inner::new();
    let mut service = CircuitBreakerLayer::new(breaker).layer(inner);
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    seen.ready.store(false, SeqCst);
    assert_eq!(poll_ready(&mut service), Poll::Pending);
    let mut call = pin!(service.call(OK));
    assert_eq!(poll(call.as_mut()), Poll::Pending);
    seen.ready.store(true, SeqCst);
    assert_eq!(poll(call.as_mut()), Poll::Ready(Ok(1)));
}

#[test]
fn a_clone_is_not_ready() {
    let Bench { mut service, seen, .. } = bench(builder());
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    let mut clone = service.clone();
    seen.ready.store(false, SeqCst);
    assert_eq!(poll(pin!(clone.call(OK))), Poll::Pending);
    assert_eq!(now(service.call(OK)), Ok(1));
    assert_eq!(*seen.called.lock().unwrap(), [0]);
}

#[test]
fn failing_to_become_ready_is_a_failure() {
    let Bench { mut service, seen, breaker, .. } = bench(builder().failures(2));
    seen.broken.store(true, SeqCst);
    assert_eq!(poll_ready(&mut service), Poll::Ready(Err(CallError::Failed("broken"))));
    assert_eq!(breaker.snapshot().consecutive_failures(), Some(1));
    assert_eq!(poll_ready(&mut service), Poll::Ready(Err(CallError::Failed("broken"))));
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    assert!(now(service.call(OK)).unwrap_err().rejected().is_some());
}

#[test]
fn poll_ready_reserves_nothing() {
    let Bench { mut service, breaker, clock, .. } = bench(builder());
    breaker.open();
    clock.advance(Duration::from_secs(30));
    for _ in 0..3 {
        assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    }
    assert!(breaker.try_acquire().is_ok(), "the only probe's place is free");
}

#[test]
fn errors_are_failures_and_are_passed_on() {
    let Bench { mut service, breaker, .. } = bench(builder());
    assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
    assert_eq!(now(service.call(ERROR)), Err(CallError::Failed("down")));
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_classifier_sees_responses_and_errors() {
    let (inner, _) = Inner::new();
    let breaker = builder().build().unwrap();
    let layer = CircuitBreakerLayer::new(breaker).classify(|result: &Result<u32, &'static str>| match result {
        Ok(7) => Outcome::OpenFor(Some(Duration::from_secs(7))),
        Err("mine") => Outcome::Ignored,
        other => Outcome::of(other),
    });
    let mut service = layer.layer(inner);
    let mut ask = |answer| pollster::block_on(async { service.ready().await.unwrap().call(Ask::Answer(answer)).await });
    assert_eq!(ask(Err("mine")), Err(CallError::Failed("mine")));
    assert_eq!(layer.breaker().state(), State::Closed);
    assert_eq!(ask(Ok(7)), Ok(7));
    let wait = layer.breaker().snapshot().retry_after().unwrap();
    assert!(wait > Duration::from_secs(6) && wait <= Duration::from_millis(7001), "{wait:?}");
}

#[test]
fn clones_and_services_of_one_layer_share_the_breaker() {
    static BREAKER: CircuitBreaker = CircuitBreaker::new(Consecutive::new(2), Config::new());
    let layer = CircuitBreakerLayer::new(&BREAKER);
    let (first, second) = (layer.layer(Inner::new().0), layer.clone().layer(Inner::new().0));
    let ask = |service: &CircuitBreakerService<Inner, &'static CircuitBreaker>, ask| {
        pollster::block_on(service.clone().oneshot(ask))
    };
    assert_eq!(ask(&first, ERROR), Err(CallError::Failed("down")));
    assert_eq!(ask(&second, ERROR), Err(CallError::Failed("down")));
    assert!(ask(&first, OK).unwrap_err().rejected().is_some());
    assert!(ask(&second.clone(), OK).unwrap_err().rejected().is_some());
}

#[test]
fn a_dropped_response_is_a_cancelled_call() {
    for polls in [0, 1] {
        for (on_cancel, state) in [
            (OnCancel::Neutral, State::Closed),
            (OnCancel::Failure, State::Open),
            (OnCancel::FailureAfter(Duration::from_secs(1)), State::Open),
            (OnCancel::FailureAfter(Duration::from_secs(3)), State::Closed),
        ] {
            let Bench { mut service, breaker, clock, .. } = bench(builder().on_cancel(on_cancel));
            assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
            let mut call = Box::pin(service.call(Ask::Hang));
            (0..polls).for_each(|_| assert_eq!(poll(call.as_mut()), Poll::Pending));
            clock.advance(Duration::from_secs(2));
            drop(call);
            assert_eq!(breaker.state(), state, "{on_cancel:?} after {polls} polls");
        }
    }
}

#[test]
fn panics_are_failures() {
    for ask in [Ask::PanicInCall, Ask::PanicInPoll] {
        let Bench { mut service, breaker, .. } = bench(builder());
        assert_eq!(poll_ready(&mut service), Poll::Ready(Ok(())));
        assert!(catch_unwind(AssertUnwindSafe(|| now(service.call(ask)))).is_err());
        assert_eq!(breaker.state(), State::Open, "{ask:?}");

        // As a probe that makes the inner service ready first.
        breaker.half_open().unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| now(service.call(ask)))).is_err());
        assert_eq!(breaker.state(), State::Open, "{ask:?}");
    }
}

#[test]
fn a_classifiers_panic_is_a_failure() {
    let layer = CircuitBreakerLayer::new(builder().build().unwrap())
        .classify(|_: &Result<u32, &'static str>| -> Outcome { panic!("in the classifier") });
    let service = layer.layer(Inner::new().0);
    assert!(catch_unwind(AssertUnwindSafe(|| pollster::block_on(service.oneshot(OK)))).is_err());
    assert_eq!(layer.breaker().state(), State::Open);
}

#[test]
#[should_panic(expected = "polled after it was ready")]
fn what_is_polled_again_after_it_panicked_says_so() {
    let Bench { mut service, .. } = bench(builder());
    let mut call = Box::pin(service.call(Ask::PanicInPoll));
    assert!(catch_unwind(AssertUnwindSafe(|| poll(call.as_mut()))).is_err());
    _ = poll(call.as_mut());
}

#[test]
fn a_box_is_the_only_error_where_the_inner_services_is_one() {
    type BoxError = Box<dyn std::error::Error + Send + Sync>;

    let layer = CircuitBreakerLayer::new(builder().build().unwrap());
    let inner = service_fn(|fail: bool| async move { if fail { Err::<u32, BoxError>("down".into()) } else { Ok(1) } });
    let service = ServiceBuilder::new().map_err(CallError::flatten).layer(&layer).service(inner);
    let ask = |fail| -> Result<u32, BoxError> { pollster::block_on(service.clone().oneshot(fail)) };
    assert_eq!(ask(true).unwrap_err().to_string(), "down");
    assert!(ask(false).unwrap_err().is::<failfast::Rejected>());
}

/// A service that is asked by many, as a server does, from more than one thread.
#[test]
fn its_parts_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<CircuitBreakerLayer<Arc<Breaker>>>();
    check::<Guarded>();
    fn send<T: Send>() {}
    send::<ResponseFuture<Inner, Ask, Arc<Breaker>, ByResult, AsError>>();
}

/// No runtime is there, and none is asked for; whoever polls is woken by the inner service alone.
#[test]
fn it_wakes_by_the_inner_services_waker() {
    let layer = CircuitBreakerLayer::new(builder().build().unwrap());
    let service = layer.layer(service_fn(|()| {
        let first = Cell::new(true);
        poll_fn(move |context| {
            if first.replace(false) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok::<_, ()>(1))
        })
    }));
    assert_eq!(pollster::block_on(service.oneshot(())), Ok(1));
}
