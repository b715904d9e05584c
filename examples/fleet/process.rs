//! Processes of this same program. They live as long as their stdin: the system closes it when whoever started them ends,
//! by a panic, a signal or a kill too.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long one may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) fn of_our_own(arguments: &[String]) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Ctrl-C in a terminal is for the one who started them: they end by their stdin, and clear up.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn()
}

pub(crate) fn end(mut child: Child) {
    drop(child.stdin.take());
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begun.elapsed() > PATIENCE {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
