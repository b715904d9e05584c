//! A clock by which a test plays another thread.

use std::sync::Mutex;

use failfast::{Clock, ManualClock, Timestamp};

pub(crate) type Other = Box<dyn FnOnce() + Send>;

/// Makes the other thread's move inside one reading of the clock, where the reader might as well have been preempted.
#[derive(Default)]
pub(crate) struct Preempted {
    pub(crate) time: ManualClock,
    /// The move, and how many readings come before it.
    pub(crate) other: Mutex<Option<(u32, Other)>>,
}

impl Clock for Preempted {
    fn now(&self) -> Timestamp {
        let now = self.time.now();
        // Taken out first, since the other reads the clock too.
        let due = self.other.lock().unwrap().take_if(|(readings, _)| {
            let due = *readings == 0;
            *readings = readings.saturating_sub(1);
            due
        });
        if let Some((_, other)) = due {
            other();
        }
        now
    }
}
