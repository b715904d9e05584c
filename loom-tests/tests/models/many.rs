//! Four to eight threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use failfast::{CircuitBreaker, Fault, History, LastCalls, LastTime, Observer, OnMaxWait, State, number_thread};
use loom_tests::{Log, Orders, OwnTime, Time, explore, thread};

const CAS_FAULTS: &[Fault] = &[Fault::SplitCas, Fault::BlindCas];

/// What each thread does is given by its number.
fn at_once<T: Send + 'static>(threads: usize, act: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let act = Arc::new(act);
    let start = |number| {
        let act = act.clone();
        thread::spawn(move || {
            number_thread(number);
            act(number)
        })
    };
    let running: Vec<_> = (0..threads).map(start).collect();
    running.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// Six threads record 96 calls around a window of 100 that is all but full: it holds what was recorded, to the last one,
/// also when all of it is pushed out again.
#[test]
fn six_threads_in_a_window_of_100() {
    explore("six threads in a window of 100", Orders::All, CAS_FAULTS, || {
        let breaker = CircuitBreaker::builder()
            .policy(LastCalls::<100>::new().failures(100))
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        let record = |failed| {
            let permit = breaker.try_acquire().unwrap();
            if failed { permit.failure() } else { permit.success() }
        };
        let counts = || (breaker.snapshot().window().total(), breaker.snapshot().window().failed());
        // Every third of the first 93 failed: 31, the oldest first.
        (0..93).for_each(|call| record(call % 3 == 0));
        let recording = breaker.clone();
        at_once(6, move |number| {
            for call in 0..4 {
                let permit = recording.try_acquire().unwrap();
                if (number + call) % 2 == 0 { permit.failure() } else { permit.success() }
            }
        });
        // 24 more, half of them failed, have pushed out 17, of which 6 had.
        assert_eq!(counts(), (100, 31 - 6 + 12));
        // Then all of the first ones are gone.
        (0..76).for_each(|_| record(false));
        assert_eq!(counts(), (100, 12));
        (0..24).for_each(|_| record(false));
        assert_eq!(counts(), (100, 0));
    });
}

/// Five threads record while a sixth resets: what is there afterwards was recorded after the reset, and is in one piece.
#[test]
fn a_window_of_100_through_a_reset() {
    explore("a window of 100 through a reset", Orders::All, &[Fault::BlindCas], || {
        let breaker = CircuitBreaker::builder()
            .policy(LastCalls::<100>::new().failures(100))
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        (0..20).for_each(|_| breaker.try_acquire().unwrap().failure());
        let recording = breaker.clone();
        let is_reset = AtomicBool::new(false);
        let after = at_once(6, move |number| {
            if number == 0 {
                recording.reset();
                is_reset.store(true, SeqCst);
                return 0;
            }
            let mut surely = 0;
            for _ in 0..5 {
                // Who asks after the reset is counted; who asks before it is told by nothing whether that came too late.
                surely += u64::from(is_reset.load(SeqCst));
                recording.try_acquire().unwrap().failure();
            }
            surely
        });
        let counted = breaker.snapshot().window();
        assert_eq!(counted.total(), counted.failed());
        assert!(counted.total() >= after.iter().sum() && counted.total() <= 25);
        // What follows is added to it, until it is pushed out.
        let follow = |calls| (0..calls).for_each(|_| breaker.try_acquire().unwrap().success());
        follow(100 - counted.total());
        assert_eq!(breaker.snapshot().window().failed(), counted.failed());
        follow(counted.total());
        assert_eq!(breaker.snapshot().window().failed(), 0);
    });
}

/// Eight threads, in four stripes, cross from one bucket of ten into the next, some of them late: each call is counted where
/// it ended, until its bucket leaves.
#[test]
fn eight_threads_in_ten_buckets() {
    explore("eight threads in ten buckets", Orders::All, CAS_FAULTS, || {
        OwnTime::set(0);
        let breaker = CircuitBreaker::builder()
            .policy(LastTime::<10, 4>::new(Duration::from_millis(1000)).failures(1000))
            .clock(OwnTime)
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        // In the place of the bucket that is entered, a lap before.
        (0..3).for_each(|_| breaker.try_acquire().unwrap().failure());
        let recording = breaker.clone();
        at_once(8, move |number| {
            // The even ones in the bucket before the present one, the odd ones first there and then in this.
            for call in 0..4 {
                OwnTime::set(if number % 2 == 0 || call < 2 { 950 } else { 1000 });
                let permit = recording.try_acquire().unwrap();
                if call % 2 == 0 { permit.failure() } else { permit.success() }
            }
        });
        let counts = |millis| {
            OwnTime::set(millis);
            let window = breaker.snapshot().window();
            (window.total(), window.failed())
        };
        assert_eq!(counts(1000), (32, 16));
        assert_eq!(counts(1850), (32, 16));
        // The bucket of 900 to 999 has left.
        assert_eq!(counts(1900), (8, 4));
        assert_eq!(counts(2000), (0, 0));
    });
}

/// A rate that six threads reach together, in as many stripes: if it was not found by one of them, it is by the next call.
#[test]
fn a_rate_in_stripes() {
    explore("a rate in stripes", Orders::All, CAS_FAULTS, || {
        let log = Arc::new(Log::default());
        let breaker = CircuitBreaker::builder()
            .policy(LastTime::<10, 6>::new(Duration::from_millis(1000)).min_calls(12).failure_rate(20.0))
            .clock(Arc::new(Time::default()))
            .observer(log.clone())
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        let recording = breaker.clone();
        at_once(6, move |number| {
            for call in 0..2 {
                let permit = recording.try_acquire().unwrap();
                if number < 3 && call == 0 {
                    permit.failure()
                } else {
                    permit.success()
                }
                if recording.state() != State::Closed {
                    return;
                }
            }
        });
        // Shuttle is sequentially consistent: who completes the 12 sees them.
        assert_eq!(log.states(State::Closed), [State::Open]);
    });
}

/// Eight callers find that the wait is over, three may probe, and the probes decide: who asks, fails and succeeds, in
/// whatever order, makes one chain of transitions, and never more probes than there are places.
#[test]
fn eight_callers_three_probes() {
    explore("eight callers, three probes", Orders::All, CAS_FAULTS, || {
        let (time, log) = (Arc::new(Time::default()), Arc::new(Log::default()));
        let breaker = CircuitBreaker::builder()
            .failures(1)
            .open_for(Duration::from_millis(100))
            .probes(3)
            .successes(2)
            .max_wait(Duration::from_millis(1000))
            .on_max_wait(OnMaxWait::Renew)
            .clock(time.clone())
            .observer(log.clone())
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        breaker.open();
        time.set(100);
        let asking = breaker.clone();
        let probes: Vec<_> = at_once(8, move |_| asking.try_acquire_owned().ok()).into_iter().flatten().collect();
        assert_eq!(probes.len(), 3);
        assert_eq!(breaker.snapshot().probes().unwrap().admitted(), 3);
        let probes = std::sync::Mutex::new(probes);
        at_once(3, move |number| {
            let probe = probes.lock().unwrap().pop().unwrap();
            if number == 0 { probe.failure() } else { probe.success() }
        });
        assert_eq!(log.states(State::Closed), [State::Open, State::HalfOpen, State::Closed]);
    });
}

/// Tells two at once.
struct Both(Arc<Log>, History<4>);

impl Observer for Both {
    fn observes_calls(&self) -> bool {
        false
    }

    fn on_transition(&self, transition: &failfast::Transition) {
        self.0.on_transition(transition);
        self.1.on_transition(transition);
    }
}

/// Outages by the hand, by calls and by time, read meanwhile: each transition is told once, in one chain, and the history
/// keeps four of them, the last one too.
#[test]
fn seven_threads_and_a_history() {
    explore("seven threads and a history", Orders::All, CAS_FAULTS, || {
        let (time, log) = (Arc::new(Time::default()), Arc::new(Log::default()));
        let breaker = CircuitBreaker::builder()
            .failures(2)
            .open_for(Duration::from_millis(100))
            .probes(1)
            .successes(1)
            .clock(time.clone())
            .observer(Both(log.clone(), History::new()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        let acting = breaker.clone();
        at_once(7, move |number| match number {
            0 => (0..4).for_each(|round| time.set(round * 100)),
            1 => acting.force_open(),
            2 => acting.close(),
            3 => {
                let read: Vec<_> = acting.observer().1.recent().collect();
                for pair in read.windows(2) {
                    assert!(pair[1].generation().is_after(pair[0].generation()));
                }
            }
            _ => (0..3).for_each(|call| {
                if let Ok(permit) = acting.try_acquire() {
                    if call == 2 { permit.success() } else { permit.failure() }
                }
            }),
        });
        log.states(State::Closed);
        // They are told in any order, so the place of the fourth to last may be taken by one before it; not that of the last.
        let told: Vec<_> = log.transitions().iter().map(|transition| transition.generation()).collect();
        let kept: Vec<_> = breaker.observer().1.recent().map(|transition| transition.generation()).collect();
        assert_eq!(kept.len(), told.len().min(4));
        assert_eq!(kept.last(), told.last());
    });
}
