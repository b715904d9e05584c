//! How many hosts may be rejected at once.

use std::sync::Arc;

use papaya::HashSet;

use crate::error::{ConfigError, Value};
use crate::registry::Registry;
use crate::sync::{AtomicU64, Ordering};
use crate::{Clock, Observer, Policy, Reason, Rejected, State};

/// The share of a client's hosts that may be rejected at once. Where many are down, it is more likely that something
/// between them and us is, or that nobody is left who would answer instead: further hosts are then called although their
/// breakers are open. As Envoy's [`max_ejection_percent`] it always lets at least one be rejected.
///
/// The first that are rejected have it, until their breaker lets calls through again. Calls to the others pass unguarded:
/// nothing is recorded, and their breakers stay open until their own probes close them. A host whose breaker was opened by
/// hand is always rejected, and counts.
///
/// A client has none unless it is [given one](super::ClientBuilder::max_ejection): its hosts are mostly different services,
/// none of which can answer for another.
///
/// [`max_ejection_percent`]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier
///
/// ```
/// use failfast::http::{Client, MaxEjection};
///
/// let http = Client::builder(reqwest::Client::new())
///     .max_ejection(MaxEjection::percent(50.0).min_hosts(6))
///     .build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxEjection {
    percent: f64,
    min_hosts: usize,
}

impl MaxEjection {
    /// At most so many percent of the hosts that the client knows, rounded down, but one at least: more than 0, at most
    /// 100, in steps of 0.000001.
    #[must_use]
    pub const fn percent(percent: f64) -> Self {
        Self { percent, min_hosts: 5 }
    }

    /// Below so many hosts that the client knows, all of them may be rejected: at least 1. Default 5.
    #[must_use]
    pub const fn min_hosts(mut self, hosts: usize) -> Self {
        self.min_hosts = hosts;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if !(self.percent >= 1e-6 && self.percent <= 100.0) {
            let legal = "must be above 0 % (at least 0.000001 %) and at most 100 %";
            return Err(ConfigError::new("http.max_ejection.percent", Value::Percent(self.percent), legal));
        }
        if self.min_hosts == 0 {
            return Err(ConfigError::new("http.max_ejection.min_hosts", Value::Count(0), "must be at least 1"));
        }
        Ok(())
    }

    /// How many of so many hosts.
    fn of(&self, known: usize) -> u64 {
        const HUNDRED_PERCENT: u128 = 100_000_000;
        if known < self.min_hosts {
            return known as u64;
        }
        let millionths = (self.percent * 1e6).round() as u128;
        ((known as u128 * millionths / HUNDRED_PERCENT) as u64).max(1)
    }
}

/// Who is rejected. Only calls that meet an open breaker look here.
pub(super) struct Ejected {
    max: MaxEjection,
    hosts: HashSet<Arc<str>>,
    /// How many hosts that is; the one that is being added is counted before it is there.
    taken: AtomicU64,
    /// Calls that found no place since somebody last looked whose place is free again.
    refused: AtomicU64,
}

impl Ejected {
    pub(super) fn new(max: MaxEjection) -> Self {
        Self { max, hosts: HashSet::new(), taken: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Whether a call that was `rejected` by the host's breaker may be rejected.
    pub(super) fn may_reject<P, C, O>(&self, host: &str, rejected: &Rejected, breakers: &Registry<P, C, O>) -> bool
    where
        P: Policy,
        C: Clock + Clone,
        O: Observer,
    {
        if self.hosts.pin().contains(host) || rejected.full_registry().is_some() {
            return true;
        }
        let by_hand = rejected.state() == State::ForcedOpen || rejected.reason() == Some(Reason::ByHand);
        let max = if by_hand { breakers.capacity() as u64 } else { self.max.of(breakers.len()) };
        let has_place = self.take(max) || (self.release(breakers) && self.take(max));
        if !has_place {
            return by_hand;
        }
        if !self.hosts.pin().insert(host.into()) {
            self.give_back();
        }
        true
    }

    /// Takes a place, if there are fewer than `max`.
    fn take(&self, max: u64) -> bool {
        let one_more = |taken| (taken < max).then_some(taken + 1);
        // ORDERING: Relaxed, a count that nothing hangs on but itself.
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn give_back(&self) {
        // ORDERING: Relaxed, as in `take`.
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives back the places of hosts whose breaker lets calls through, or is gone. It looks at all of them, so only every
    /// so many calls: a few nanoseconds each. Says whether it did.
    fn release<P, C, O>(&self, breakers: &Registry<P, C, O>) -> bool
    where
        P: Policy,
        C: Clock + Clone,
        O: Observer,
    {
        // ORDERING: Relaxed, counts that nothing hangs on.
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        // ORDERING: Relaxed, as above.
        if refused < self.taken.load(Ordering::Relaxed) {
            return false;
        }
        // ORDERING: Relaxed, as above.
        self.refused.store(0, Ordering::Relaxed);
        let hosts = self.hosts.pin();
        for host in &hosts {
            let state = breakers.peek(host).map(|breaker| breaker.state());
            if !matches!(state, Some(State::Open | State::ForcedOpen)) && hosts.remove(host) {
                self.give_back();
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn the_share_is_exact_rounded_down_and_one_at_least() {
        let half = MaxEjection::percent(50.0);
        let limits = [1, 2, 4, 5, 6, 7, 100].map(|known| half.of(known));
        assert_eq!(limits, [1, 2, 4, 2, 3, 3, 50]);
        assert_eq!(MaxEjection::percent(29.0).of(100), 29);
        assert_eq!(MaxEjection::percent(0.000_001).of(99_999_999), 1);
        assert_eq!(MaxEjection::percent(0.000_001).of(200_000_000), 2);
        assert_eq!(MaxEjection::percent(100.0).of(usize::MAX), usize::MAX as u64);
        assert_eq!(half.min_hosts(1).of(1), 1);
    }

    #[test]
    fn bad_numbers_name_field_value_and_range() {
        for percent in [0.0, -1.0, 100.1, f64::NAN, 1e-7] {
            let error = MaxEjection::percent(percent).check().unwrap_err();
            assert_eq!(error.field(), "http.max_ejection.percent", "{percent}");
        }
        let error = MaxEjection::percent(10.0).min_hosts(0).check().unwrap_err();
        assert_eq!(std::string::ToString::to_string(&error), "http.max_ejection.min_hosts is 0: must be at least 1");
    }

    #[test]
    fn no_host_is_kept_that_the_registry_does_not_know() {
        let breakers = Registry::builder().capacity(3).build().unwrap();
        let ejected = Ejected::new(MaxEjection::percent(50.0));
        let is_rejected = |host: &str| {
            let rejected = breakers.get(host).try_acquire().unwrap_err();
            ejected.may_reject(host, &rejected, &breakers)
        };
        // There is no place for the fourth and later ones.
        for host in 0..20 {
            let host = format!("http://{host}.test");
            breakers.get(&host).breaker().into_iter().for_each(|breaker| breaker.open());
            assert!(is_rejected(&host));
        }
        assert_eq!(ejected.hosts.len(), 3);
        // These come and go.
        for host in (0..3).chain(100..120) {
            let host = format!("http://{host}.test");
            breakers.get(&host).breaker().unwrap().force_open();
            assert!(is_rejected(&host));
            assert!(breakers.remove(&host));
            assert!(ejected.hosts.len() <= 3);
        }
    }

    #[test]
    fn all_are_looked_at_once_in_as_many_calls_as_there_are_of_them() {
        let breakers = Registry::builder().build().unwrap();
        let ejected = Ejected::new(MaxEjection::percent(50.0));
        for host in ["http://a.test", "http://b.test", "http://c.test"] {
            let handle = breakers.get(host);
            handle.breaker().unwrap().open();
            assert!(ejected.may_reject(host, &handle.try_acquire().unwrap_err(), &breakers));
        }
        let looks = [(); 9].map(|()| ejected.release(&breakers));
        assert_eq!(looks, [false, false, true, false, false, true, false, false, true]);
    }

    #[test]
    fn threads_take_no_more_than_there_is_and_lose_none() {
        let breakers = Registry::builder().build().unwrap();
        let hosts: Vec<_> = (0..20).map(|host| format!("http://{host}.test")).collect();
        let ejected = Ejected::new(MaxEjection::percent(50.0));
        let ask = |host: &str| {
            let handle = breakers.get(host);
            let Err(rejected) = handle.try_acquire().map(|permit| permit.settle(crate::Outcome::OpenFor(None))) else {
                return;
            };
            ejected.may_reject(host, &rejected, &breakers);
            let taken = ejected.taken.load(Ordering::Relaxed);
            assert!(taken <= 10, "{taken}");
        };
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (ask, hosts, breakers) = (&ask, &hosts, &breakers);
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let host = &hosts[(round * (2 * thread + 1)) % hosts.len()];
                        ask(host);
                        if round % 7 == thread {
                            breakers.get(host).breaker().unwrap().close();
                        }
                    }
                });
            }
        });
        assert_eq!(ejected.taken.load(Ordering::Relaxed), ejected.hosts.len() as u64);
        // Once all are closed, the places are free for those that open then.
        breakers.iter().for_each(|host| host.breaker().unwrap().close());
        for host in &hosts {
            ask(host);
        }
        let open_for = |host: &str| breakers.get(host).snapshot().retry_after();
        assert!(hosts.iter().all(|host| open_for(host) > Some(Duration::ZERO)));
        hosts.iter().cycle().take(400).for_each(|host| ask(host));
        assert_eq!(ejected.hosts.len(), 10);
    }
}
