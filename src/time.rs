//! A point in time, as every clock of the crate tells it.

use core::time::Duration;

pub(crate) const NANOS_PER_MILLI: u64 = 1_000_000;

/// A point in time: nanoseconds since the origin of the [`Clock`](crate::Clock) that gave it.
///
/// Timestamps of different clocks have nothing to do with each other. All arithmetic saturates: at 0, and
/// after 584 years.
///
/// ```
/// use failfast::Timestamp;
/// use std::time::Duration;
///
/// let start = Timestamp::from_nanos(5_000);
/// let later = start + Duration::from_micros(2);
/// assert_eq!(later.as_nanos(), 7_000);
/// assert_eq!(later - start, Duration::from_micros(2));
/// assert_eq!(start - later, Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The clock's origin.
    pub const ORIGIN: Self = Self(0);

    /// The point `nanos` nanoseconds after the clock's origin.
    #[must_use]
    #[inline]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(NANOS_PER_MILLI))
    }

    pub(crate) const fn earlier_by(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(duration)))
    }

    pub(crate) const fn as_millis(self) -> u64 {
        self.0 / NANOS_PER_MILLI
    }

    /// The first whole millisecond at or after the point `wait` nanoseconds later.
    pub(crate) const fn millis_after(self, wait: u64) -> u64 {
        (self.0 as u128 + wait as u128).div_ceil(NANOS_PER_MILLI as u128) as u64
    }
}

/// A duration in nanoseconds, at most `u64::MAX` of them (584 years).
pub(crate) const fn saturating_nanos(duration: Duration) -> u64 {
    let nanos = duration.as_nanos();
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

impl core::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_nanos(duration)))
    }
}

impl core::ops::Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
