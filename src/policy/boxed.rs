use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::engine::{Call, Engine};
use super::window::WindowRules;
use super::{Causes, Consecutive, CountWindow, HeapBuckets, HeapCalls, Period, Policy, Spec, TimeWindow};
use crate::error::{ConfigError, Value};
use crate::policy::into::Sealed;
use crate::raw::gate::Kind;
use crate::snapshot::{Counts, CountsList, MAX_POLICIES};
use crate::time::Timestamp;

/// A list of policies that is made at run time, from a configuration file for example: 1 to 8 of them, joined as in
/// a tuple.
///
/// ```
/// use failfast::{BoxPolicy, CircuitBreaker, Consecutive, CountWindow, Rule, TimeWindow};
/// use std::time::Duration;
///
/// let rules: Vec<Rule> = vec![
///     Consecutive::new(5).into(),
///     CountWindow::over(100).failure_rate(50.0).into(),
///     TimeWindow::over(Duration::from_secs(60), 6).failures(20).into(),
/// ];
/// let breaker: CircuitBreaker<BoxPolicy> = CircuitBreaker::builder().policy(rules).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
pub struct BoxPolicy(Box<[Joined]>);

/// One policy of a [`BoxPolicy`]: a [`Consecutive`], a [`CountWindow`] or a [`TimeWindow`] by `into()`.
///
/// ```
/// let rule: failfast::Rule = failfast::Consecutive::new(5).into();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rule(Kinds<Spec<Consecutive>, Spec<CountWindow<HeapCalls>>, Spec<TimeWindow<HeapBuckets>>>);

#[derive(Clone, Copy, Debug)]
enum Kinds<A, B, C> {
    Consecutive(A),
    Count(B),
    Time(C),
}

type Joined = Kinds<(u32, Consecutive), (WindowRules, CountWindow<HeapCalls>), (WindowRules, TimeWindow<HeapBuckets>)>;

impl From<Spec<Consecutive>> for Rule {
    fn from(spec: Spec<Consecutive>) -> Self {
        Self(Kinds::Consecutive(spec))
    }
}

impl From<Spec<CountWindow<HeapCalls>>> for Rule {
    fn from(spec: Spec<CountWindow<HeapCalls>>) -> Self {
        Self(Kinds::Count(spec))
    }
}

impl From<Spec<TimeWindow<HeapBuckets>>> for Rule {
    fn from(spec: Spec<TimeWindow<HeapBuckets>>) -> Self {
        Self(Kinds::Time(spec))
    }
}

/// Calls a method of whichever policy it is.
macro_rules! each {
    ($policy:expr, |$rules:pat_param, $inner:ident| $call:expr) => {
        match $policy {
            Kinds::Consecutive(($rules, $inner)) => $call,
            Kinds::Count(($rules, $inner)) => $call,
            Kinds::Time(($rules, $inner)) => $call,
        }
    };
}

impl Engine for BoxPolicy {
    type Draft = ();
    type Rules = ();

    const COUNT: usize = MAX_POLICIES;

    #[inline]
    fn is_timed(&self, (): &()) -> bool {
        self.0.iter().any(|policy| each!(policy, |rules, policy| policy.is_timed(rules)))
    }

    fn is_slow(&self, (): &(), elapsed: Duration) -> bool {
        self.0.iter().any(|policy| each!(policy, |rules, policy| policy.is_slow(rules, elapsed)))
    }

    fn record(&self, (): &(), period: Period<'_>, failed: bool, call: &impl Call) -> Causes {
        let record = |policy: &Joined| each!(policy, |rules, policy| policy.record(rules, period, failed, call));
        let each = self.0.iter().map(record).enumerate();
        each.fold(Causes::NONE, |joined, (index, causes)| joined.and(causes.behind(index)))
    }

    fn begin(&self, period: Period<'_>) {
        for policy in &self.0 {
            each!(policy, |_, policy| policy.begin(period));
        }
    }

    fn live(&self, (): &(), generation: u64, now: Timestamp, list: &mut CountsList) {
        for policy in &self.0 {
            each!(policy, |rules, policy| policy.live(rules, generation, now, list));
        }
    }

    fn publish(&self, generation: u64, counts: &mut dyn Iterator<Item = Counts>) {
        for policy in &self.0 {
            each!(policy, |_, policy| policy.publish(generation, counts));
        }
    }

    fn published(&self, (): &(), generation: u64, index: usize) -> Option<Counts> {
        each!(self.0.get(index)?, |rules, policy| policy.published(rules, generation, 0))
    }

    fn limit(&self, (): &(), index: usize, kind: Kind) -> u32 {
        self.0.get(index).map_or(0, |policy| each!(policy, |rules, policy| policy.limit(rules, 0, kind)))
    }
}

impl Policy for BoxPolicy {}

impl super::IntoPolicy for Vec<Rule> {
    type Policy = BoxPolicy;
}

impl<const N: usize> super::IntoPolicy for [Rule; N] {
    type Policy = BoxPolicy;
}

impl<const N: usize> Sealed<BoxPolicy> for [Rule; N] {
    fn into_policy(self) -> Result<((), BoxPolicy), ConfigError> {
        Vec::from(self).into_policy()
    }
}

impl Sealed<BoxPolicy> for Vec<Rule> {
    fn into_policy(self) -> Result<((), BoxPolicy), ConfigError> {
        if self.is_empty() || self.len() > MAX_POLICIES {
            return Err(ConfigError::new("policies", Value::Count(self.len() as u64), "must be from 1 to 8"));
        }
        let make = |rule: Rule| {
            Ok(match rule.0 {
                Kinds::Consecutive(spec) => Kinds::Consecutive(spec.into_policy()?),
                Kinds::Count(spec) => Kinds::Count(spec.into_policy()?),
                Kinds::Time(spec) => Kinds::Time(spec.into_policy()?),
            })
        };
        let policies: Result<Box<[Joined]>, ConfigError> = self.into_iter().map(make).collect();
        Ok(((), BoxPolicy(policies?)))
    }
}
