//! Among tower's own layers, in the order that the page on tower gives. Time is paused: it moves when all wait for it.

use std::future::{Ready, pending, ready};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use failfast::tower::CircuitBreakerLayer;
use failfast::{CallError, CircuitBreaker, OnCancel, Outcome, Rejected, State};
use tokio::sync::{Mutex, mpsc, oneshot};
use tower::buffer::BufferLayer;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::error::Overloaded;
use tower::timeout::TimeoutLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn breaker(failures: u32) -> Arc<CircuitBreaker> {
    Arc::new(CircuitBreaker::builder().failures(failures).build().unwrap())
}

async fn hang(_: u32) -> Result<u32, BoxError> {
    pending().await
}

#[tokio::test(start_paused = true)]
async fn a_timeout_inside_makes_a_hanging_callee_fail() {
    let breaker = breaker(2);
    let service = ServiceBuilder::new()
        .map_err(CallError::flatten)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(SECOND))
        .service(service_fn(hang));
    for _ in 0..2 {
        assert!(service.clone().oneshot(1).await.unwrap_err().is::<tower::timeout::error::Elapsed>());
    }
    assert!(service.oneshot(1).await.unwrap_err().is::<Rejected>());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_outside_cancels() {
    for (on_cancel, state) in [(OnCancel::Neutral, State::Closed), (OnCancel::Failure, State::Open)] {
        let breaker = CircuitBreaker::builder().failures(2).on_cancel(on_cancel).build().unwrap();
        let layer = CircuitBreakerLayer::new(breaker);
        let service = ServiceBuilder::new()
            .layer(TimeoutLayer::new(SECOND))
            .map_err(CallError::flatten)
            .layer(&layer)
            .service(service_fn(hang));
        for _ in 0..2 {
            assert!(service.clone().oneshot(1).await.is_err());
        }
        assert_eq!(layer.breaker().state(), state);
    }
}

/// Retries twice, and leaves a rejection alone.
#[derive(Clone)]
struct Twice(u32);

impl tower::retry::Policy<u32, u32, BoxError> for Twice {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u32, result: &mut Result<u32, BoxError>) -> Option<Ready<()>> {
        let error = result.as_ref().err()?;
        self.0 = self.0.checked_sub(1)?;
        (!error.is::<Rejected>()).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u32) -> Option<u32> {
        Some(*request)
    }
}

#[tokio::test]
async fn a_retry_outside_shows_every_attempt_and_stops_at_a_rejection() {
    let (breaker, calls) = (breaker(5), Arc::new(AtomicU32::new(0)));
    let counted = calls.clone();
    let fails = service_fn(move |_: u32| {
        counted.fetch_add(1, SeqCst);
        ready(Err::<u32, BoxError>(io::Error::other("down").into()))
    });
    let service = ServiceBuilder::new()
        .retry(Twice(2))
        .map_err(CallError::flatten)
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .service(fails);
    assert_eq!(service.clone().oneshot(1).await.unwrap_err().to_string(), "down");
    assert_eq!(calls.load(SeqCst), 3);
    assert!(service.clone().oneshot(1).await.unwrap_err().is::<Rejected>());
    assert!(service.oneshot(1).await.unwrap_err().is::<Rejected>());
    assert_eq!(calls.load(SeqCst), 5);
}

/// Three that are kept, one place: the first is in it, the others wait for it when the breaker opens. Each waits in a
/// task of its own, so that nobody is woken but by the one place.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_inside_is_rejected_one_after_the_other() {
    let (fail, failed) = oneshot::channel::<()>();
    let failed = Arc::new(Mutex::new(failed));
    let inner = service_fn(move |_: u32| {
        let failed = failed.clone();
        async move {
            _ = (&mut *failed.lock().await).await;
            Err::<u32, _>(io::Error::other("down"))
        }
    });
    let service = ServiceBuilder::new()
        .layer(CircuitBreakerLayer::new(breaker(1)))
        .layer(ConcurrencyLimitLayer::new(1))
        .service(inner);
    let (done, mut is_done) = mpsc::unbounded_channel();
    for _ in 0..3 {
        let (mut service, done) = (service.clone(), done.clone());
        tokio::spawn(async move {
            let result = service.ready().await.unwrap().call(0).await;
            done.send(matches!(result, Err(CallError::Rejected(_)))).unwrap();
            pending::<()>().await; // with the service in its hands
        });
        tokio::task::yield_now().await;
    }
    fail.send(()).unwrap();
    for rejected in [false, true, true] {
        let next = tokio::time::timeout(30 * SECOND, is_done.recv()).await;
        assert_eq!(next.expect("one of them waits for good"), Some(rejected));
    }
}

#[tokio::test]
async fn what_is_shed_inside_can_be_ignored() {
    let layer = CircuitBreakerLayer::new(breaker(1)).classify(|result: &Result<u32, BoxError>| match result {
        Err(error) if error.is::<Overloaded>() => Outcome::Ignored,
        other => Outcome::of(other),
    });
    let mut service =
        ServiceBuilder::new().layer(&layer).load_shed().layer(ConcurrencyLimitLayer::new(1)).service(service_fn(hang));
    let mut shed = service.clone();
    let _in_flight = service.ready().await.unwrap().call(0);
    let error = shed.ready().await.unwrap().call(0).await.unwrap_err();
    assert!(error.into_failed().unwrap().is::<Overloaded>());
    assert_eq!(layer.breaker().state(), State::Closed);
}

/// A service that is not `Clone` goes into a buffer, and the breaker's service may be in one.
#[tokio::test]
async fn buffers_inside_and_outside() {
    struct Single;
    impl Service<u32> for Single {
        type Response = u32;
        type Error = BoxError;
        type Future = Ready<Result<u32, BoxError>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: u32) -> Self::Future {
            ready(if request == 0 { Err("down".into()) } else { Ok(request) })
        }
    }

    let layer = CircuitBreakerLayer::new(breaker(1));
    let service = ServiceBuilder::new()
        .layer(BufferLayer::new(8))
        .map_err(CallError::<BoxError>::flatten)
        .layer(&layer)
        .layer(BufferLayer::new(8))
        .service(Single);
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    assert!(service.clone().oneshot(0).await.is_err());
    assert!(service.oneshot(1).await.unwrap_err().is::<Rejected>());
}
