//! What is drawn from a seed: the fleet, its settings, and what will go wrong when.

use alloc::vec::Vec;

use super::super::member::{Random, Rules, Terms};
use crate::State;

pub(super) const MS: u64 = 1_000;
pub(super) const S: u64 = 1_000 * MS;

/// All of a run. Times are microseconds of true time unless they say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    pub(super) breakers: usize,
    pub(super) rules: Rules,
    pub(super) leases: u32,
    pub(super) local: LocalRules,
    /// Whether nodes learn of transitions at once, or look every 10 ms.
    pub(super) tapped: bool,
    /// Between two calls of each breaker of a node, on average. 0: it makes none.
    pub(super) period: Vec<u64>,
    /// Of a call, on average.
    pub(super) latency: u64,
    pub(super) network: Network,
    pub(super) incidents: Vec<(u64, Incident)>,
    /// From when on nothing goes wrong any more, but for the ending.
    pub(super) healed: u64,
    pub(super) end: u64,
    pub(super) ending: Ending,
    /// Count the bytes on the wire.
    pub(super) measured: bool,
}

/// How each node's own breaker is configured. Times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalRules {
    pub(super) failures: u32,
    pub(super) probes: u32,
    pub(super) successes: u32,
    pub(super) wait: u64,
    pub(super) backoff: f64,
    pub(super) max_open: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// One way, on average.
    pub(super) delay: u64,
    /// Of 1000.
    pub(super) news_lost: u64,
    pub(super) news_doubled: u64,
    pub(super) commands_doubled: u64,
    pub(super) commands_refused: u64,
}

/// How it is from [`Plan::healed`] on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Healthy,
    /// The callee stays down.
    CalleeDown,
    /// The store never comes back; the callee is healthy.
    StoreDown,
}

#[derive(Clone, Debug)]
pub(super) enum Incident {
    /// So many of 1000 calls of these nodes fail.
    Callee {
        whom: Vec<usize>,
        failing: u64,
    },
    /// Nothing passes between the store and these nodes.
    Cut {
        whom: Vec<usize>,
        during: u64,
    },
    /// Messages take up to so much longer.
    Slow {
        by: u64,
        during: u64,
    },
    /// The server stands still, and what has been sent to it waits.
    Pause {
        during: u64,
    },
    /// It ends, and comes back with this data.
    Crash {
        during: u64,
        data: Data,
    },
    /// Another takes its place, with older data and a clock of its own (milliseconds off).
    Failover {
        during: u64,
        data: Data,
        skew: i64,
    },
    Flush,
    /// The server's clock is set, by so many milliseconds.
    Step {
        by: i64,
    },
    /// A process ends, and another one takes its place.
    Restart {
        node: usize,
        during: u64,
    },
    /// A node's task gets no time, but its calls do.
    Freeze {
        node: usize,
        during: u64,
    },
    /// An operator's word, from this node.
    Hand {
        node: usize,
        state: State,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Kept,
    Lost,
    /// As of so many seconds before.
    Old(usize),
}

impl Plan {
    /// A fleet of `nodes`, in peace: what goes wrong is yet to be said.
    pub(super) fn calm(seed: u64, nodes: usize, agreement: Terms) -> Self {
        let rules = Rules { agreement, poll: 5_000, jitter: 20, lease_ttl: 10_000, longest_wait: 3_600_000 };
        Self {
            seed,
            nodes,
            breakers: 1,
            rules,
            leases: 1,
            local: LocalRules { failures: 5, probes: 2, successes: 2, wait: 5_000, backoff: 1.0, max_open: 60_000 },
            tapped: true,
            period: alloc::vec![200 * MS; nodes],
            latency: 5 * MS,
            network: Network { delay: 300, news_lost: 0, news_doubled: 0, commands_doubled: 0, commands_refused: 0 },
            incidents: Vec::new(),
            healed: 30 * S,
            end: 60 * S,
            ending: Ending::Healthy,
            measured: false,
        }
    }

    /// A fleet of `nodes` with everything that can go wrong.
    pub(super) fn draw(seed: u64, nodes: usize) -> Self {
        let mut random = Random(seed ^ 0x5eed_0000_0000_0000);
        let random = &mut random;
        let agreement = match random.below(3) {
            0 => Terms::Any,
            1 => Terms::Quorum { nodes: 1 + random.below(3) as u32, share: random.below(4) as u32 * 10_000_000 },
            _ => {
                let bucket = 500 + random.below(1_000);
                let rate = 50_000_000;
                Terms::Rates { min_calls: 20, rate, bucket, buckets: 5, flush: (bucket / 2).max(100) }
            }
        };
        let mut plan = Self::calm(seed, nodes, agreement);
        plan.rules.poll = 1_000 + random.below(3_000);
        plan.rules.jitter = random.below(50);
        let longest = 1 + random.below(6_000);
        plan.rules.lease_ttl = 300 + random.below(longest);
        plan.leases = 1 + random.below(3) as u32;
        let probes = 1 + random.below(3) as u32;
        plan.local = LocalRules {
            // What the fleet is to see, no node may see alone.
            failures: if matches!(agreement, Terms::Rates { .. }) { 40 } else { 2 + random.below(4) as u32 },
            probes,
            successes: 1 + random.below(u64::from(probes)) as u32,
            wait: 500 + random.below(3_000),
            backoff: 1.0 + random.below(3) as f64 / 2.0,
            max_open: 6_000,
        };
        // Outcomes can only be counted by a tap.
        plan.tapped = matches!(agreement, Terms::Rates { .. }) || random.below(2) == 0;
        // Each node of a large fleet makes fewer calls.
        let crowd = 1 + nodes as u64 / 200;
        // The last makes none, and some make few.
        let rare = random.below(3) * 3 * S;
        let period = |_| (20 * MS + random.below(400 * MS) + random.below(2) * random.below(rare + 1)) * crowd;
        plan.period = (0..nodes).map(period).collect();
        plan.period[nodes - 1] *= random.below(2);
        plan.latency = 1 + random.below(100 * MS);
        plan.network = Network {
            delay: 100 + random.below(5 * MS),
            news_lost: random.below(2) * random.below(300),
            news_doubled: random.below(2) * random.below(100),
            commands_doubled: random.below(2) * random.below(300),
            commands_refused: random.below(2) * random.below(100),
        };
        plan.healed = 20 * S + random.below(30 * S);
        plan.end = plan.healed + 60 * S;
        plan.ending = match random.below(8) {
            0 => Ending::CalleeDown,
            1 => Ending::StoreDown,
            _ => Ending::Healthy,
        };
        let every = 500 * MS + random.below(5 * S);
        let mut at = 2 * S;
        while at < plan.healed {
            let incident = Incident::draw(random, nodes);
            plan.incidents.push((at, incident));
            at += random.below(every * 2);
        }
        plan
    }

    /// A callee that is down, a store that refuses now and then, and nodes that die, of whom half were about to probe.
    pub(super) fn outage(seed: u64, nodes: usize) -> Self {
        let mut plan = Self::calm(seed, nodes, Terms::Any);
        plan.local.wait = 500;
        plan.network.commands_refused = 100;
        let all = (0..nodes).collect();
        plan.incidents.push((2 * S, Incident::Callee { whom: all, failing: 1_000 }));
        for second in 4..plan.healed / S {
            let node = second as usize % nodes;
            plan.incidents.push((second * S, Incident::Restart { node, during: 500 * MS }));
        }
        plan
    }

    /// Whether a node makes so many calls that it sees by itself when the callee is down.
    pub(super) fn is_busy(&self, node: usize) -> bool {
        (1..S).contains(&self.period[node])
    }

    /// How late a task may be, beside what its freezing does to it.
    pub(super) const LATENESS: u64 = 30 * MS;
}

impl Incident {
    fn draw(random: &mut Random, nodes: usize) -> Self {
        let longest = 1 + random.below(8 * S);
        let during = 10 * MS + random.below(longest);
        let node = random.below(nodes as u64) as usize;
        let data = match random.below(3) {
            0 => Data::Kept,
            1 => Data::Lost,
            _ => Data::Old(1 + random.below(4) as usize),
        };
        match random.below(30) {
            24.. | 0..=4 => {
                let failing = [0, 0, 300, 1_000, 1_000][random.below(5) as usize];
                Self::Callee { whom: some(random, nodes), failing }
            }
            5..=7 => Self::Cut { whom: some(random, nodes), during },
            8 => Self::Slow { by: random.below(600 * MS), during },
            9..=10 => Self::Pause { during },
            11..=12 => Self::Crash { during, data },
            13 => Self::Failover { during, data, skew: random.below(4_000) as i64 - 2_000 },
            14..=15 => Self::Flush,
            16 => Self::Step { by: random.below(4_000) as i64 - 2_000 },
            17..=18 => Self::Restart { node, during },
            19..=20 => Self::Freeze { node, during },
            _ => {
                let states = [State::Closed, State::Closed, State::ForcedOpen, State::Disabled, State::MetricsOnly];
                Self::Hand { node, state: states[random.below(5) as usize] }
            }
        }
    }
}

/// All, one, or some of the nodes.
fn some(random: &mut Random, nodes: usize) -> Vec<usize> {
    match random.below(3) {
        0 => (0..nodes).collect(),
        1 => alloc::vec![random.below(nodes as u64) as usize],
        _ => {
            let share = 1 + random.below(9);
            (0..nodes).filter(|_| random.below(10) < share).collect()
        }
    }
}
