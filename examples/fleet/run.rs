//! One run: the nodes start, things happen, and everything is noted.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use failfast::State;

use crate::crew::{Crew, Heard};
use crate::message::{Call, Message};
use crate::node::Orders;
use crate::numbers::short;
use crate::plan::{Plan, Side, Span, Start, Step};
use crate::service::{Arrival, Service};
use crate::store::Store;

/// A transition of a node's breaker.
#[derive(Clone, Copy)]
pub(crate) struct Move {
    pub at: Duration,
    pub node: usize,
    pub to: State,
}

/// A node has lost the store, or has it back.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub at: Duration,
    pub node: usize,
    pub up: bool,
}

/// Everything that one run left behind. Times count from its start.
pub(crate) struct Run {
    pub side: Side,
    pub cut_off: Span,
    pub down: Span,
    pub store_gone: Span,
    pub calls: Vec<(usize, Call)>,
    /// In their order.
    pub arrivals: Vec<Arrival>,
    /// In their order.
    pub moves: Vec<Move>,
    pub links: Vec<Link>,
    /// To the store.
    pub commands: u64,
}

/// How long after the end of the run the nodes may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(plan: &Plan, side: Side, store: &mut Store) -> Result<Run, Box<dyn Error>> {
    let service = Service::start(plan)?;
    let orders: Vec<_> = (0..plan.nodes)
        .map(|node| Orders {
            node,
            plan: *plan,
            side,
            service: service.url(),
            store: store.url(),
            prefix: format!("example-fleet-{}-{side}", std::process::id()),
        })
        .collect();
    let mut crew = Crew::start(&orders)?;
    let start = Start::soon();
    service.note_from(start);
    crew.begin(start)?;

    let mut run = Run {
        side,
        cut_off: plan.cut_off,
        down: plan.down,
        store_gone: plan.store_gone,
        calls: Vec::new(),
        arrivals: Vec::new(),
        moves: Vec::new(),
        links: Vec::new(),
        commands: 0,
    };
    let mut told = Told::default();
    let mut steps = plan.steps().into_iter().peekable();
    loop {
        let next = steps.peek().map_or(plan.run + PATIENCE, |(at, _)| *at);
        match crew.hear(start.until(next))? {
            Heard::Said(node, message) => {
                if let Some(news) = told.news(plan, node, &message) {
                    say(side, start, &news);
                }
                run.note(node, message);
            }
            Heard::AllEnded => break,
            Heard::Nothing => {
                let Some((_, step)) = steps.next() else { return Err("the nodes did not end in time".into()) };
                if let Some(news) = run.take(step, start, &service, store)? {
                    say(side, start, news);
                }
            }
        }
    }
    run.arrivals = service.arrivals();
    run.arrivals.sort_by_key(|arrival| arrival.at);
    run.moves.sort_by_key(|moved| moved.at);
    run.links.sort_by_key(|link| link.at);
    Ok(run)
}

impl Run {
    fn note(&mut self, node: usize, message: Message) {
        match message {
            Message::Ready => {}
            Message::Call(call) => self.calls.push((node, call)),
            Message::Moved { at, to } => self.moves.push(Move { at, node, to }),
            Message::Store { at, up } => self.links.push(Link { at, node, up }),
            Message::Commands(count) => self.commands += count,
        }
    }

    /// Lets it happen, and says what.
    fn take(
        &mut self,
        step: Step,
        start: Start,
        service: &Service,
        store: &mut Store,
    ) -> Result<Option<&'static str>, Box<dyn Error>> {
        Ok(Some(match step {
            Step::StoreGone | Step::StoreBack if self.side == Side::Alone => return Ok(None),
            Step::CutOff => "node 2 cannot reach the service",
            Step::Reachable => "node 2 can reach the service again",
            Step::Down => {
                self.down.0 = start.elapsed();
                service.set_down(true);
                "the service fails"
            }
            Step::Recovered => {
                self.down.1 = start.elapsed();
                service.set_down(false);
                "the service is well again"
            }
            Step::StoreGone => {
                self.store_gone.0 = start.elapsed();
                store.take_away();
                "the store is gone"
            }
            Step::StoreBack => {
                store.bring_back()?;
                self.store_gone.1 = start.elapsed();
                "the store is back"
            }
        }))
    }
}

/// What has been said about breakers: of a fleet's transitions only the first and the last of a kind.
#[derive(Default)]
struct Told {
    /// Those that have opened and not closed since, with the time of the first.
    opened: Vec<usize>,
    since: Duration,
    all: bool,
}

impl Told {
    fn news(&mut self, plan: &Plan, node: usize, message: &Message) -> Option<String> {
        let Message::Moved { at, to } = *message else { return None };
        match to {
            State::Open if !self.opened.contains(&node) => {
                self.opened.push(node);
                let first = self.opened.len() == 1;
                if first {
                    (self.since, self.all) = (at, false);
                    return Some(format!("node {} opens", node + 1));
                }
                let all = self.opened.len() == plan.nodes && !self.all;
                self.all |= all;
                all.then(|| format!("all are open, {} after the first", short(at.saturating_sub(self.since))))
            }
            State::Closed => {
                self.opened.retain(|other| *other != node);
                self.opened.is_empty().then(|| "all are closed".to_owned())
            }
            _ => None,
        }
    }
}

fn say(side: Side, start: Start, what: &str) {
    // A closed stderr is no reason to stop the run.
    let _ = writeln!(std::io::stderr(), "[{side:<6} {:6.2} s] {what}", start.elapsed().as_secs_f64());
}
