//! Changing the thresholds of a breaker that lives.

use crate::breaker::CircuitBreaker;
use crate::clock::Clock;
use crate::error::ConfigError;
use crate::observer::Observer;
use crate::policy::{IntoPolicy, Policy};

/// Other thresholds.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// Takes over the thresholds of `policy`: numbers of failures, rates, `min_calls`, the slow-call limit. State, windows,
    /// evidence and a running deadline stay what they are.
    ///
    /// The next outcome that can bring a cause about is judged by them: a failure or a slow call at the latest, if what was
    /// counted already is above a lowered threshold. A rate and its `min_calls` change at once; of calls that overlap this
    /// one, some may be judged by a mixture of thresholds that each are either old or new.
    ///
    /// `policy` is what a builder takes, and counts over what the breaker was built with: the same kinds in the same order,
    /// as many calls, or the same length in as many buckets. A slow-call rate can be changed and left out, but not added: who
    /// was built without one times no calls.
    ///
    /// # Errors
    /// [`ConfigError`], and nothing is changed, if a number is out of its range, or if `policy` counts over something else.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, CountWindow, State};
    ///
    /// let breaker = CircuitBreaker::builder().policy(CountWindow::over(100).failures(50)).build()?;
    /// for _ in 0..5 { breaker.try_acquire()?.failure(); }
    ///
    /// breaker.set_thresholds(CountWindow::over(100).failures(6).failure_rate(80.0))?;
    /// assert_eq!(breaker.state(), State::Closed);
    /// breaker.try_acquire()?.failure();
    /// assert_eq!(breaker.state(), State::Open);
    ///
    /// let error = breaker.set_thresholds(CountWindow::over(50).failures(6)).unwrap_err();
    /// assert_eq!(error.to_string(), "window.calls is 50: must be what the breaker was built with (100)");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_thresholds<T: IntoPolicy<Policy = P>>(&self, policy: T) -> Result<(), ConfigError> {
        let new = policy.into_policy()?;
        self.policy.admits(&self.rules, &new.policy, &new.rules)?;
        self.policy.set_thresholds(&self.rules, &new.policy, &new.rules);
        Ok(())
    }
}
