//! Numbers as the examples make them, pick them and write them.

use std::time::Duration;

/// A duration within the range that looks random and is the same in every run.
pub(crate) fn spread(n: u64, (low, high): (Duration, Duration)) -> Duration {
    // The finalizer of splitmix64: neighbouring numbers come out unrelated.
    let mut bits = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    low + (high - low).mul_f64((bits >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Nearest rank.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The next of these factors times a power of ten.
pub(crate) fn round_up(value: f64, factors: &[f64]) -> f64 {
    let power = 10_f64.powf(value.max(1e-6).log10().floor());
    let mut rounds = factors.iter().map(|factor| factor * power);
    rounds.find(|round| *round >= value).unwrap_or(10.0 * power)
}

/// With the unit that leaves one to three digits before the point.
pub(crate) fn short(d: Duration) -> String {
    let seconds = d.as_secs_f64();
    if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 1e-3 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.1} µs", seconds * 1e6)
    }
}

/// With a comma between thousands.
pub(crate) fn grouped(n: usize) -> String {
    match n {
        0..1000 => n.to_string(),
        _ => format!("{},{:03}", grouped(n / 1000), n % 1000),
    }
}

/// For JSON, where a time has its unit in its name.
pub(crate) fn s(d: Duration) -> f64 {
    (d.as_secs_f64() * 1e4).round() / 1e4
}

pub(crate) fn ms(d: Option<Duration>) -> Option<f64> {
    d.map(|d| s(d * 1000))
}

pub(crate) fn us(d: Option<Duration>) -> Option<f64> {
    d.map(|d| s(d * 1_000_000))
}
