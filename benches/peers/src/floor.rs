//! The floor: what the parts that a breaker is made of cost on this machine.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use crate::measure::{Subject, look_at, work};
use crate::row::{Group, Row};

/// The name of the row that the others are compared with.
pub(crate) const BARE: &str = "the guarded work, bare";

pub(crate) fn rows() -> Vec<Row> {
    fn row<B, L, F>(name: &'static str, subject: Subject<B, L, F>) -> Row
    where
        B: Sync + 'static,
        L: 'static,
        F: Fn(&B, &mut L, u64) -> bool + Sync + 'static,
    {
        Row::new(Group::Floor, name, "", subject)
    }
    // Not `fetch_update`: the loop that breakers write.
    fn cas_increment(word: &AtomicU64) -> u64 {
        let mut seen = word.load(Ordering::Relaxed);
        while let Err(now) = word.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
            seen = now;
        }
        seen
    }
    let word = || AtomicU64::new(0);
    let nothing = |_: &()| ();
    let nothing_of_word = |_: &AtomicU64| ();
    let cell = |_: &()| CachePadded::new(AtomicU64::new(0));
    vec![
        row(
            BARE,
            Subject::new(
                || (),
                nothing,
                |(), (), n| {
                    let result = work(n);
                    look_at(&result);
                    result.is_ok()
                },
            ),
        ),
        row(
            "relaxed load",
            Subject::new(word, nothing_of_word, |word, (), _| black_box(word.load(Ordering::Relaxed)) == 0),
        ),
        row(
            "`fetch_add`, one shared word",
            Subject::new(word, nothing_of_word, |word, (), _| black_box(word.fetch_add(1, Ordering::AcqRel)) == 0),
        ),
        row(
            "CAS increment, one shared word",
            Subject::new(word, nothing_of_word, |word, (), _| black_box(cas_increment(word)) == 0),
        ),
        row(
            "`fetch_add`, own padded cell",
            Subject::new(|| (), cell, |(), cell, _| black_box(cell.fetch_add(1, Ordering::AcqRel)) == 0),
        ),
        row(
            "load + store, own padded cell",
            Subject::new(
                || (),
                cell,
                |(), cell, _| {
                    let count = cell.load(Ordering::Relaxed);
                    cell.store(count + 1, Ordering::Release);
                    black_box(count) == 0
                },
            ),
        ),
        row(
            "quanta `now`",
            Subject::new(
                quanta::Clock::new,
                |_| (),
                |clock, (), _| {
                    black_box(clock.now());
                    true
                },
            ),
        ),
        row(
            "std `Instant::now`",
            Subject::new(
                || (),
                nothing,
                |(), (), _| {
                    black_box(Instant::now());
                    true
                },
            ),
        ),
        row(
            "std `Mutex`, lock + unlock",
            Subject::new(
                || Mutex::new(0_u64),
                |_| (),
                |word, (), _| {
                    *word.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    true
                },
            ),
        ),
        row(
            "`Arc`, clone + drop",
            Subject::new(
                || Arc::new(0_u64),
                |_| (),
                |shared, (), _| {
                    drop(black_box(Arc::clone(shared)));
                    true
                },
            ),
        ),
    ]
}
