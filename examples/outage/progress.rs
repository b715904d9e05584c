//! What a person sees while it runs: lines on stderr, and on a terminal one live line below them.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use failfast::State;

use crate::load::{Ending, Side};
use crate::plan::Phase;

const REDRAW: Duration = Duration::from_millis(100);

/// What the callers and the service write and the live line reads.
#[derive(Default)]
pub(crate) struct Live {
    phase: AtomicU8,
    succeeded: AtomicU64,
    failed: AtomicU64,
    rejected: AtomicU64,
}

impl Live {
    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, ending: Ending) {
        let counter = match ending {
            Ending::Succeeded => &self.succeeded,
            Ending::Failed => &self.failed,
            Ending::Rejected => &self.rejected,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        let all = [Phase::Healthy, Phase::Slow, Phase::Down, Phase::Recovered];
        let now = self.phase.load(Ordering::Relaxed);
        all.into_iter().find(|phase| *phase as u8 == now).unwrap_or(Phase::Healthy)
    }
}

enum Message {
    Line(String),
    Watch(Watched),
    Rest,
    Finish,
}

struct Watched {
    start: Instant,
    live: Arc<Live>,
    /// `None` where there is no breaker.
    state: Box<dyn Fn() -> Option<State> + Send>,
}

/// A handle to the thread that alone writes to stderr. A plain thread, so that it goes on
/// when the runtime's own are busy.
#[derive(Clone)]
pub(crate) struct Progress(Sender<Message>);

impl Progress {
    pub(crate) fn start() -> (Progress, JoinHandle<()>) {
        let (messages, inbox) = mpsc::channel();
        let printer = std::thread::spawn(move || Printer::default().run(&inbox));
        (Progress(messages), printer)
    }

    pub(crate) fn line(&self, text: String) {
        self.send(Message::Line(text));
    }

    pub(crate) fn event(&self, side: Side, at: Duration, text: &str) {
        self.line(format!("[{side:<7} {:6.2} s] {text}", at.as_secs_f64()));
    }

    /// Redraws the live line from now on.
    pub(crate) fn watch(&self, start: Instant, live: &Arc<Live>, state: impl Fn() -> Option<State> + Send + 'static) {
        self.send(Message::Watch(Watched { start, live: Arc::clone(live), state: Box::new(state) }));
    }

    /// Takes the live line away.
    pub(crate) fn rest(&self) {
        self.send(Message::Rest);
    }

    pub(crate) fn finish(&self) {
        self.send(Message::Finish);
    }

    fn send(&self, message: Message) {
        // Without its printer a run is merely silent.
        let _ = self.0.send(message);
    }
}

#[derive(Default)]
struct Printer {
    watched: Option<Watched>,
    /// Calls per second are taken between two redraws.
    last: Option<(Instant, u64)>,
}

impl Printer {
    fn run(mut self, inbox: &Receiver<Message>) {
        let terminal = std::io::stderr().is_terminal();
        let clear = if terminal { "\r\x1b[2K" } else { "" };
        let mut redraw_at = Instant::now();
        loop {
            let wait = redraw_at.saturating_duration_since(Instant::now());
            let mut text = String::new();
            match inbox.recv_timeout(wait) {
                Ok(Message::Line(line)) => text = format!("{clear}{line}\n"),
                Ok(Message::Watch(watched)) => {
                    self.last = None;
                    self.watched = Some(watched);
                }
                Ok(Message::Rest) => {
                    self.watched = None;
                    text = clear.to_owned();
                }
                Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    redraw_at = Instant::now() + REDRAW;
                    if let (true, Some(status)) = (terminal, self.status()) {
                        text = format!("{clear}{status}");
                    }
                }
            }
            // A closed stderr is no reason to stop the run.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
    }

    /// Kept short: a line that wraps cannot be redrawn.
    fn status(&mut self) -> Option<String> {
        let watched = self.watched.as_ref()?;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let live = &watched.live;
        let (succeeded, failed, rejected) = (count(&live.succeeded), count(&live.failed), count(&live.rejected));
        let (now, total) = (Instant::now(), succeeded + failed + rejected);
        let rate = match self.last.replace((now, total)) {
            Some((then, before)) => (total - before) as f64 / (now - then).as_secs_f64(),
            None => 0.0,
        };
        let state = match (watched.state)() {
            Some(state) => format!("{}{:<10}\x1b[0m", colour(state), state.as_str()),
            None => "no breaker".to_owned(),
        };
        Some(format!(
            "{:4.1} s  {:<9}  {state} {rate:5.0} req/s  \
             {succeeded} ok {failed} failed {rejected} rejected",
            watched.start.elapsed().as_secs_f64(),
            live.phase(),
        ))
    }
}

fn colour(state: State) -> &'static str {
    match state {
        _ if std::env::var_os("NO_COLOR").is_some() => "",
        State::Closed => "\x1b[32m",
        State::HalfOpen => "\x1b[33m",
        _ => "\x1b[31m",
    }
}
