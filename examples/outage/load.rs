//! The callers, bare and behind the breaker.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use failfast::{CallError, CircuitBreaker, State, TimeWindow, Transition};
use tokio::task::JoinHandle;

use crate::numbers::spread;
use crate::plan::{FAILURE_RATE, MIN_CALLS, PROBES, Phase, Plan, SLOW_RATE};
use crate::progress::{Live, Progress};
use crate::service::{Arrival, PROBE_HEADER, Service};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Bare,
    Breaker,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Bare => "bare",
            Side::Breaker => "breaker",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    Failed,
    Rejected,
}

/// One call as its caller saw it; times count from the start of the run.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub begin: Duration,
    pub end: Duration,
    pub ending: Ending,
}

impl Sample {
    pub(crate) fn latency(&self) -> Duration {
        self.end - self.begin
    }
}

/// A transition of the breaker.
#[derive(Clone)]
pub(crate) struct Change {
    pub at: Duration,
    pub to: State,
    pub text: String,
}

/// Everything that one run left behind.
pub(crate) struct Run {
    pub side: Side,
    pub down_at: Duration,
    pub recovered_at: Duration,
    pub samples: Vec<Sample>,
    /// Requests that reached the service while it was down.
    pub arrivals: Vec<(Duration, Arrival)>,
    pub changes: Vec<Change>,
    pub first_rejection: Option<String>,
}

pub(crate) async fn run(plan: &Plan, side: Side, progress: &Progress) -> Result<Run, Box<dyn Error>> {
    let service = Service::start(plan).await?;
    // A proxy from the environment must not come between the callers and loopback.
    let client = reqwest::Client::builder().timeout(plan.timeout).no_proxy().build()?;
    let url = service.url();
    let target = Arc::new(Target { client, url });
    warm_up(plan, &target).await?;

    let start = Instant::now();
    let crew = Crew { plan: *plan, start, live: Arc::new(Live::default()), first_rejection: Arc::new(OnceLock::new()) };
    let changes = Arc::new(Mutex::new(Vec::new()));

    let callers = match side {
        Side::Bare => {
            progress.watch(start, &crew.live, || None);
            crew.spawn(move || {
                let call = exchange(Arc::clone(&target), false);
                async { call.await.map_err(CallError::Failed) }
            })
        }
        Side::Breaker => {
            let note = {
                let (changes, progress) = (Arc::clone(&changes), progress.clone());
                move |transition: &Transition| {
                    let change = Change { at: start.elapsed(), to: transition.to(), text: transition.to_string() };
                    progress.event(side, change.at, &format!("breaker: {}", change.text));
                    lock(&changes).push(change);
                }
            };
            let breaker = Arc::new(
                CircuitBreaker::builder()
                    .policy(
                        TimeWindow::over(plan.window, 10)
                            .min_calls(MIN_CALLS)
                            .failure_rate(FAILURE_RATE)
                            .slow_calls(plan.slow_call, SLOW_RATE),
                    )
                    .open_for(plan.open_for)
                    .probes(PROBES)
                    .successes(PROBES)
                    .max_wait(plan.max_wait)
                    .on_transition(note)
                    .build()?,
            );
            let watched = Arc::clone(&breaker);
            progress.watch(start, &crew.live, move || Some(watched.state()));
            crew.spawn(move || {
                let (breaker, target) = (Arc::clone(&breaker), Arc::clone(&target));
                async move {
                    let call = breaker.call_async(|| {
                        let probe = breaker.state() == State::HalfOpen;
                        exchange(target, probe)
                    });
                    call.await
                }
            })
        }
    };

    let (mut down_at, mut recovered_at) = (Duration::ZERO, Duration::ZERO);
    for (phase, begin, _) in plan.phases() {
        tokio::time::sleep_until((start + begin).into()).await;
        let now = start.elapsed();
        service.enter(phase);
        crew.live.enter(phase);
        match phase {
            Phase::Down => down_at = now,
            Phase::Recovered => recovered_at = now,
            Phase::Healthy | Phase::Slow => {}
        }
        progress.event(side, now, &format!("service: {phase}"));
    }

    let mut samples = Vec::new();
    for caller in callers {
        samples.append(&mut caller.await?);
    }
    samples.sort_by_key(|sample| sample.end);
    progress.event(side, start.elapsed(), "done");
    progress.rest();

    let arrivals = service.arrivals_while_down().into_iter();
    let mut changes = std::mem::take(&mut *lock(&changes));
    changes.sort_by_key(|change| change.at);
    Ok(Run {
        side,
        down_at,
        recovered_at,
        samples,
        arrivals: arrivals.map(|a| (a.at - start, a)).collect(),
        changes,
        first_rejection: crew.first_rejection.get().cloned(),
    })
}

struct Target {
    client: reqwest::Client,
    url: String,
}

/// One HTTP exchange, up to the last byte of the answer.
async fn exchange(target: Arc<Target>, probe: bool) -> reqwest::Result<()> {
    let mut request = target.client.get(&target.url);
    if probe {
        request = request.header(PROBE_HEADER, "1");
    }
    let response = request.send().await?.error_for_status()?;
    response.bytes().await.map(drop)
}

/// Opens every caller's connection, so that the first measured calls do not pay for it.
async fn warm_up(plan: &Plan, target: &Arc<Target>) -> Result<(), Box<dyn Error>> {
    for _ in 0..3 {
        let round: Vec<_> = (0..plan.callers).map(|_| tokio::spawn(exchange(Arc::clone(target), false))).collect();
        for call in round {
            call.await?.map_err(|error| format!("the service does not answer on loopback: {error}"))?;
        }
    }
    Ok(())
}

struct Crew {
    plan: Plan,
    start: Instant,
    live: Arc<Live>,
    first_rejection: Arc<OnceLock<String>>,
}

impl Crew {
    /// Closed-loop callers: each asks, waits for the end of its call, pauses and asks again.
    fn spawn<F, Fut>(&self, ask: F) -> Vec<JoinHandle<Vec<Sample>>>
    where
        F: Fn() -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), CallError<reqwest::Error>>> + Send + 'static,
    {
        let caller = |caller: u32| {
            let (plan, start, ask) = (self.plan, self.start, ask.clone());
            let (live, first_rejection) = (Arc::clone(&self.live), Arc::clone(&self.first_rejection));
            async move {
                let mut samples = Vec::new();
                loop {
                    let turn = u64::from(caller) << 32 | samples.len() as u64;
                    tokio::time::sleep(spread(turn, plan.think)).await;
                    let begin = start.elapsed();
                    if begin >= plan.run {
                        return samples;
                    }
                    let result = ask().await;
                    let finish = start.elapsed();
                    let ending = match result {
                        Ok(()) => Ending::Succeeded,
                        Err(CallError::Failed(_)) => Ending::Failed,
                        Err(CallError::Rejected(rejection)) => {
                            first_rejection.get_or_init(|| rejection.to_string());
                            Ending::Rejected
                        }
                    };
                    live.count(ending);
                    samples.push(Sample { begin, end: finish, ending });
                }
            }
        };
        (0..self.plan.callers).map(|n| tokio::spawn(caller(n))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
