use alloc::boxed::Box;
use alloc::vec::Vec;
use core::time::Duration;

use super::engine::{Call, Engine};
use super::{
    Buckets, Calls, Causes, Consecutive, CountWindow, Found, HeapBuckets, HeapCalls, Made, Period, Policy, Spec,
    TimeWindow,
};
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

type Joined = Kinds<Made<Consecutive>, Made<CountWindow<HeapCalls>>, Made<TimeWindow<HeapBuckets>>>;

/// Does the same with whichever policy it is.
macro_rules! each {
    ($policy:expr, |$made:ident| $what:expr) => {
        match $policy {
            Kinds::Consecutive($made) => $what,
            Kinds::Count($made) => $what,
            Kinds::Time($made) => $what,
        }
    };
}

impl From<Spec<Consecutive>> for Rule {
    fn from(spec: Spec<Consecutive>) -> Self {
        Self(Kinds::Consecutive(spec))
    }
}

/// A window with inline storage becomes one with storage on the heap.
impl<S: Calls> From<Spec<CountWindow<S>>> for Rule {
    fn from(Spec { draft, rules, timed }: Spec<CountWindow<S>>) -> Self {
        Self(Kinds::Count(Spec { draft, rules, timed }))
    }
}

/// A window with inline storage becomes one with storage on the heap.
impl<S: Buckets> From<Spec<TimeWindow<S>>> for Rule {
    fn from(Spec { draft, rules, timed }: Spec<TimeWindow<S>>) -> Self {
        Self(Kinds::Time(Spec { draft, rules, timed }))
    }
}

impl Rule {
    /// Checks every number, as building a breaker from it does.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range, its value and the range.
    ///
    /// ```
    /// use failfast::{CountWindow, Rule};
    ///
    /// let error = Rule::from(CountWindow::over(100).failure_rate(101.0)).check().unwrap_err();
    /// assert_eq!(error.field(), "window.failure_rate");
    /// ```
    pub fn check(&self) -> Result<(), ConfigError> {
        each!(self.0, |spec| spec.rules.map(drop))
    }
}

impl<A, B, C> Kinds<A, B, C> {
    fn name(&self) -> &'static str {
        match self {
            Self::Consecutive(_) => "consecutive",
            Self::Count(_) => "a count window",
            Self::Time(_) => "a time window",
        }
    }
}

/// Does the same with two that are of one kind.
macro_rules! both {
    ($pair:expr, |$old:ident, $new:ident| $what:expr, else $otherwise:block) => {
        match $pair {
            (Kinds::Consecutive($old), Kinds::Consecutive($new)) => $what,
            (Kinds::Count($old), Kinds::Count($new)) => $what,
            (Kinds::Time($old), Kinds::Time($new)) => $what,
            ($old, $new) => $otherwise,
        }
    };
}

impl Engine for BoxPolicy {
    type Draft = ();
    type Rules = ();

    const COUNT: usize = MAX_POLICIES;

    fn is_slow(&self, (): &(), elapsed: Duration) -> bool {
        self.0.iter().any(|policy| each!(policy, |made| made.policy.is_slow(&made.rules, elapsed)))
    }

    fn record(&self, (): &(), period: Period<'_>, failed: bool, call: &impl Call) -> Found {
        self.0.iter().enumerate().fold(Found::NOTHING, |joined, (index, policy)| {
            joined.and(each!(policy, |made| made.policy.record(&made.rules, period, failed, call)), index)
        })
    }

    fn begin(&self, period: Period<'_>) {
        for policy in &self.0 {
            each!(policy, |made| made.policy.begin(period));
        }
    }

    fn live(&self, (): &(), generation: u64, now: Timestamp, list: &mut CountsList) -> Causes {
        self.0.iter().enumerate().fold(Causes::NONE, |joined, (index, policy)| {
            joined.and(each!(policy, |made| made.policy.live(&made.rules, generation, now, list)).behind(index))
        })
    }

    fn publish(&self, generation: u64, counts: &mut dyn Iterator<Item = Counts>) {
        for policy in &self.0 {
            each!(policy, |made| made.policy.publish(generation, counts));
        }
    }

    fn published(&self, (): &(), generation: u64, index: usize) -> Option<Counts> {
        each!(self.0.get(index)?, |made| made.policy.published(&made.rules, generation, 0))
    }

    fn admits(&self, (): &(), new: &Self, (): &()) -> Result<(), ConfigError> {
        let counts = [&self.0, &new.0].map(|policies| Value::Count(policies.len() as u64));
        if self.0.len() != new.0.len() {
            return Err(ConfigError::fixed("policies", counts[1], counts[0]));
        }
        self.0.iter().zip(&new.0).try_for_each(|pair| {
            both!(pair, |old, new| old.policy.admits(&old.rules, &new.policy, &new.rules), else {
                Err(ConfigError::fixed("policy.kind", Value::Kind(new.name()), Value::Kind(old.name())))
            })
        })
    }

    fn set_thresholds(&self, (): &(), new: &Self, (): &()) {
        for pair in self.0.iter().zip(&new.0) {
            both!(pair, |old, new| old.policy.set_thresholds(&old.rules, &new.policy, &new.rules), else { _ = (old, new) });
        }
    }

    fn limit(&self, (): &(), index: usize, kind: Kind) -> u32 {
        self.0.get(index).map_or(0, |policy| each!(policy, |made| made.policy.limit(&made.rules, 0, kind)))
    }
}

impl Policy for BoxPolicy {}

impl super::IntoPolicy for Vec<Rule> {
    type Policy = BoxPolicy;
}

impl<const N: usize> super::IntoPolicy for [Rule; N] {
    type Policy = BoxPolicy;
}

/// How many policies can be joined.
pub(crate) fn check_number(rules: &[Rule]) -> Result<(), ConfigError> {
    if rules.is_empty() || rules.len() > MAX_POLICIES {
        return Err(ConfigError::new("policies", Value::Count(rules.len() as u64), "must be from 1 to 8"));
    }
    Ok(())
}

impl<const N: usize> Sealed<BoxPolicy> for [Rule; N] {
    fn into_policy(self) -> Result<Made<BoxPolicy>, ConfigError> {
        Vec::from(self).into_policy()
    }
}

impl Sealed<BoxPolicy> for Vec<Rule> {
    fn into_policy(self) -> Result<Made<BoxPolicy>, ConfigError> {
        check_number(&self)?;
        let make = |rule: Rule| {
            Ok(match rule.0 {
                Kinds::Consecutive(spec) => Kinds::Consecutive(spec.into_policy()?),
                Kinds::Count(spec) => Kinds::Count(spec.into_policy()?),
                Kinds::Time(spec) => Kinds::Time(spec.into_policy()?),
            })
        };
        let policies = self.into_iter().map(make).collect::<Result<Box<[Joined]>, ConfigError>>()?;
        let timed = policies.iter().any(|policy| each!(policy, |made| made.timed));
        Ok(Made { policy: BoxPolicy(policies), rules: (), timed })
    }
}
