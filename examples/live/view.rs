//! What the page shows of the breakers, as JSON. Times are milliseconds before now.

use std::time::Duration;

use failfast::{BoxPolicy, Clock, Counts, DefaultClock, Registry, Span, State, Timestamp, Transition};
use serde::Serialize;

use crate::seen::{KEPT, Seen, Totals};

pub(crate) type Breakers = Registry<BoxPolicy, DefaultClock, Seen>;

/// How far back the timeline reaches.
const TIMELINE: Duration = Duration::from_secs(180);

/// So many of the last transitions are listed.
const LISTED: usize = 4;

/// A page with more cards than this is no help.
const MOST_CARDS: usize = 200;

#[derive(Serialize)]
pub(crate) struct View {
    writable: bool,
    timeline_ms: u64,
    listed: usize,
    /// Breakers for which there is no card.
    left_out: usize,
    breakers: Vec<Card>,
}

#[derive(Serialize)]
struct Card {
    name: String,
    state: &'static str,
    since_ms: Option<u64>,
    retry_after_ms: Option<u64>,
    /// Why it opened.
    trip: Option<String>,
    windows: Vec<Window>,
    probes: Option<Probes>,
    totals: Totals,
    timeline: Vec<Stretch>,
    transitions: Vec<Move>,
}

#[derive(Serialize)]
struct Window {
    over: String,
    is_streak: bool,
    total: u64,
    failed: u64,
    slow: Option<u64>,
    failure_rate: Option<f64>,
    slow_call_rate: Option<f64>,
}

#[derive(Serialize)]
struct Probes {
    admitted: u32,
    succeeded: u32,
    failed: u32,
}

/// From then until the next stretch, or until now.
#[derive(Serialize)]
struct Stretch {
    state: &'static str,
    began_ms: u64,
}

#[derive(Serialize)]
struct Move {
    ago_ms: u64,
    from: &'static str,
    to: &'static str,
    reason: Option<&'static str>,
}

impl View {
    pub(crate) fn of(breakers: &Breakers, writable: bool) -> Self {
        let mut handles: Vec<_> = breakers.iter().collect();
        handles.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        let left_out = handles.len().saturating_sub(MOST_CARDS);
        handles.truncate(MOST_CARDS);
        let cards = handles.iter().filter_map(|handle| {
            let breaker = handle.breaker()?;
            Some(Card::of(handle.key(), &breaker.snapshot(), breaker.observer()))
        });
        Self { writable, timeline_ms: millis(TIMELINE), listed: LISTED, left_out, breakers: cards.collect() }
    }
}

impl Card {
    fn of(name: &str, snapshot: &failfast::Snapshot, seen: &Seen) -> Self {
        let now = DefaultClock.now();
        let transitions: Vec<_> = seen.history.recent().collect();
        let since = snapshot.since();
        Self {
            name: name.to_owned(),
            state: snapshot.state().as_str(),
            since_ms: since.map(millis),
            retry_after_ms: snapshot.retry_after().map(millis),
            trip: snapshot.trip().map(|trip| trip.to_string()),
            windows: snapshot.windows().map(Window::of).collect(),
            probes: snapshot.probes().map(|probes| Probes {
                admitted: probes.admitted(),
                succeeded: probes.succeeded(),
                failed: probes.failed(),
            }),
            totals: seen.totals(),
            timeline: timeline(&transitions, snapshot.state(), since, seen.since, now),
            transitions: transitions.iter().rev().take(LISTED).map(|transition| Move::of(transition, now)).collect(),
        }
    }
}

impl Window {
    fn of(counts: Counts) -> Self {
        let over = match counts.span() {
            Span::Streak => "in a row".to_owned(),
            Span::Calls(calls) => format!("last {calls} calls"),
            Span::Time(length) => format!("last {} s", length.as_secs_f64()),
            _ => "window".to_owned(),
        };
        Self {
            over,
            is_streak: counts.span() == Span::Streak,
            total: counts.total(),
            failed: counts.failed(),
            slow: counts.slow(),
            failure_rate: counts.failure_rate(),
            slow_call_rate: counts.slow_call_rate(),
        }
    }
}

impl Move {
    fn of(transition: &Transition, now: Timestamp) -> Self {
        Self {
            ago_ms: millis(now - transition.at()),
            from: transition.from().as_str(),
            to: transition.to().as_str(),
            reason: transition.reason().map(failfast::Reason::as_str),
        }
    }
}

/// The states that it went through, from its last transitions, oldest first.
fn timeline(
    transitions: &[Transition],
    state: State,
    since: Option<Duration>,
    made: Timestamp,
    now: Timestamp,
) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut push = |state: State, began: Duration| {
        let stretch = Stretch { state: state.as_str(), began_ms: millis(began.min(TIMELINE)) };
        match stretches.last_mut() {
            Some(last) if last.state == stretch.state => {}
            // What ended before the timeline begins.
            Some(last) if last.began_ms <= stretch.began_ms => *last = stretch,
            _ => stretches.push(stretch),
        }
    };
    match transitions.first() {
        None => push(state, now - made),
        // Older ones are forgotten, and with them what was before.
        Some(first) if transitions.len() < KEPT => push(first.from(), now - made),
        Some(_) => {}
    }
    for transition in transitions {
        push(transition.to(), now - transition.at());
    }
    // Time alone may have changed it since.
    if let Some(since) = since {
        push(state, since);
    }
    stretches
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
