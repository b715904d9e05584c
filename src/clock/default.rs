/// The clock that a breaker has unless another is named: monotonic, precise, one type whatever the features.
///
/// With the feature `quanta` it reads the processor's time stamp counter; without, the operating system's monotonic
/// clock. Its origin is its first use in the process. Without the feature `std` it tells no time, and a breaker
/// needs a clock of your own.
///
/// ```
/// use failfast::{Clock, DefaultClock};
///
/// DefaultClock::init();
/// assert!(DefaultClock.now() <= DefaultClock.now());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct DefaultClock;

#[cfg(feature = "std")]
impl DefaultClock {
    /// Reads it once, so that the first call does not pay for that: quanta calibrates itself at its first read,
    /// which takes between 0.6 and 200 ms.
    pub fn init() {
        _ = crate::Clock::now(&Self);
    }
}

#[cfg(feature = "quanta")]
mod source {
    use std::sync::OnceLock;

    /// The clock, and its count at the origin.
    static SOURCE: OnceLock<(quanta::Clock, u64)> = OnceLock::new();

    #[inline]
    pub(super) fn nanos() -> u64 {
        let (clock, origin) = SOURCE.get_or_init(|| {
            let clock = quanta::Clock::new();
            let origin = clock.raw();
            (clock, origin)
        });
        clock.delta_as_nanos(*origin, clock.raw())
    }
}

#[cfg(all(feature = "std", not(feature = "quanta")))]
mod source {
    use std::sync::OnceLock;
    use std::time::Instant;

    static ORIGIN: OnceLock<Instant> = OnceLock::new();

    #[inline]
    pub(super) fn nanos() -> u64 {
        crate::time::saturating_nanos(ORIGIN.get_or_init(Instant::now).elapsed())
    }
}

#[cfg(feature = "std")]
impl crate::Clock for DefaultClock {
    const MONOTONIC: bool = true;

    #[inline]
    fn now(&self) -> crate::Timestamp {
        crate::Timestamp::from_nanos(source::nanos())
    }
}
