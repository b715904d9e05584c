//! What differs between the boards: where a program begins and ends, how it prints, and the timer that interrupts it.

/// The program: a function without arguments.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[cfg(target_arch = "arm")]
        #[cortex_m_rt::entry]
        fn begin() -> ! {
            $main();
            $crate::machine::exit(true)
        }

        #[cfg(target_arch = "riscv32")]
        #[riscv_rt::entry]
        fn begin() -> ! {
            $main();
            $crate::machine::exit(true)
        }

        #[cfg(target_arch = "wasm32")]
        #[unsafe(no_mangle)]
        extern "C" fn run() {
            $main();
        }
    };
}

/// The timer's handler: a function without arguments.
#[macro_export]
macro_rules! on_timer {
    ($handler:path) => {
        #[cfg(target_arch = "arm")]
        #[cortex_m_rt::exception]
        fn SysTick() {
            $handler();
        }

        #[cfg(target_arch = "riscv32")]
        #[riscv_rt::core_interrupt(riscv::interrupt::Interrupt::MachineTimer)]
        fn timer() {
            $handler();
        }
    };
}

#[cfg(not(target_arch = "wasm32"))]
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => { semihosting::println!($($arg)*) };
}

#[cfg(target_arch = "wasm32")]
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        _ = core::fmt::Write::write_fmt(&mut $crate::machine::Stdout, format_args!("{}\n", format_args!($($arg)*)));
    }};
}

pub use imp::*;

#[cfg(target_arch = "arm")]
mod imp {
    use cortex_m::peripheral::syst::SystClkSource::Core;
    use cortex_m::peripheral::{Peripherals, SYST};

    pub fn exit(passed: bool) -> ! {
        semihosting::process::exit(i32::from(!passed))
    }

    pub fn enable_interrupts() {
        // SAFETY: the main program calls it once, outside of any critical section.
        unsafe { cortex_m::interrupt::enable() }
    }

    fn timer() -> SYST {
        // SAFETY: nobody else has the timer, and its handler does not interrupt itself.
        unsafe { Peripherals::steal() }.SYST
    }

    /// Interrupts once so much later.
    pub fn set_timer(ticks: u32) {
        let mut timer = timer();
        timer.set_clock_source(Core);
        timer.set_reload(ticks);
        timer.clear_current();
        timer.enable_interrupt();
        timer.enable_counter();
    }

    pub fn stop_timer() {
        let mut timer = timer();
        timer.disable_interrupt();
        timer.disable_counter();
    }
}

#[cfg(target_arch = "riscv32")]
mod imp {
    const MTIMECMP: *mut u32 = 0x0200_4000 as *mut u32;
    const MTIME: *const u32 = 0x0200_bff8 as *const u32;

    pub fn exit(passed: bool) -> ! {
        semihosting::process::exit(i32::from(!passed))
    }

    pub fn enable_interrupts() {
        // SAFETY: the main program calls it once, outside of any critical section.
        unsafe { riscv::interrupt::enable() }
    }

    /// Interrupts once so much later.
    pub fn set_timer(ticks: u32) {
        // SAFETY: these are the emulated board's timer registers, and enabling its interrupt breaks no critical
        // section, since none counts on its being disabled. The program runs for less than 2^32 of its ticks.
        unsafe {
            let now = MTIME.read_volatile();
            MTIMECMP.add(1).write_volatile(0);
            MTIMECMP.write_volatile(now + ticks);
            riscv::register::mie::set_mtimer();
        }
    }

    pub fn stop_timer() {
        // SAFETY: as above.
        unsafe { riscv::register::mie::clear_mtimer() }
    }
}

#[cfg(target_arch = "wasm32")]
mod imp {
    #[link(wasm_import_module = "host")]
    unsafe extern "C" {
        fn print(text: *const u8, length: usize);
    }

    pub struct Stdout;

    impl core::fmt::Write for Stdout {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            // SAFETY: the host only reads it.
            unsafe { print(text.as_ptr(), text.len()) }
            Ok(())
        }
    }

    pub fn exit(_: bool) -> ! {
        core::arch::wasm32::unreachable()
    }
}
