//! The time window: buckets that are entered while somebody still counts in an older one, and verdicts that overlap.

use std::sync::Arc;
use std::time::Duration;

use failfast::{CircuitBreaker, Fault, HeapBuckets, Spec, State, TimeWindow, number_thread};
use loom_tests::{Log, Orders, OwnTime, explore, thread};

type Breaker = CircuitBreaker<TimeWindow<HeapBuckets>, OwnTime, Arc<Log>>;

fn breaker(policy: Spec<TimeWindow<HeapBuckets>>) -> (Arc<Breaker>, Arc<Log>) {
    OwnTime::set(0);
    let log = Arc::new(Log::default());
    let breaker = CircuitBreaker::builder().policy(policy).clock(OwnTime).observer(log.clone()).build().unwrap();
    (Arc::new(breaker), log)
}

/// Two buckets of 1 ms.
fn two_buckets() -> Spec<TimeWindow<HeapBuckets>> {
    TimeWindow::over(Duration::from_millis(2), 2)
}

fn record(breaker: &Breaker, failed: bool) {
    let permit = breaker.try_acquire().unwrap();
    if failed { permit.failure() } else { permit.success() }
}

/// A call that ends at `millis`, in a stripe, as far as there are several, of its own.
fn ends_at(millis: u64, failed: bool, breaker: &Arc<Breaker>) -> thread::JoinHandle<()> {
    let permit = breaker.try_acquire_owned().unwrap();
    thread::spawn(move || {
        number_thread(1);
        OwnTime::set(millis);
        if failed { permit.failure() } else { permit.success() }
    })
}

fn counts(breaker: &Breaker) -> (u64, u64) {
    let window = breaker.snapshot().window();
    (window.total(), window.failed())
}

/// Two threads enter the bucket that a failure of the lap before is in: both are counted, it is not.
#[test]
fn two_enter_a_bucket() {
    explore("two enter a bucket", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, _) = breaker(two_buckets().failures(9));
        record(&breaker, true);
        let other = ends_at(2, true, &breaker);
        OwnTime::set(2);
        record(&breaker, true);
        other.join().unwrap();
        assert_eq!(counts(&breaker), (2, 2));
    });
}

/// One who has read the clock in the lap before counts where that is still in the window, and nowhere else.
#[test]
fn a_late_writer() {
    explore("a late writer", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, _) = breaker(two_buckets().failures(9));
        record(&breaker, true);
        let late = ends_at(0, true, &breaker);
        OwnTime::set(2);
        record(&breaker, true);
        late.join().unwrap();
        assert_eq!(counts(&breaker), (1, 1));
        OwnTime::set(3);
        assert_eq!(counts(&breaker), (1, 1));
    });
}

/// A failure from before a reset, in the bucket that is counted in after it.
#[test]
fn a_straggler_in_the_same_bucket() {
    explore("a straggler in the same bucket", Orders::All, &[Fault::BlindCas, Fault::UntaggedCas], || {
        let (breaker, _) = breaker(two_buckets().failures(9));
        record(&breaker, true);
        let straggler = ends_at(0, true, &breaker);
        breaker.reset();
        record(&breaker, true);
        straggler.join().unwrap();
        assert_eq!(counts(&breaker), (1, 1));
    });
}

/// A success that sees that there was trouble sees the failure that it was. Else it would find that no rate can be
/// reached, and the next success, which reaches it, would believe that.
fn trouble_and_its_failure(stripes: u32) {
    let (breaker, log) = breaker(two_buckets().stripes(stripes).min_calls(4).failure_rate(25.0));
    record(&breaker, false);
    let other = ends_at(0, false, &breaker);
    record(&breaker, true);
    other.join().unwrap();
    assert_eq!(counts(&breaker), (3, 1));
    record(&breaker, false);
    assert_eq!(log.states(State::Closed), [State::Open]);
}

#[test]
fn trouble_and_its_failure_in_one_stripe() {
    let model = || trouble_and_its_failure(1);
    explore("trouble and its failure, in one stripe", Orders::All, &[Fault::Relaxed], model);
}

#[test]
fn trouble_and_its_failure_in_two_stripes() {
    let model = || trouble_and_its_failure(2);
    explore("trouble and its failure, in two stripes", Orders::All, &[Fault::Relaxed], model);
}

/// Two successes and a failure complete `min_calls`, none knowing of the others: none is lost, and if the verdict did not
/// fall with one of them it falls with the next call.
#[test]
fn the_verdict_falls_with_the_next() {
    explore("the verdict falls with the next", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = breaker(two_buckets().min_calls(3).failure_rate(25.0));
        let other = ends_at(0, false, &breaker);
        record(&breaker, true);
        _ = breaker.try_acquire().map(|permit| permit.success());
        other.join().unwrap();
        if log.states(State::Closed).is_empty() {
            assert_eq!(counts(&breaker), (3, 1));
            record(&breaker, false);
        }
        assert_eq!(log.states(State::Closed), [State::Open]);
    });
}

/// A cell's lap has 16 bits: what was counted 2^16 laps ago is not taken for the present. (Of as many calls in that lap as
/// have been counted in the present one, where the one that puts it aside sleeps for so long, one may be lost: see the
/// page on orderings.)
fn a_lap_that_looks_present(before: usize) {
    let (breaker, _) = breaker(TimeWindow::over(Duration::from_millis(1), 1).failures(9));
    (0..before).for_each(|_| record(&breaker, true));
    let other = ends_at(1 << 16, true, &breaker);
    OwnTime::set(1 << 16);
    record(&breaker, true);
    other.join().unwrap();
    assert_eq!(counts(&breaker), (2, 2));
}

#[test]
fn more_calls_than_now_in_a_lap_that_looks_present() {
    let model = || a_lap_that_looks_present(3);
    explore("a lap that looks present", Orders::Bound(4), &[Fault::SplitCas, Fault::BlindCas], model);
}
