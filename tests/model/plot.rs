//! A configuration and the steps that a breaker of it takes, read from bytes. Any bytes will do: what is missing reads
//! as zero, and zero is the plainest choice everywhere, so that what shrinks the bytes shrinks the plot.

use failfast::{OnMaxWait, State};

pub const MICRO: u64 = 1_000;
pub const MILLI: u64 = 1_000_000;
pub const SECOND: u64 = 1_000_000_000;
pub const HOUR: u64 = 3600 * SECOND;
pub const DAY: u64 = 24 * HOUR;

/// How many bytes the configuration takes, and each step.
pub const HEAD: usize = 52;
pub const STEP: usize = 4;
pub const MOST_STEPS: usize = 200;

#[derive(Clone, Debug)]
pub struct Plot {
    pub setup: Setup,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub struct Setup {
    pub storage: Storage,
    pub rules: Vec<Rule>,
    /// Times are in nanoseconds, factors and percentages in millionths.
    pub base: u64,
    pub multiplier: u64,
    pub max: Option<u64>,
    pub jitter: u64,
    pub seed: u64,
    pub probes: u32,
    pub successes: u32,
    pub max_wait: u64,
    pub on_max_wait: OnMaxWait,
    pub on_cancel: Cancel,
    pub initial: State,
    /// Where the clock stands when the breaker is built.
    pub origin: u64,
    pub observer: Observer,
}

/// What it wants to know, and whether it panics when it is told.
#[derive(Clone, Copy, Debug)]
pub struct Observer {
    pub observes_calls: bool,
    pub times_calls: bool,
    pub panics: bool,
}

/// A list made at run time, a tuple, or inline storage, as far as the shape exists.
#[derive(Clone, Copy, Debug)]
pub enum Storage {
    List,
    Tuple,
    Inline,
}

#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub over: Over,
    pub min_calls: u32,
    pub failures: Option<u32>,
    pub failure_rate: Option<u64>,
    /// Longer than so many nanoseconds is slow; the rate.
    pub slow: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
pub enum Over {
    Streak,
    Calls(u32),
    /// The length of a bucket.
    Time {
        bucket: u64,
        buckets: u32,
        stripes: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Cancel {
    Neutral,
    Failure,
    FailureAfter(u64),
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many whole calls, each as long as the jump.
    Call(Way, End, Jump, u32),
    Acquire,
    /// Makes a future, and leaves it unpolled.
    Spawn,
    /// Polls the future at this index (modulo their number) of the calls in flight.
    Poll(u8),
    /// Ends the call in flight at this index.
    End(u8, End),
    Advance(Jump),
    Back(u64),
    Hand(Hand),
}

#[derive(Clone, Copy, Debug)]
pub enum Way {
    Permit,
    Call,
    CallAsync,
    CallOrElse,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Success,
    Failure,
    Ignored,
    OpenFor(Option<u64>),
    Panic,
    Dropped,
}

/// How far the clock goes on, in nanoseconds, or from what the breaker waits for.
#[derive(Clone, Copy, Debug)]
pub enum Jump {
    By(u64),
    /// To the end of the open wait or of the half-open period.
    ToDeadline(i64),
    /// To the next edge of a bucket.
    ToEdge(i64),
    /// By the length of a time window.
    ByWindow(i64),
    /// To where the first call in flight becomes slow, or its cancelling a failure.
    ToLimit(i64),
}

#[derive(Clone, Copy, Debug)]
pub enum Hand {
    Open,
    OpenFor(u64),
    Close,
    HalfOpen,
    Reset,
    ForceOpen,
    Disable,
    MetricsOnly,
}

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::from(self.byte()) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    fn time(&mut self) -> u64 {
        time(self.byte())
    }

    fn rate(&mut self) -> u64 {
        match self.below(8) {
            0..=2 => 50_000_000,
            3 => 100_000_000,
            4 => 33_333_333,
            5 => 20_000_000,
            6 => 1_000,
            _ => 1 + u64::from(self.byte()) * 390_625,
        }
    }

    fn rule(&mut self) -> Rule {
        let kind = self.below(3);
        let over = match kind {
            0 => Over::Streak,
            1 => Over::Calls(self.pick(&[2, 5, 1, 3, 6, 7, 8, 13, 14, 15, 20, 21, 64, 100])),
            _ => Over::Time {
                bucket: self.pick(&[MILLI, 10 * MILLI, 100 * MICRO, 123_457, SECOND]),
                buckets: self.pick(&[4, 1, 2, 3, 5, 10, 12]),
                stripes: 1 + self.below(3),
            },
        };
        let most = match over {
            Over::Calls(calls) => calls,
            _ => u32::MAX,
        };
        let min_calls = (1 + self.below(6)).min(most);
        let failures = (1 + self.below(4)).min(most);
        let thresholds = self.byte();
        let failure_rate = self.rate();
        let slow =
            (self.pick(&[5 * MILLI, MILLI, 2 * MILLI, 5 * MILLI + 1, 999_999, 20 * MILLI, 1, SECOND]), self.rate());
        if matches!(over, Over::Streak) {
            return Rule { over, min_calls, failures: Some(failures), failure_rate: None, slow: None };
        }
        // At least one of the three.
        let (number, rate, slowness) = [
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (false, true, true),
            (true, true, true),
            (true, false, true),
        ][usize::from(thresholds) % 6];
        Rule {
            over,
            min_calls,
            failures: number.then_some(failures),
            failure_rate: rate.then_some(failure_rate),
            slow: slowness.then_some(slow),
        }
    }

    fn setup(&mut self) -> Setup {
        let storage = self.pick(&[Storage::Tuple, Storage::List, Storage::Inline]);
        let count = self.pick(&[1, 1, 1, 2, 2, 3]);
        let base = self.time();
        let multiplier = self.pick(&[1_000_000, 1_000_000, 2_000_000, 1_500_000, 10_000_000, 1_000_001, 4_000_000_000]);
        let max = self.pick(&[None, Some(1), Some(2), Some(10), Some(1000)]);
        let jitter = self.pick(&[0, 0, 0, 0, 0, 10_000_000, 90_000_000]);
        let seed = u64::from(self.byte());
        let probes = 1 + self.below(4);
        let successes = 1 + self.below(probes);
        let max_wait = self.time();
        let on_max_wait = self.pick(&[OnMaxWait::Renew, OnMaxWait::Open, OnMaxWait::Close]);
        let on_cancel = match self.below(4) {
            0 | 1 => Cancel::Neutral,
            2 => Cancel::Failure,
            _ => Cancel::FailureAfter(5 * MILLI),
        };
        let initial = match self.byte() {
            0..=179 => State::Closed,
            180..=209 => State::MetricsOnly,
            210..=235 => State::Open,
            236..=245 => State::ForcedOpen,
            _ => State::Disabled,
        };
        let origin = self.pick(&[0, HOUR, 123_456_789, 1_790_000_000_123_456_789]);
        let observer = self.byte();
        let (observes_calls, times_calls) =
            [(true, true), (false, false), (true, false), (false, false)][usize::from(observer / 64)];
        let observer = Observer { observes_calls, times_calls, panics: observer % 32 == 31 };
        Setup {
            storage,
            rules: (0..count).map(|_| self.rule()).collect(),
            base,
            multiplier,
            max: max.map(|times| base.saturating_mul(times).min(3650 * DAY)),
            jitter,
            seed,
            probes,
            successes,
            max_wait,
            on_max_wait,
            on_cancel,
            initial,
            origin,
            observer,
        }
    }

    fn step(&mut self) -> Step {
        let [kind, a, b, c] = [(); STEP].map(|()| self.byte());
        match kind {
            0..=89 => {
                let way = [Way::Permit, Way::Call, Way::CallAsync, Way::CallOrElse][usize::from(a) % 4];
                let times = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 5, 8, 21][usize::from(a / 4) % 16];
                // Most calls take no time, and many of the others about as much as makes them slow.
                let jump = match c {
                    0..=159 => Jump::By(0),
                    160..=207 => Jump::ToLimit(offset(c)),
                    _ => jump(c),
                };
                Step::Call(way, end(b, c), jump, times)
            }
            90..=124 => Step::Acquire,
            125..=136 => Step::Spawn,
            137..=150 => Step::Poll(a),
            151..=184 => Step::End(a, end(b, c)),
            185..=239 => Step::Advance(jump(a)),
            240..=244 => Step::Back(time(a)),
            _ => Step::Hand(match a {
                0..=63 => Hand::Open,
                64..=95 => Hand::HalfOpen,
                96..=135 => Hand::Close,
                136..=165 => Hand::Reset,
                166..=199 => Hand::OpenFor(time(b)),
                200..=229 => Hand::MetricsOnly,
                230..=243 => Hand::ForceOpen,
                _ => Hand::Disable,
            }),
        }
    }
}

fn time(byte: u8) -> u64 {
    const TIMES: [u64; 16] = [
        5 * MILLI,
        10 * MILLI,
        20 * MILLI,
        100 * MILLI,
        MILLI,
        2 * MILLI,
        SECOND,
        30 * SECOND,
        10 * MILLI + 1,
        10 * MILLI - 1,
        12_345_678,
        999_999,
        1,
        HOUR,
        7 * MILLI + 500 * MICRO,
        3650 * DAY,
    ];
    TIMES[usize::from(byte) % 16]
}

fn end(byte: u8, more: u8) -> End {
    match byte {
        0..=94 => End::Success,
        95..=199 => End::Failure,
        200..=211 => End::Ignored,
        212..=217 => End::OpenFor(None),
        218..=223 => End::OpenFor(Some(time(more))),
        224 => End::OpenFor(Some(0)),
        225 => End::OpenFor(Some(u64::MAX)),
        226..=238 => End::Panic,
        _ => End::Dropped,
    }
}

fn offset(byte: u8) -> i64 {
    [0, 1, -1, -(MILLI as i64), MILLI as i64, 0, 1, 500_000][usize::from(byte) % 8]
}

fn jump(byte: u8) -> Jump {
    let offset = offset(byte / 8);
    match byte % 8 {
        0..=2 => Jump::ToDeadline(offset),
        3 => Jump::ToEdge(offset),
        4 => Jump::ByWindow(offset),
        5 => Jump::ToLimit(offset),
        6 => Jump::By(u64::from(byte / 8) * MILLI),
        _ => Jump::By(time(byte / 8)),
    }
}

impl Plot {
    pub fn read(bytes: &[u8]) -> Self {
        let (head, rest) = bytes.split_at(bytes.len().min(HEAD));
        Self {
            setup: Bytes(head).setup(),
            steps: rest.chunks(STEP).take(MOST_STEPS).map(|step| Bytes(step).step()).collect(),
        }
    }
}
