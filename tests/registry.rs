//! Breakers by key.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use failfast::registry::{Handle, Registry, RegistryEvent, WhenFull};
use failfast::{
    BoxPolicy, CallError, Clock, Config, Consecutive, CountWindow, DefaultClock, LastCalls, ManualClock, Observer,
    Rejected, Rule, State, Timestamp, Transition,
};

const IDLE: Duration = Duration::from_secs(600);

type Hosts<'a> = Registry<Consecutive, &'a ManualClock>;

fn hosts(clock: &ManualClock, capacity: usize) -> Hosts<'_> {
    Registry::builder().capacity(capacity).idle_time(IDLE).clock(clock).build().unwrap()
}

fn fail(hosts: &Hosts<'_>, key: &str, times: u32) {
    (0..times).for_each(|_| hosts.get(key).try_acquire().unwrap().failure());
}

fn failures(hosts: &Hosts<'_>, key: &str) -> Option<u64> {
    hosts.peek(key).and_then(|found| found.snapshot().consecutive_failures())
}

fn same(a: &Handle, b: &Handle) -> bool {
    std::ptr::eq(a.breaker().unwrap(), b.breaker().unwrap())
}

/// Tells what happened, in order.
fn told() -> (Arc<Mutex<Vec<String>>>, impl Fn(&RegistryEvent<'_>) + Send + Sync + 'static) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = told.clone();
    (told, move |event: &RegistryEvent<'_>| teller.lock().unwrap().push(event.to_string()))
}

#[test]
fn a_key_has_one_breaker_and_keys_have_their_own() {
    let clock = ManualClock::new();
    let hosts = hosts(&clock, 10);
    fail(&hosts, "a", 5);
    assert_eq!(hosts.get("a").state(), State::Open);
    assert_eq!(hosts.get("b").call(|| Ok::<_, ()>(1)), Ok(1));
    assert!(matches!(hosts.get("a").call(|| Ok::<_, ()>(1)), Err(CallError::Rejected(_))));
    assert_eq!(hosts.get("a").call_or_else(|| Ok::<_, ()>(1), |_| Ok(2)), Ok(2));
    let listing = hosts.snapshot();
    let listing: Vec<_> = listing.iter().map(|(key, snapshot)| (&**key, snapshot.state())).collect();
    assert_eq!(listing, [("a", State::Open), ("b", State::Closed)]);
    assert_eq!(hosts.iter().map(|found| found.key().to_owned()).collect::<HashSet<_>>().len(), 2);
    assert_eq!((hosts.len(), hosts.capacity(), hosts.is_empty()), (2, 10, false));
}

#[test]
fn async_calls_and_permits_that_hold_their_breaker() {
    let clock = ManualClock::new();
    let hosts = hosts(&clock, 1);
    pollster::block_on(async {
        assert_eq!(hosts.get("a").call_async(|| async { Ok::<_, ()>(1) }).await, Ok(1));
        assert_eq!(hosts.get("a").call_async_owned(|| async { Err::<(), _>(2) }).await, Err(CallError::Failed(2)));
        assert_eq!(failures(&hosts, "a"), Some(1));
        hosts.get("a").breaker().unwrap().open();
        let price = hosts.get("a").call_async_or_else(|| async { Ok::<_, ()>(1) }, |_| async { Ok(3) }).await;
        assert_eq!(price, Ok(3));
        hosts.get("a").breaker().unwrap().reset();
    });
    let permit = hosts.get("a").try_acquire_owned().unwrap();
    let future = hosts.get("a").call_async_owned(|| async { Ok::<_, ()>(1) });
    clock.advance(IDLE);
    assert_eq!(hosts.sweep(), 0);
    drop(future);
    assert_eq!(hosts.sweep(), 0);
    permit.failure();
    clock.advance(IDLE);
    assert_eq!(hosts.sweep(), 1);
}

#[test]
fn what_is_closed_and_idle_gives_up_its_place() {
    let clock = ManualClock::new();
    let hosts = hosts(&clock, 3);
    fail(&hosts, "failing", 1);
    fail(&hosts, "open", 5);
    let held = hosts.get("held");
    clock.advance(IDLE - Duration::from_nanos(1));
    assert!(hosts.try_get("new").is_none());
    clock.advance(Duration::from_nanos(1));
    assert!(hosts.try_get("new").is_some());
    assert_eq!(failures(&hosts, "failing"), None);
    assert!(hosts.try_get("another").is_none());
    // Idle from when it is let go, not from when it was got.
    drop(held);
    assert!(hosts.try_get("another").is_none());
    clock.advance(IDLE);
    assert!(hosts.try_get("another").is_some());
    assert!(hosts.peek("open").is_some());
    assert_eq!(hosts.len(), 2);
}

#[test]
fn what_was_abandoned_open_goes_only_where_asked_for() {
    let clock = ManualClock::new();
    let (told, on_event) = told();
    let builder = Registry::builder().idle_time(IDLE).abandon_after(IDLE * 2).on_event(on_event);
    let hosts: Hosts<'_> = builder.clock(&clock).build().unwrap();
    hosts.get("open").breaker().unwrap().open();
    hosts.get("forced open").breaker().unwrap().force_open();
    hosts.get("half-open").breaker().unwrap().open();
    hosts.get("half-open").breaker().unwrap().half_open().unwrap();
    clock.advance(IDLE * 2 - Duration::from_nanos(1));
    assert_eq!(hosts.sweep(), 0);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(hosts.sweep(), 2);
    assert!(hosts.peek("forced open").is_some());
    assert_eq!(told.lock().unwrap()[3..], ["removed open: abandoned", "removed half-open: abandoned"]);
}

#[test]
fn looking_is_not_using() {
    let clock = ManualClock::new();
    let hosts = hosts(&clock, 1);
    hosts.get("a");
    clock.advance(IDLE);
    assert_eq!(hosts.iter().count() + hosts.snapshot().len(), 2);
    let looked_at = hosts.peek("a").unwrap();
    assert_eq!(hosts.sweep(), 0);
    drop(looked_at);
    assert_eq!(hosts.sweep(), 1);
}

#[test]
fn idle_breakers_go_as_new_ones_come() {
    let clock = ManualClock::new();
    let hosts = hosts(&clock, 1_000);
    for key in 0..100 {
        hosts.get(&key.to_string());
    }
    clock.advance(IDLE);
    for key in 100..150 {
        hosts.get(&key.to_string());
    }
    assert_eq!(hosts.len(), 50);
}

#[test]
fn a_full_registry_rejects_and_says_so() {
    let clock = ManualClock::new();
    let (told, on_event) = told();
    let hosts = Registry::builder().capacity(1).clock(&clock).on_event(on_event).build().unwrap();
    let a = hosts.get("a");
    let b = hosts.get("b");
    let rejected = b.try_acquire().unwrap_err();
    assert_eq!(rejected.to_string(), "circuit registry full: 1 of 1 breakers are in use");
    assert_eq!((rejected.full_registry(), rejected.retry_after(), rejected.reason()), (Some(1), None, None));
    assert!(b.breaker().is_none());
    let by_call = b.call(|| -> Result<(), ()> { unreachable!() }).unwrap_err();
    let by_future = pollster::block_on(b.call_async(|| async { Ok::<_, ()>(()) })).unwrap_err();
    assert_eq!((by_call.rejected(), by_future.rejected()), (Some(&rejected), Some(&rejected)));
    // Others' rejections say nothing of it.
    a.breaker().unwrap().force_open();
    assert_eq!(a.try_acquire().unwrap_err().full_registry(), None);
    assert_eq!(*told.lock().unwrap(), ["added a", "full: no place for b"]);
    assert!(hosts.peek("b").is_none() && hosts.len() == 1);
}

#[test]
fn a_full_registry_passes_unguarded_if_asked_to() {
    let hosts = Registry::builder().capacity(1).when_full(WhenFull::PassUnguarded).build().unwrap();
    let _a = hosts.get("a");
    for _ in 0..20 {
        assert_eq!(hosts.get("b").call(|| Err::<(), _>(1)), Err(CallError::Failed(1)));
    }
    assert!(hosts.peek("b").is_none());
    assert_eq!(hosts.get("b").state(), State::Disabled);
}

#[test]
fn keys_have_configurations_and_policies_of_their_own() {
    let clock = ManualClock::new();
    let hosts: Hosts<'_> = Registry::builder()
        .default_policy(Consecutive::new(2))
        .default_config(Config::new().open_for(Duration::from_secs(1)))
        .policy_for("careful", Consecutive::new(1))
        .config_for("careful", Config::new().open_for(Duration::from_secs(7)))
        .clock(&clock)
        .build()
        .unwrap();
    fail(&hosts, "careful", 1);
    fail(&hosts, "default", 2);
    let wait = |key| hosts.get(key).try_acquire().unwrap_err().retry_after().unwrap();
    assert_eq!((wait("careful"), wait("default")), (Duration::from_secs(7), Duration::from_secs(1)));

    let rules = |failures| -> Vec<Rule> { vec![Consecutive::new(failures).into()] };
    let window: Vec<Rule> = vec![CountWindow::over(10).failures(3).into()];
    let mixed: Registry<BoxPolicy> =
        Registry::builder().default_policy(rules(5)).policy_for("window", window).build().unwrap();
    (0..3).for_each(|_| mixed.get("window").try_acquire().unwrap().failure());
    assert_eq!(mixed.get("window").state(), State::Open);
}

#[test]
fn bad_configurations_say_what_whose_and_what_is_legal() {
    let error = |built: Result<Registry<_, _, ()>, failfast::registry::BuildError>| built.unwrap_err().to_string();
    let builder = Registry::builder;
    assert_eq!(error(builder().capacity(0).build()), "registry.capacity is 0: must be from 1 to 4294967295");
    let legal = "must be more than 0 and at most 3650 days";
    assert_eq!(error(builder().idle_time(Duration::ZERO).build()), format!("registry.idle_time is 0ns: {legal}"));
    let text = "registry.abandon_after is 599s: must be at most 3650 days and at least registry.idle_time (600s)";
    assert_eq!(error(builder().abandon_after(Duration::from_secs(599)).build()), text);
    let bad = Config::new().probes(0);
    let legal = "must be from 1 to 16383";
    assert_eq!(error(builder().default_config(bad).build()), format!("half_open.probes is 0: {legal}"));
    let of_key = builder().config_for("a", bad).build().unwrap_err();
    assert_eq!(of_key.to_string(), format!("breaker \"a\": half_open.probes is 0: {legal}"));
    assert_eq!((of_key.key(), of_key.error().field()), (Some("a"), "half_open.probes"));
    let of_key = builder().policy_for("a", Consecutive::new(0)).build().unwrap_err();
    assert_eq!(of_key.to_string(), "breaker \"a\": consecutive.failures is 0: must be from 1 to 4294967295");
    let lost = builder().policy_for("a", Consecutive::new(1)).default_policy(LastCalls::<8>::new().failures(1)).build();
    let text = "registry.policy_for before default_policy is 1: must be 0: default_policy comes first";
    assert_eq!(lost.unwrap_err().to_string(), text);
}

struct Named(Arc<Mutex<Vec<String>>>, String);

impl Observer for Named {
    fn on_transition(&self, transition: &Transition) {
        self.0.lock().unwrap().push(format!("{}: {} -> {}", self.1, transition.from(), transition.to()));
    }

    fn on_rejected(&self, rejected: &Rejected) {
        self.0.lock().unwrap().push(format!("{}: rejected, {}", self.1, rejected.state()));
    }
}

#[test]
fn an_observer_knows_its_key() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let hosts: Registry<_, _, Named> = Registry::builder()
        .capacity(1)
        .default_policy(Consecutive::new(1))
        .observer(move |key| Named(log.clone(), key.to_owned()))
        .build()
        .unwrap();
    hosts.get("a").try_acquire().unwrap().failure();
    assert!(hosts.get("b").try_acquire().is_err());
    assert_eq!(*seen.lock().unwrap(), ["a: closed -> open", "(full): rejected, forced_open"]);
}

#[test]
fn events_tell_of_what_came_and_went_and_may_panic() {
    let clock = ManualClock::new();
    let (told, on_event) = told();
    let hosts = Registry::builder().idle_time(IDLE).clock(&clock).on_event(on_event).build().unwrap();
    hosts.get("a");
    hosts.get("b");
    hosts.get("a");
    assert!(hosts.remove("b") && !hosts.remove("b"));
    clock.advance(IDLE);
    hosts.get("c");
    assert_eq!(*told.lock().unwrap(), ["added a", "added b", "removed b: by hand", "removed a: idle", "added c"]);

    let hosts = Registry::builder().on_event(|_| panic!("an observer's own")).build().unwrap();
    assert_eq!(hosts.get("a").call(|| Ok::<_, ()>(1)), Ok(1));
    assert_eq!((hosts.event_panics(), hosts.len()), (1, 1));
}

#[test]
fn a_removed_breaker_goes_on_apart_and_says_so() {
    let clock = ManualClock::new();
    let hosts = hosts(&clock, 2);
    let old = hosts.get("a");
    old.try_acquire().unwrap().failure();
    assert!(hosts.remove("a"));
    assert!(old.is_removed());
    assert_eq!((hosts.len(), failures(&hosts, "a")), (0, None));
    let new = hosts.get("a");
    assert!(!new.is_removed());
    old.try_acquire().unwrap().failure();
    assert_eq!((old.snapshot().consecutive_failures(), failures(&hosts, "a")), (Some(2), Some(0)));
    clock.advance(IDLE);
    drop((old, new));
    clock.advance(IDLE);
    assert_eq!((hosts.sweep(), hosts.len()), (1, 0));
}

#[test]
fn a_panic_while_a_breaker_is_made_takes_no_place() {
    let hosts = Registry::builder().observer(|key| assert_ne!(key, "bad")).build().unwrap();
    let get = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hosts.get("bad").state()));
    assert!(get().is_err() && get().is_err());
    assert!(hosts.is_empty());
    assert_eq!(hosts.get("good").state(), State::Closed);
}

#[test]
fn threads_that_want_one_key_get_one_breaker() {
    const THREADS: usize = 8;
    let hosts = Registry::builder().build().unwrap();
    let barrier = Barrier::new(THREADS);
    for round in 0..200 {
        let key = &round.to_string();
        let handles: Vec<Handle> = std::thread::scope(|scope| {
            let (hosts, barrier) = (&hosts, &barrier);
            let get = move || {
                barrier.wait();
                hosts.get(key)
            };
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(get)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(handles.iter().all(|handle| same(handle, &handles[0])));
    }
    assert_eq!(hosts.len(), 200);
}

/// A clock that lets something happen just before one of its reads: in the midst of whatever reads it.
#[derive(Default)]
struct Interrupting {
    time: ManualClock,
    interruption: Mutex<Option<(u32, Interruption)>>,
}

type Interruption = Box<dyn FnOnce() + Send>;

impl Clock for Interrupting {
    fn now(&self) -> Timestamp {
        let mut planned = self.interruption.lock().unwrap();
        let now = match planned.take() {
            Some((0, interruption)) => Some(interruption),
            later => {
                *planned = later.map(|(reads, interruption)| (reads - 1, interruption));
                None
            }
        };
        drop(planned);
        now.into_iter().for_each(|interruption| interruption());
        self.time.now()
    }
}

type Interrupted = Registry<Consecutive, Arc<Interrupting>>;

/// Sweeps a registry with one idle breaker, `a`, and lets something happen at the sweep's nth read of the clock: it
/// reads it first, then to ask for the breaker's state before it takes the last hold, then again after that.
fn interrupt_the_sweep(
    read: u32,
    interruption: impl FnOnce(&Interrupted) + Send + 'static,
) -> (Arc<Interrupted>, usize) {
    let clock = Arc::new(Interrupting::default());
    let hosts = Arc::new(Registry::builder().idle_time(IDLE).clock(clock.clone()).build().unwrap());
    (0..3).for_each(|_| hosts.get("a").try_acquire().unwrap().failure());
    clock.time.advance(IDLE);
    let interrupted = hosts.clone();
    *clock.interruption.lock().unwrap() = Some((read, Box::new(move || interruption(&interrupted))));
    let evicted = hosts.sweep();
    assert!(clock.interruption.lock().unwrap().is_none());
    (hosts, evicted)
}

#[test]
fn a_use_in_the_midst_of_an_eviction_prevents_it() {
    for read in [1, 2] {
        let (hosts, evicted) = interrupt_the_sweep(read, |hosts| hosts.get("a").try_acquire().unwrap().failure());
        assert_eq!((evicted, hosts.len()), (0, 1), "at read {read}");
        assert_eq!(hosts.peek("a").unwrap().snapshot().consecutive_failures(), Some(4));
    }
}

#[test]
fn a_removal_in_the_midst_of_an_eviction_is_the_only_one() {
    for read in [1, 2] {
        let (hosts, evicted) = interrupt_the_sweep(read, |hosts| assert!(hosts.remove("a")));
        assert_eq!((evicted, hosts.len(), hosts.iter().count()), (0, 0, 0), "at read {read}");
    }
}

/// A registry in which everything is idle at once, and how many breakers have come and gone.
fn hasty(capacity: usize) -> (Registry, Arc<[AtomicUsize; 2]>) {
    let balance = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let count = balance.clone();
    let builder = Registry::builder().capacity(capacity).idle_time(Duration::from_nanos(1));
    let builder = builder.on_event(move |event| match event {
        RegistryEvent::Added { .. } => _ = count[0].fetch_add(1, SeqCst),
        RegistryEvent::Removed { .. } => _ = count[1].fetch_add(1, SeqCst),
        _ => {}
    });
    (builder.build().unwrap(), balance)
}

/// Runs `user` in threads of its own while two others evict what they can.
fn while_sweeping(hosts: &Registry, users: usize, user: impl Fn(usize) + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(SeqCst) {
                    hosts.sweep();
                }
            });
        }
        let user = &user;
        let users: Vec<_> = (0..users).map(|thread| scope.spawn(move || user(thread))).collect();
        // The sweepers end whether the users end well or not.
        let ended: Vec<_> = users.into_iter().map(|user| user.join()).collect();
        done.store(true, SeqCst);
        ended.into_iter().for_each(|ended| ended.unwrap());
    });
}

/// The places add up.
fn settle_accounts(hosts: &Registry, balance: &[AtomicUsize; 2]) {
    while hosts.sweep() > 0 {}
    let [added, removed] = [0, 1].map(|i| balance[i].load(SeqCst));
    assert_eq!((added - removed, hosts.len()), (hosts.len(), hosts.iter().count()));
    assert!(removed > 0);
}

#[test]
fn who_holds_a_breaker_has_the_one_that_everybody_gets() {
    let (hosts, balance) = hasty(8);
    while_sweeping(&hosts, 2, |_| {
        for _ in 0..50_000 {
            let first = hosts.get("shared");
            let second = hosts.get("shared");
            assert!(same(&first, &second) && !first.is_removed());
        }
    });
    settle_accounts(&hosts, &balance);
}

#[test]
fn an_open_breaker_is_never_lost() {
    let (hosts, balance) = hasty(8);
    while_sweeping(&hosts, 2, |thread| {
        let key = &thread.to_string();
        for _ in 0..50_000 {
            hosts.get(key).breaker().unwrap().open();
            assert_eq!(hosts.peek(key).map(|found| found.state()), Some(State::Open));
            hosts.peek(key).unwrap().breaker().unwrap().close();
        }
    });
    settle_accounts(&hosts, &balance);
}

#[test]
fn removing_by_hand_races_with_evicting_and_using() {
    let (hosts, balance) = hasty(8);
    while_sweeping(&hosts, 3, |thread| {
        for round in 0..20_000 {
            let key = if round % 2 == 0 { "even" } else { "odd" };
            if thread == 0 {
                hosts.remove(key);
            } else {
                hosts.get(key).try_acquire().unwrap().success();
                assert!(hosts.len() <= 8);
            }
        }
    });
    settle_accounts(&hosts, &balance);
}

#[test]
fn it_and_its_handles_go_wherever_they_are_wanted() {
    fn is_shared<T: Send + Sync + 'static>() {}
    is_shared::<Registry>();
    is_shared::<Registry<BoxPolicy, DefaultClock, Named>>();
    is_shared::<Handle>();
}
