//! One request through its host's breaker, whoever sends it.

use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;

use reqwest::{Request, Response, Url};

use super::ejection::Ejected;
use super::error::Rejection;
use super::host_key;
use super::timeout::Timeout;
use crate::registry::{Handle, Registry};
use crate::{CallError, Clock, Observer, Outcome, Policy, Rejected};

pub(super) type Classify = Box<dyn Fn(Result<&Response, &reqwest::Error>) -> Outcome + Send + Sync>;

pub(super) struct Guard<P: Policy, C: Clock, O: Observer> {
    pub(super) breakers: Arc<Registry<P, C, O>>,
    pub(super) classify: Classify,
    pub(super) timeout: Timeout,
    pub(super) ejected: Option<Ejected>,
}

impl<P: Policy, C: Clock + Clone, O: Observer> Guard<P, C, O> {
    /// Sends the request if its host's breaker lets it. `as_reqwest` finds reqwest's error in the sender's.
    pub(super) async fn send<E, F, Fut>(
        &self,
        request: Request,
        as_reqwest: fn(&E) -> Option<&reqwest::Error>,
        send: F,
    ) -> Result<Result<Response, E>, Rejection>
    where
        F: FnOnce(Request) -> Fut,
        Fut: Future<Output = Result<Response, E>>,
    {
        let send = |mut request| {
            self.timeout.apply(&mut request);
            send(request)
        };
        let Some(breaker) = host_key(request.url()).map(|host| self.breakers.get(&host)) else {
            // It will not get far; the sender says why.
            return Ok(send(request).await);
        };
        let mut unsent = Some((request, send));
        let called = breaker.call_async_with(
            |result| self.outcome(&breaker, result.as_ref().map_err(as_reqwest)),
            || {
                let (request, send) = unsent.take().expect("a call is made once");
                send(request)
            },
        );
        let rejected = match called.await {
            Ok(response) => return Ok(Ok(response)),
            Err(CallError::Failed(error)) => return Ok(Err(error)),
            Err(CallError::Rejected(rejected)) => rejected,
        };
        let (request, send) = unsent.expect("a rejected call was not made");
        match self.reject(request.url(), rejected) {
            Some(rejection) => Err(rejection),
            None => Ok(send(request).await),
        }
    }

    /// None if the call must be made although the breaker does not let it.
    fn reject(&self, url: &Url, rejected: Rejected) -> Option<Rejection> {
        let host = host_key(url)?;
        let may = self.ejected.as_ref().is_none_or(|ejected| ejected.may_reject(&host, &rejected, &self.breakers));
        may.then(|| Rejection::new(host.into(), rejected))
    }

    /// What the result of a request says about the host that was asked. An answer from another host, to which the one
    /// that was asked has redirected, is recorded for that one: the first has answered, and well.
    fn outcome(&self, breaker: &Handle<P, C, O>, result: Result<&Response, Option<&reqwest::Error>>) -> Outcome {
        let answer = match result {
            Ok(response) => Ok(response),
            Err(Some(error)) => Err(error),
            // Somebody else's error, on this side of the wire.
            Err(None) => return Outcome::Ignored,
        };
        let outcome = (self.classify)(answer);
        match answer {
            Ok(response) if is_elsewhere(breaker, response.url()) => {
                self.record(response.url(), outcome);
                Outcome::Success
            }
            _ => at_least_the_wait(breaker, outcome),
        }
    }

    pub(super) fn record(&self, url: &Url, outcome: Outcome) {
        if let Some(breaker) = host_key(url).map(|host| self.breakers.get(&host)) {
            if let Ok(permit) = breaker.try_acquire() {
                permit.settle(at_least_the_wait(&breaker, outcome));
            }
        }
    }
}

fn is_elsewhere<P: Policy, C: Clock, O: Observer>(asked: &Handle<P, C, O>, url: &Url) -> bool {
    asked.breaker().is_some() && host_key(url).is_some_and(|host| host != asked.key())
}

/// A host may ask for a longer pause than the breaker would make, not for a shorter one.
fn at_least_the_wait<P: Policy, C: Clock, O: Observer>(breaker: &Handle<P, C, O>, outcome: Outcome) -> Outcome {
    match (outcome, breaker.breaker()) {
        (Outcome::OpenFor(Some(pause)), Some(breaker)) => {
            Outcome::OpenFor(Some(Duration::max(pause, breaker.next_wait())))
        }
        _ => outcome,
    }
}
