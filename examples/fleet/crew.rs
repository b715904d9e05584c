//! The fleet's processes, as the one who started them sees them.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::message::Message;
use crate::node::{self, Orders};
use crate::plan::Start;
use crate::process;

/// How long the nodes may take until they are ready.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Crew {
    children: Vec<Child>,
    inbox: Receiver<(usize, Result<Message, String>)>,
}

/// What there was to hear.
pub(crate) enum Heard {
    Said(usize, Message),
    Nothing,
    AllEnded,
}

impl Crew {
    /// Returns when all are ready.
    pub(crate) fn start(orders: &[Orders]) -> Result<Crew, Box<dyn Error>> {
        let (sender, inbox) = mpsc::channel();
        let mut crew = Crew { children: Vec::new(), inbox };
        for (number, order) in orders.iter().enumerate() {
            let arguments = [&[node::ROLE.to_owned()], &order.to_arguments()[..]].concat();
            let mut child = process::of_our_own(&arguments)?;
            let output = child.stdout.take();
            crew.children.push(child);
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut ended = false;
                for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()) {
                    let said = line.map_err(|error| error.to_string()).and_then(|line| line.parse());
                    ended |= matches!(said, Ok(Message::Commands(_)));
                    // Whoever does not listen any more has ended the run.
                    let _ = sender.send((number, said));
                }
                if !ended {
                    let _ = sender.send((number, Err("it ended early".to_owned())));
                }
            });
        }
        drop(sender);
        let begun = Instant::now();
        let mut ready = 0;
        while ready < orders.len() {
            match crew.hear(PATIENCE.saturating_sub(begun.elapsed()))? {
                Heard::Said(_, Message::Ready) => ready += 1,
                // What the store does before the run is not part of it.
                Heard::Said(..) => {}
                Heard::Nothing => return Err(format!("the nodes were not ready within {PATIENCE:?}").into()),
                Heard::AllEnded => return Err("the nodes ended before the run began".into()),
            }
        }
        Ok(crew)
    }

    pub(crate) fn begin(&mut self, start: Start) -> Result<(), Box<dyn Error>> {
        for child in &mut self.children {
            if let Some(input) = &mut child.stdin {
                writeln!(input, "{}", start.as_nanos())?;
            }
        }
        Ok(())
    }

    pub(crate) fn hear(&self, patience: Duration) -> Result<Heard, Box<dyn Error>> {
        match self.inbox.recv_timeout(patience) {
            Ok((node, Ok(message))) => Ok(Heard::Said(node, message)),
            Ok((node, Err(problem))) => Err(format!("node {}: {problem}", node + 1).into()),
            Err(RecvTimeoutError::Timeout) => Ok(Heard::Nothing),
            Err(RecvTimeoutError::Disconnected) => Ok(Heard::AllEnded),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        // All at once, and then one by one.
        for child in &mut self.children {
            drop(child.stdin.take());
        }
        self.children.drain(..).for_each(process::end);
    }
}
