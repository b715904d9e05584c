//! failfast with other crates and real servers, end to end: over loopback, on free ports, and on a clock that the test
//! moves. The documentation's pages that need those crates are tested here, too.

#[cfg(doctest)]
#[doc = include_str!("../../docs/tower.md")]
mod tower {}
