//! One process of the fleet: its breaker, and its callers.

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use failfast::redis::{Fleet, StoreEvent, Tap};
use failfast::{CallError, CircuitBreaker, OnTransition, State, Transition};
use tokio::sync::oneshot;

use crate::message::{Call, Ending, Message};
use crate::numbers::spread;
use crate::plan::{CALLERS, CUT_OFF, FAILURES, JITTER, PROBES, Plan, Side, Start};
use crate::service::{NODE_HEADER, PROBE_HEADER};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1/";

/// The word on the command line that makes a process a node.
pub(crate) const ROLE: &str = "node";

/// What a node has to know, as it stands on its command line behind the role.
#[derive(Clone)]
pub(crate) struct Orders {
    pub node: usize,
    pub plan: Plan,
    pub side: Side,
    pub service: String,
    pub store: String,
    /// Of keys in the store: each run has its own.
    pub prefix: String,
}

impl Orders {
    pub(crate) fn to_arguments(&self) -> [String; 7] {
        let Orders { node, plan, side, service, store, prefix } = self;
        let (run, nodes) = (plan.run.as_nanos().to_string(), plan.nodes.to_string());
        [node.to_string(), run, nodes, side.to_string(), service.clone(), store.clone(), prefix.clone()]
    }

    fn from_arguments(arguments: &[String]) -> Option<Orders> {
        let [node, run, nodes, side, service, store, prefix] = arguments else { return None };
        let run = Duration::from_nanos(run.parse().ok()?);
        Some(Orders {
            node: node.parse().ok()?,
            plan: Plan::new(run, nodes.parse().ok()?),
            side: Side::ALL.into_iter().find(|s| s.as_str() == side)?,
            service: service.clone(),
            store: store.clone(),
            prefix: prefix.clone(),
        })
    }
}

pub(crate) fn main(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let orders = Orders::from_arguments(arguments).ok_or("a node is started by the example itself")?;
    let (messages, outbox) = mpsc::channel::<Message>();
    // So that no call waits for whoever reads.
    let writer = std::thread::spawn(move || {
        for message in outbox {
            // Whoever does not read any more has ended, and soon this process ends too.
            let _ = writeln!(std::io::stdout(), "{message}");
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(node(&orders, &messages, starting_signal()));
    // The fleet's task holds a sender too.
    drop((runtime, messages));
    let _ = writer.join();
    result
}

/// The start, which stdin tells. When stdin ends, so does this process: whoever started it is gone.
fn starting_signal() -> oneshot::Receiver<Start> {
    let (signal, signalled) = oneshot::channel();
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
        if let Some(nanos) = lines.next().and_then(|line| line.parse().ok()) {
            let _ = signal.send(Start::from_nanos(nanos));
        }
        lines.for_each(drop);
        std::process::exit(1);
    });
    signalled
}

async fn node(
    orders: &Orders,
    messages: &Sender<Message>,
    signalled: oneshot::Receiver<Start>,
) -> Result<(), Box<dyn Error>> {
    let Orders { node, plan, side, .. } = *orders;
    // A proxy from the environment must not come between the callers and loopback.
    let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).no_proxy().build()?;
    let target = Arc::new(Target { client, url: orders.service.clone(), node });
    exchange(Arc::clone(&target), Way::Open)
        .await
        .map_err(|error| format!("the service does not answer on loopback: {error}"))?;

    let start = Arc::new(OnceLock::<Start>::new());
    let elapsed = {
        let start = Arc::clone(&start);
        move || start.get().map_or(Duration::ZERO, |start| start.elapsed())
    };
    let note = {
        let (messages, elapsed) = (messages.clone(), elapsed.clone());
        OnTransition::new(move |transition: &Transition| {
            let _ = messages.send(Message::Moved { at: elapsed(), to: transition.to() });
        })
    };
    let tap = Tap::new();
    let breaker = Arc::new(
        CircuitBreaker::builder()
            .failures(FAILURES)
            .open_for(plan.open_for)
            // Without the store they would probe in step.
            .jitter(JITTER)
            .seed(node as u64)
            .probes(PROBES)
            .successes(PROBES)
            .observer((note, tap.clone()))
            .build()?,
    );
    let fleet = match side.agreement() {
        None => None,
        Some(agreement) => {
            let messages = messages.clone();
            let fleet = Fleet::connect(&orders.store)
                .agreement(agreement)
                .prefix(&orders.prefix)
                .node(format!("node {}", node + 1))
                .on_store(move |event| {
                    let up = matches!(event, StoreEvent::Up);
                    let _ = messages.send(Message::Store { at: elapsed(), up });
                })
                .await?;
            fleet.join_tapped("payments", &breaker, &tap)?;
            // The first look at the store belongs to no run.
            while fleet.store().commands() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Some(fleet)
        }
    };

    messages.send(Message::Ready)?;
    let signal = signalled.await?;
    let _ = start.set(signal);
    let caller = |caller: u32| {
        let (breaker, target, messages) = (Arc::clone(&breaker), Arc::clone(&target), messages.clone());
        async move {
            tokio::time::sleep(signal.until(Duration::ZERO)).await;
            for turn in 0_u64.. {
                let number = (node as u64) << 48 | u64::from(caller) << 32 | turn;
                tokio::time::sleep(spread(number, plan.pause(node))).await;
                let begin = signal.elapsed();
                if begin >= plan.run {
                    return;
                }
                let is_cut_off = node == CUT_OFF && (plan.cut_off.0..plan.cut_off.1).contains(&begin);
                let asked = Instant::now();
                let call = breaker.call_async(|| {
                    let way = match breaker.state() {
                        _ if is_cut_off => Way::Nowhere,
                        State::HalfOpen => Way::Probe,
                        _ => Way::Open,
                    };
                    exchange(Arc::clone(&target), way)
                });
                let ending = match call.await {
                    Ok(()) => Ending::Succeeded,
                    Err(CallError::Failed(error)) if error.is_status() => Ending::Failed,
                    Err(CallError::Failed(_)) => Ending::Unreached,
                    Err(CallError::Rejected(_)) => Ending::Rejected,
                };
                let _ = messages.send(Message::Call(Call { begin, took: asked.elapsed(), ending }));
            }
        }
    };
    let callers: Vec<_> = (0..CALLERS).map(|n| tokio::spawn(caller(n))).collect();
    for caller in callers {
        caller.await?;
    }
    messages.send(Message::Commands(fleet.map_or(0, |fleet| fleet.store().commands())))?;
    Ok(())
}

struct Target {
    client: reqwest::Client,
    url: String,
    node: usize,
}

enum Way {
    Open,
    Probe,
    Nowhere,
}

/// One HTTP exchange, up to the last byte of the answer.
async fn exchange(target: Arc<Target>, way: Way) -> reqwest::Result<()> {
    let url = if matches!(way, Way::Nowhere) { NOWHERE } else { &target.url };
    let mut request = target.client.get(url).header(NODE_HEADER, target.node);
    if matches!(way, Way::Probe) {
        request = request.header(PROBE_HEADER, "1");
    }
    let response = request.send().await?.error_for_status()?;
    response.bytes().await.map(drop)
}
