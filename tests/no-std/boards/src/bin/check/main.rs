//! Replays the contract's cases, and shares breakers between the main program and an interrupt handler.

#![no_std]
#![no_main]

mod cases;
mod replay;
#[cfg(not(target_arch = "wasm32"))]
mod shared;

use boards::{machine, println, size};

// What the documentation recommends to a program with one core. A critical section may be anything.
const _: () = assert!(failfast::LOCK_FREE || cfg!(feature = "critical-section"));

fn main() {
    let mut tally = Tally::default();
    replay::replay(&mut tally);
    #[cfg(not(target_arch = "wasm32"))]
    shared::check(&mut tally);
    #[cfg(target_arch = "wasm32")]
    println!("shared with an interrupt handler: left out, there are no interrupts");
    println!(
        "bytes: {} {} {}",
        size_of_val(&size::consecutive()),
        size_of_val(&size::last_calls()),
        size_of_val(&size::last_time()),
    );
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        machine::exit(false);
    }
}

/// What has passed, and what has failed.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, passed: bool) {
        *(if passed { &mut self.passed } else { &mut self.failed }) += 1;
    }

    /// Checks that both are the same.
    #[cfg(not(target_arch = "wasm32"))]
    fn check(&mut self, what: &str, got: u32, expected: u32) {
        self.count(got == expected);
        if got != expected {
            println!("FAILED {what}: {got}, expected {expected}");
        }
    }
}

boards::entry!(main);

boards::on_timer!(shared::interrupted);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("FAILED {info}");
    machine::exit(false)
}
