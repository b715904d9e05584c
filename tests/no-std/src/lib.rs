#![no_std]

use core::time::Duration;

use failfast::{CircuitBreaker, Clock, Config, Consecutive, History, LastCalls, LastTime, Timestamp};

#[derive(Clone, Copy)]
struct Ticks;

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN
    }
}

static HISTORY: History<8> = History::new();

static SENSOR: CircuitBreaker<(Consecutive, LastCalls<64>), Ticks, &History<8>> = CircuitBreaker::new_with(
    Consecutive::new(5).and(LastCalls::new().min_calls(20).failure_rate(50.0)),
    Config::new(),
    Ticks,
    &HISTORY,
);

static RADIO: CircuitBreaker<LastTime<10>, Ticks> =
    CircuitBreaker::new_with(LastTime::new(Duration::from_secs(10)).failures(3), Config::new(), Ticks, ());

#[unsafe(no_mangle)]
pub extern "C" fn read_sensor(raw: u32) -> u32 {
    let read = || if raw == 0 { Err(()) } else { Ok(raw) };
    SENSOR.call(|| RADIO.call(read)).unwrap_or(u32::MAX)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
