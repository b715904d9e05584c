//! Ready-made settings: three of our own, and the defaults of other libraries.
//!
//! In code a preset is a constant: [`builder`](Preset::builder) goes on from it, and [`policy`](Preset::policy) and
//! [`config`](Preset::config) serve a `static`. In files (feature `serde`) it is a name: `preset = "hystrix"`.
//!
//! ```
//! use failfast::{CircuitBreaker, LastCalls, presets};
//! use std::time::Duration;
//!
//! let breaker = presets::PYBREAKER.builder().open_for(Duration::from_secs(20)).build()?;
//!
//! static QUOTES: CircuitBreaker<LastCalls<100>> =
//!     CircuitBreaker::new(presets::TOLERANT.policy(), presets::TOLERANT.config());
//! # Ok::<(), failfast::ConfigError>(())
//! ```
//!
//! | preset | trips at | open for | closes on |
//! |---|---|---|---|
//! | [`STRICT`] | 20 % of the last 100 calls failed, from 20 calls on | 60 s | 3 successes of 3 probes |
//! | [`DEFAULT`] | 5 failures in a row | 30 s | 2 of 2 |
//! | [`TOLERANT`] | 75 % of the last 100 calls failed, from 50 calls on | 10 s | 2 of 4 |
//! | [`RESILIENCE4J`] | 50 % of the last 100 calls failed, or all took longer than 60 s, from 100 calls on | 60 s | 6 of 10 |
//! | [`HYSTRIX`] | 50 % of the calls of the last 10 s (10 buckets) failed, from 20 calls on | 5 s | 1 of 1 |
//! | [`POLLY`] | 10 % of the calls of the last 30 s (10 buckets) failed, from 100 calls on | 5 s | 1 of 1 |
//! | [`PYBREAKER`] | 5 failures in a row | 60 s | 1 of 1 |
//!
//! # What cannot be equal
//!
//! The numbers are those of the libraries' sources. What happens with them differs where our rules do:
//!
//! - **All**: a half-open breaker without a verdict for 60 s is renewed. Resilience4j waits without end by default
//!   (`maxWaitDurationInHalfOpenState` 0), the others always, so there a probe that never comes back keeps the breaker
//!   shut for good (in Hystrix its timeout ends it). An outcome of a call that began in another state changes nothing.
//! - **Resilience4j**: there 10 probes are settled before a verdict, at 50 %, so at most 4 may fail; here 6 successes
//!   close it and the fifth failure re-opens it, without waiting for the rest. There slow probes count against the
//!   slow-call rate (100 %); here a slow probe is a failed one. Its rates are of single precision, ours are exact.
//! - **Hystrix**: there a timer looks at the rate every 500 ms (`metrics.healthSnapshot.intervalInMilliseconds`), as a
//!   whole percentage rounded down, and trips; here every outcome is evaluated, exactly. There a timeout of 1 s, a thread pool
//!   and a fallback come with it; here they are yours to add.
//! - **Polly**: there a window of 10 slices is dropped slice by slice as here, but a slice begins with the first call
//!   after the last one ended; here the edges are multiples of 3 s of the clock. There only a failure is evaluated;
//!   here a success that completes `min_calls` trips too.
//! - **pybreaker**: it holds a lock while the guarded call runs, so its calls do not overlap. The call that trips it
//!   raises `CircuitBreakerError` there; here it returns its own error.
//!
//! Where the defaults are from: Resilience4j 2 `CircuitBreakerConfig.java` (`DEFAULT_…`) and `CircuitBreakerMetrics.java`;
//! Hystrix 1.5 `HystrixCommandProperties.java` (`default_…`) and `HystrixCircuitBreaker.java`; Polly 8
//! `CircuitBreakerConstants.cs`, `RollingHealthMetrics.cs` and `CircuitStateController.cs`; pybreaker 1.4.1 `CircuitBreaker.__init__`.

use core::time::Duration;

use crate::{Builder, CircuitBreaker, Config, Consecutive, IntoPolicy, LastCalls, LastTime, Policy, Spec};

/// A policy and a configuration that go together.
///
/// ```
/// use failfast::presets;
///
/// let breaker = presets::HYSTRIX.builder().build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Preset<P: Policy> {
    policy: Spec<P>,
    config: Config,
}

impl<P: Policy> Clone for Preset<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Policy> Copy for Preset<P> {}

impl<P: Policy> Preset<P> {
    /// When it trips.
    #[must_use]
    pub const fn policy(&self) -> Spec<P> {
        self.policy
    }

    /// Everything else.
    #[must_use]
    pub const fn config(&self) -> Config {
        self.config
    }

    /// A builder that begins with both.
    pub fn builder(&self) -> Builder<Spec<P>>
    where
        Spec<P>: IntoPolicy,
    {
        CircuitBreaker::builder().policy(self.policy).config(self.config)
    }
}

/// For a dependency that hardly ever fails, where a failure is expensive and there is a good substitute.
pub const STRICT: Preset<LastCalls<100>> = Preset {
    policy: LastCalls::new().min_calls(20).failure_rate(20.0),
    config: Config::new().open_for(Duration::from_secs(60)).probes(3).successes(3),
};

/// What a builder begins with.
pub const DEFAULT: Preset<Consecutive> = Preset { policy: Consecutive::new(5), config: Config::new() };

/// For a dependency that stumbles often, where any answer is better than none.
pub const TOLERANT: Preset<LastCalls<100>> = Preset {
    policy: LastCalls::new().min_calls(50).failure_rate(75.0),
    config: Config::new().open_for(Duration::from_secs(10)).probes(4).successes(2),
};

/// The defaults of [Resilience4j](https://resilience4j.readme.io/docs/circuitbreaker) 2.
pub const RESILIENCE4J: Preset<LastCalls<100>> = Preset {
    policy: LastCalls::new().min_calls(100).failure_rate(50.0).slow_calls(Duration::from_secs(60), 100.0),
    config: Config::new().open_for(Duration::from_secs(60)).probes(10).successes(6),
};

/// The defaults of [Hystrix](https://github.com/Netflix/Hystrix/wiki/Configuration) 1.5.
pub const HYSTRIX: Preset<LastTime<10>> = Preset {
    policy: LastTime::new(Duration::from_secs(10)).min_calls(20).failure_rate(50.0),
    config: Config::new().open_for(Duration::from_secs(5)).probes(1),
};

/// The defaults of [Polly](https://www.pollydocs.org/strategies/circuit-breaker.html) 8.
pub const POLLY: Preset<LastTime<10>> = Preset {
    policy: LastTime::new(Duration::from_secs(30)).min_calls(100).failure_rate(10.0),
    config: Config::new().open_for(Duration::from_secs(5)).probes(1),
};

/// The defaults of [pybreaker](https://github.com/danielfm/pybreaker) 1.4.
pub const PYBREAKER: Preset<Consecutive> =
    Preset { policy: Consecutive::new(5), config: Config::new().open_for(Duration::from_secs(60)).probes(1) };
