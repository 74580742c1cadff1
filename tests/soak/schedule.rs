//! Which fault comes when: a pure function of the seed.

use std::time::Duration;

use crate::support::dice::Dice;

/// What is done to a node or to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A node dies and comes back with no memory of its sessions.
    NodeKill,
    /// A node's ports close and open again; it still knows its sessions.
    NodeCut,
    /// A file in each direction stops on a node, which then closes.
    NodeStall,
    /// A node resets the connection of a file in each direction.
    NodeReset,
    /// A node waits before it answers.
    NodeLatency,
    /// The gateway reads another config.
    Reload,
    /// The gateway hands over to another process.
    Upgrade,
    /// The gateway is killed and started anew.
    GatewayKill,
}

impl Kind {
    pub(crate) const ALL: [Kind; 8] = [
        Kind::NodeKill,
        Kind::NodeCut,
        Kind::NodeStall,
        Kind::NodeReset,
        Kind::NodeLatency,
        Kind::Reload,
        Kind::Upgrade,
        Kind::GatewayKill,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::NodeKill => "node killed, sessions forgotten",
            Kind::NodeCut => "node gone, sessions kept",
            Kind::NodeStall => "node stalls",
            Kind::NodeReset => "node resets",
            Kind::NodeLatency => "node slow",
            Kind::Reload => "reload",
            Kind::Upgrade => "upgrade",
            Kind::GatewayKill => "gateway killed",
        }
    }

    /// Whether no client may notice it.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, Kind::NodeLatency | Kind::Reload | Kind::Upgrade)
    }

    /// Whether it is done to one node, for a while.
    fn is_of_a_node(self) -> bool {
        !matches!(self, Kind::Reload | Kind::Upgrade | Kind::GatewayKill)
    }

    /// Whether nothing reaches the node meanwhile.
    fn takes_a_node_down(self) -> bool {
        matches!(self, Kind::NodeKill | Kind::NodeCut)
    }

    /// Whether the gateway's process is another after it. Those come in the first half: the process that is looked at in
    /// the end is to have lived through the other.
    fn ends_the_process(self) -> bool {
        matches!(self, Kind::Upgrade | Kind::GatewayKill)
    }
}

/// One fault of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The node that it is done to, from 0; of no meaning for those of the gateway.
    pub(crate) node: usize,
    /// From the beginning of the load.
    pub(crate) at: Duration,
    /// Zero for what is done at once.
    pub(crate) lasts: Duration,
    /// Says which of the ways there are.
    pub(crate) way: u64,
}

/// A fault begins or ends; by its place in the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Begin(usize),
    End(usize),
}

/// The load runs alone so long before the first fault.
pub(crate) const BEFORE: Duration = Duration::from_secs(8);
/// And so long after the last one.
pub(crate) const AFTER: Duration = Duration::from_secs(15);

/// One node at a time is down, and the gateway's checks have so long to find it back: there always is a node.
const RETURN: Duration = Duration::from_secs(5);

/// The faults of a run of this length, each kind about as often as any other.
pub(crate) fn faults(seed: u64, length: Duration, nodes: usize, kinds: &[Kind]) -> Vec<Fault> {
    let mut dice = Dice::new(seed ^ 0xfa17);
    let ms = |dice: &mut Dice, from: u64, to: u64| Duration::from_millis(from + dice.below(to - from));
    let end = length.saturating_sub(AFTER);
    let (mut at, mut faults, mut deck) = (BEFORE, Vec::<Fault>::new(), Vec::new());
    while at < end {
        if deck.is_empty() {
            deck = shuffled(&mut dice, kinds);
        }
        let Some(kind) = deck.pop() else { break };
        let (node, way) = (dice.below(nodes as u64) as usize, dice.next());
        let lasts = if kind.is_of_a_node() { ms(&mut dice, 1000, 6000) } else { Duration::ZERO };
        let busy = |f: &Fault| f.kind.is_of_a_node() && f.node == node && f.at + f.lasts >= at;
        let down = |f: &Fault| f.kind.takes_a_node_down() && f.at + f.lasts + RETURN >= at;
        let fits = at + lasts <= end
            && !(kind.is_of_a_node() && faults.iter().any(busy))
            && !(kind.takes_a_node_down() && faults.iter().any(down));
        if fits && !(kind.ends_the_process() && at > length / 2) {
            faults.push(Fault { kind, node, at, lasts, way });
        }
        // Some come on top of others, most alone.
        at += ms(&mut dice, 1500, 6000);
    }
    faults
}

/// Beginnings and ends in their order.
pub(crate) fn steps(faults: &[Fault]) -> Vec<(Duration, Step)> {
    let mut steps = Vec::new();
    for (i, fault) in faults.iter().enumerate() {
        steps.push((fault.at, Step::Begin(i)));
        if !fault.lasts.is_zero() {
            steps.push((fault.at + fault.lasts, Step::End(i)));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps
}

fn shuffled(dice: &mut Dice, kinds: &[Kind]) -> Vec<Kind> {
    let mut all = kinds.to_vec();
    for i in (1..all.len()).rev() {
        all.swap(i, dice.below(i as u64 + 1) as usize);
    }
    all
}
