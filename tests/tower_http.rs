//! Rejections as responses, and gRPC's status wherever it comes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use failfast::tower::{CircuitBreakerLayer, grpc, http as replies};
use failfast::{
    Builder, CallError, CircuitBreaker, Consecutive, ManualClock, OnCancel, Outcome, Reason, Rejected, State,
};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use tower::{ServiceBuilder, ServiceExt, service_fn};

type Manual = CircuitBreaker<Consecutive, Arc<ManualClock>>;

fn builder() -> Builder {
    CircuitBreaker::builder().failures(1).probes(1)
}

fn manual(builder: Builder) -> (Arc<Manual>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (Arc::new(builder.clock(clock.clone()).build().unwrap()), clock)
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// A body as written down; `Wait` is pending once.
#[derive(Clone)]
enum Step {
    Data(&'static [u8]),
    Trailers(HeaderMap),
    Wait,
    Error,
    Panic,
}

#[derive(Clone, Default)]
struct Script {
    steps: VecDeque<Step>,
    /// Whether it tells that it has ended before it says so.
    tells_end: bool,
}

impl Body for Script {
    type Data = &'static [u8];
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(match self.steps.pop_front() {
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Error) => Some(Err("reset")),
            Some(Step::Panic) => panic!("in the body"),
            Some(Step::Wait) => return Poll::Pending,
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.tells_end && self.steps.is_empty()
    }
}

fn trailers(pairs: &[(&'static str, &str)]) -> Step {
    Step::Trailers(headers(pairs))
}

fn script(steps: impl Into<VecDeque<Step>>) -> Script {
    Script { steps: steps.into(), tells_end: false }
}

fn response(status: u16, head: &[(&'static str, &str)], body: Script) -> Response<Script> {
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().unwrap();
    *response.headers_mut() = headers(head);
    response
}

type Guarded = grpc::Body<Script, Arc<Manual>>;

fn call(breaker: &Arc<Manual>, by: grpc::ByStatus, response: Response<Script>) -> Response<Guarded> {
    let service = service_fn(move |()| std::future::ready(Ok::<_, Infallible>(response.clone())));
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(by);
    pollster::block_on(ServiceBuilder::new().layer(layer).service(service).oneshot(())).unwrap()
}

fn frame(body: &mut Guarded) -> Poll<Option<Result<Frame<&'static [u8]>, &'static str>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// Reads it to its end, or its error.
fn read(body: &mut Guarded) {
    while !matches!(frame(body), Poll::Ready(None | Some(Err(_)))) {}
}

/// The state after one response has been read.
fn state_after(by: grpc::ByStatus, answer: Response<Script>) -> State {
    let (breaker, _) = manual(builder());
    read(call(&breaker, by, answer).body_mut());
    breaker.state()
}

#[test]
fn the_trailers_settle_the_call() {
    let by = grpc::ByStatus::new();
    for (code, state) in [
        ("0", State::Closed),
        ("1", State::Closed),
        ("5", State::Closed),
        ("8", State::Closed),
        ("2", State::Open),
        ("4", State::Open),
        ("13", State::Open),
        ("14", State::Open),
        ("15", State::Open),
        ("99", State::Open),
        ("junk", State::Open),
    ] {
        let (breaker, _) = manual(builder());
        let body = script([Step::Data(b"1"), Step::Wait, Step::Data(b"2"), trailers(&[("grpc-status", code)])]);
        let mut response = call(&breaker, by, response(200, &[], body));
        for _ in 0..3 {
            _ = frame(response.body_mut());
            assert_eq!(breaker.state(), State::Closed, "its status is not known yet");
        }
        let last = frame(response.body_mut());
        assert!(matches!(last, Poll::Ready(Some(Ok(last))) if last.trailers_ref().unwrap()["grpc-status"] == code));
        assert_eq!(breaker.state(), state, "{code}");
        assert!(matches!(frame(response.body_mut()), Poll::Ready(None)));
    }
}

#[test]
fn a_status_in_the_head_settles_it_at_once() {
    for (code, state) in [("0", State::Closed), ("3", State::Closed), ("14", State::Open)] {
        let (breaker, _) = manual(builder().on_cancel(OnCancel::Failure));
        drop(call(&breaker, grpc::ByStatus::new(), response(200, &[("grpc-status", code)], script([]))));
        assert_eq!(breaker.state(), state, "{code}");
    }
}

#[test]
fn pushback_opens_for_as_long() {
    for (status, wait, state) in [
        ("14", "7000", Some(7000)),
        ("8", "7000", Some(7000)),
        ("14", "0", Some(30_000)),
        ("14", "-1", Some(30_000)),
        ("8", "-1", None),
        ("5", "7000", None),
        ("0", "7000", None),
    ]
    .map(|(status, wait, millis)| (status, wait, millis.map(Duration::from_millis)))
    {
        let pairs = [("grpc-status", status), ("grpc-retry-pushback-ms", wait)];
        for answer in [response(200, &pairs, script([])), response(200, &[], script([trailers(&pairs)]))] {
            let (breaker, _) = manual(builder());
            read(call(&breaker, grpc::ByStatus::new(), answer).body_mut());
            assert_eq!(breaker.snapshot().retry_after(), state, "{status}, {wait}");
        }
    }
}

#[test]
fn a_response_without_a_status_counts_by_its_http_status() {
    for (status, state) in [
        (200, State::Open),
        (400, State::Open), // INTERNAL
        (401, State::Closed),
        (403, State::Closed),
        (404, State::Closed), // UNIMPLEMENTED
        (429, State::Open),
        (503, State::Open),
        (500, State::Open),
    ] {
        let answer = response(status, &[], script([Step::Data(b"<html>")]));
        assert_eq!(state_after(grpc::ByStatus::new(), answer), state, "{status}");
    }
    // Trailers without one, after which nobody asks for more.
    let (breaker, _) = manual(builder());
    _ = frame(call(&breaker, grpc::ByStatus::new(), response(200, &[], script([trailers(&[])]))).body_mut());
    assert_eq!(breaker.state(), State::Open);
    // An end that is told and not said.
    for steps in [vec![], vec![Step::Data(b"1")]] {
        let (breaker, _) = manual(builder());
        let body = Script { steps: steps.clone().into(), tells_end: true };
        let mut response = call(&breaker, grpc::ByStatus::new(), response(200, &[], body));
        for _ in &steps {
            _ = frame(response.body_mut());
        }
        assert!(response.body().is_end_stream());
        assert_eq!(breaker.state(), State::Open);
    }
}

#[test]
fn a_body_that_breaks_off_is_what_was_chosen() {
    let body = script([Step::Data(b"1"), Step::Error]);
    let answer = response(200, &[], body);
    assert_eq!(state_after(grpc::ByStatus::new(), answer.clone()), State::Open);
    assert_eq!(state_after(grpc::ByStatus::new().on_body_error(Outcome::Ignored), answer), State::Closed);
}

#[test]
fn a_body_that_panics_is_a_failure() {
    let (breaker, _) = manual(builder());
    let mut response = call(&breaker, grpc::ByStatus::new(), response(200, &[], script([Step::Panic])));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(frame(response.body_mut())))).is_err());
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_body_that_is_dropped_is_a_cancelled_call() {
    for (on_cancel, state) in [
        (OnCancel::Neutral, State::Closed),
        (OnCancel::Failure, State::Open),
        (OnCancel::FailureAfter(Duration::from_secs(2)), State::Open),
        (OnCancel::FailureAfter(Duration::from_secs(3)), State::Closed),
    ] {
        let (breaker, clock) = manual(builder().on_cancel(on_cancel));
        let mut response = call(&breaker, grpc::ByStatus::new(), response(200, &[], script([Step::Data(b"1")])));
        _ = frame(response.body_mut());
        clock.advance(Duration::from_secs(2));
        drop(response);
        assert_eq!(breaker.state(), state, "{on_cancel:?}");
    }
}

#[test]
fn a_probes_place_is_taken_until_its_body_ends() {
    let (breaker, clock) = manual(builder());
    breaker.open();
    clock.advance(Duration::from_secs(30));
    let answer = response(200, &[], script([Step::Data(b"1"), trailers(&[("grpc-status", "0")])]));
    let mut probe = call(&breaker, grpc::ByStatus::new(), answer);
    assert!(breaker.try_acquire().is_err());
    read(probe.body_mut());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn outcomes_can_be_chosen() {
    let by = grpc::ByStatus::new().outcomes(|code, pushback| match code {
        5 => Outcome::Failure,
        13 => Outcome::Ignored,
        _ => failfast::grpc::outcome_of(code, pushback),
    });
    for (code, state) in [("5", State::Open), ("13", State::Closed), ("14", State::Open)] {
        assert_eq!(state_after(by, response(200, &[], script([trailers(&[("grpc-status", code)])]))), state);
    }
}

#[test]
fn an_error_instead_of_a_response_is_a_failure() {
    let (breaker, _) = manual(builder());
    let layer = CircuitBreakerLayer::new(breaker.clone()).classify(grpc::ByStatus::new());
    let service = service_fn(|()| async { Err::<Response<Script>, _>("refused") });
    let result = pollster::block_on(ServiceBuilder::new().layer(layer).service(service).oneshot(()));
    assert!(matches!(result, Err(CallError::Failed("refused"))));
    assert_eq!(breaker.state(), State::Open);
}

fn rejected(wait: Duration) -> Rejected {
    let (breaker, _) = manual(builder().open_for(wait));
    breaker.open();
    breaker.try_acquire().unwrap_err()
}

#[test]
fn waits_are_rounded_up() {
    for (wait, seconds, millis) in [
        (Duration::from_millis(1), "1", "1"),
        (Duration::from_millis(1000), "1", "1000"),
        (Duration::from_millis(1001), "2", "1001"),
        (Duration::from_nanos(2_000_000_001), "3", "2001"),
        (Duration::from_secs(86_400 * 365), "31536000", "2147483647"), // a pushback has 31 bits
    ] {
        let http: Response<String> = replies::unavailable(&rejected(wait));
        assert_eq!(http.status(), 503);
        assert_eq!(http.headers()["retry-after"], seconds);
        let grpc: Response<String> = grpc::unavailable(&rejected(wait));
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["content-type"], "application/grpc");
        assert_eq!(grpc.headers()["grpc-status"], "14");
        assert_eq!(grpc.headers()["grpc-retry-pushback-ms"], millis);
    }
    // The last of a wait.
    let (breaker, clock) = manual(builder());
    breaker.open();
    clock.advance(Duration::from_nanos(29_999_999_999));
    let last = breaker.try_acquire().unwrap_err();
    assert_eq!(replies::unavailable::<()>(&last).headers()["retry-after"], "1");
    assert_eq!(grpc::unavailable::<()>(&last).headers()["grpc-retry-pushback-ms"], "1");
}

#[test]
fn a_wait_that_is_not_known_is_not_told() {
    let (breaker, clock) = manual(builder());
    breaker.open();
    clock.advance(Duration::from_secs(30));
    let _probe = breaker.try_acquire().unwrap();
    let half_open = breaker.try_acquire().unwrap_err();
    breaker.force_open();
    for rejected in [half_open, breaker.try_acquire().unwrap_err()] {
        assert!(!replies::unavailable::<()>(&rejected).headers().contains_key("retry-after"));
        assert!(!grpc::unavailable::<()>(&rejected).headers().contains_key("grpc-retry-pushback-ms"));
    }
}

#[test]
fn a_message_is_encoded_as_grpc_demands() {
    let window = failfast::CountWindow::over(4).min_calls(2).failure_rate(50.0);
    let breaker = CircuitBreaker::builder().policy(window).clock(Arc::new(ManualClock::new())).build().unwrap();
    _ = breaker.try_acquire().map(|permit| permit.success());
    breaker.try_acquire().unwrap().failure();
    let rejected = breaker.try_acquire().unwrap_err();
    assert_eq!(rejected.reason(), Some(Reason::FailureRate));
    assert!(rejected.to_string().contains("(limit 50 %)"));
    let response: Response<String> = grpc::unavailable(&rejected);
    let message = response.headers()["grpc-message"].to_str().unwrap();
    assert_eq!(message, rejected.to_string().replace('%', "%25"));
}

#[test]
fn rejections_become_responses() {
    let (breaker, _) = manual(builder());
    let layer = CircuitBreakerLayer::new(breaker.clone());
    let plain = service_fn(|()| async { Ok::<_, Infallible>(Response::new(String::from("hello"))) });
    let plain = ServiceBuilder::new().layer(layer.clone().on_rejected(replies::unavailable)).service(plain);
    let answer = || pollster::block_on(plain.clone().oneshot(()));
    let Ok(response) = answer();
    assert_eq!(response.body(), "hello");
    breaker.open();
    let Ok(response) = answer();
    assert_eq!((response.status().as_u16(), response.body().as_str()), (503, ""));

    let layer = layer.on_rejected(grpc::unavailable).classify(grpc::ByStatus::new());
    let streaming = service_fn(|()| async { Ok::<_, Infallible>(response_of(trailers(&[("grpc-status", "0")]))) });
    let streaming = ServiceBuilder::new().layer(layer).service(streaming);
    let Ok(response) = pollster::block_on(streaming.oneshot(()));
    assert_eq!(response.headers()["grpc-status"], "14");
}

fn response_of(step: Step) -> Response<Script> {
    response(200, &[], script([step]))
}
