//! What is known of leases, pins and clients in another process, and what that one is told of those here.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwapOption;

use super::{Client, Control, Lease, Node, Place, Upstream, Wish, clients::MIRRORED};
use crate::shared::{ClientState, ControlNews, ControlState, NodeState, PinState, PlaceState, SessionState};

/// Hears of control connections.
type Hook = Box<dyn Fn(ControlNews) + Send + Sync>;

/// Numbers control connections, and tells of them where somebody wants to know.
#[derive(Default)]
pub(super) struct Numbers {
    last: AtomicU64,
    hook: ArcSwapOption<Hook>,
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

impl Numbers {
    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A control connection has come about; its end is told when the result drops.
    pub(super) fn begin(self: &Arc<Self>, client: IpAddr, number: u64, place: &Place) -> Watched {
        self.tell(|| ControlNews { client, number, place: Some(place.state()) });
        Watched { numbers: self.clone(), client, number }
    }

    fn tell(&self, news: impl FnOnce() -> ControlNews) {
        if let Some(hook) = &*self.hook.load() {
            hook(news());
        }
    }
}

/// A control connection whose end will be told.
#[derive(Debug)]
pub(super) struct Watched {
    numbers: Arc<Numbers>,
    client: IpAddr,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.numbers.tell(|| ControlNews { client: self.client, number: self.number, place: None });
    }
}

/// What becomes of a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinNews {
    /// It is set, or set anew.
    Set(PinState),
    /// It is no more: of this upstream, by its hash.
    Removed(String, u64),
}

impl Place {
    fn state(&self) -> PlaceState {
        PlaceState { node: self.node.name().to_owned(), ip: self.ip }
    }
}

impl Upstream {
    /// A lease on the node of this name for what is on it already, whatever its limits say.
    pub fn lease_on(&self, node: &str) -> Option<Lease> {
        self.nodes.iter().find(|known| known.name() == node).map(|node| node.lease())
    }

    /// All pins.
    pub fn pins(&self) -> Vec<PinState> {
        let (now, wall) = (Instant::now(), millis(since_1970()));
        let all = self.pins.all().into_iter();
        let state = |(hash, node, set): (u64, String, Instant)| PinState {
            upstream: self.name.clone(),
            hash,
            node,
            set: wall.saturating_sub(millis(now.saturating_duration_since(set))),
        };
        all.map(state).collect()
    }

    /// Has `hook` hear from now on of every pin that is set, or removed, by its hash, and nobody else.
    pub fn watch_pins(&self, hook: impl Fn(PinNews) + Send + Sync + 'static) {
        let upstream = self.name.clone();
        self.pins.watch(Box::new(move |hash, node| {
            let upstream = upstream.clone();
            hook(match node {
                Some(node) => {
                    PinNews::Set(PinState { upstream, hash, node: node.to_owned(), set: millis(since_1970()) })
                }
                None => PinNews::Removed(upstream, hash),
            });
        }));
    }

    /// A session ended in another process: where its partial files are is remembered, or forgotten once one of the same
    /// client and user ended well. One on a node that this config does not have changes nothing.
    pub fn ended_elsewhere(&self, session: &SessionState, well: bool) {
        if let Some(node) = self.nodes.iter().find(|node| node.name() == session.node) {
            let (port, id) = (self.fallback_port(), Some(session.key.0));
            self.session_ended(
                Wish { port, session: id, client: session.client, user: session.user.as_deref() },
                node,
                well,
            );
        }
    }

    /// Takes a pin over from another process; one whose time lies in the future counts from now.
    pub fn bring_pin(&self, pin: &PinState) {
        self.pins.bring(pin.hash, &pin.node, moment(pin.set, since_1970()));
    }

    /// What is known of all nodes.
    pub fn node_states(&self) -> Vec<NodeState> {
        let state = |node: &Arc<Node>| {
            let known = node.checked().iter().filter(|port| node.is_port_known(**port));
            NodeState {
                upstream: self.name.clone(),
                node: node.name().to_owned(),
                drained: node.is_drained(),
                ports: known.map(|port| (*port, node.is_up(*port))).collect(),
            }
        };
        self.nodes.iter().map(state).collect()
    }

    /// Takes over what another process knows of a node.
    pub fn bring_node(&self, state: &NodeState) {
        let Some(node) = self.nodes.iter().find(|node| node.name() == state.node) else { return };
        if state.drained {
            node.set_drain(true);
        }
        for (port, up) in state.ports.iter().filter(|(port, _)| node.checked().contains(port)) {
            node.judge(*port, *up, 1, Instant::now());
        }
    }

    /// All clients of the nominal path with their control connections.
    pub fn clients(&self) -> Vec<ClientState> {
        let now = Instant::now();
        let state = |(client, known): (IpAddr, Arc<Client>)| {
            let [left, moved] = known.heard(now).map(|time| time.map(millis));
            let controls = known
                .places()
                .iter()
                .filter(|(number, _)| number & MIRRORED == 0)
                .map(|(number, place)| ControlState { number: *number, place: place.state() })
                .collect();
            ClientState { upstream: self.name.clone(), client, place: known.place().state(), controls, left, moved }
        };
        self.clients.all().into_iter().map(state).collect()
    }

    /// Takes a client over from another process, with its control connections there, each with its number: they hold the
    /// pin, the gate and their leases until they drop. Connections to nodes that this config does not have are left out.
    pub fn bring_client(&self, state: &ClientState) -> Vec<(u64, Control)> {
        let Some(place) = self.place(&state.place) else { return Vec::new() };
        let heard = |time: Option<u64>| time.map(|time| ago(Duration::from_millis(time)));
        let brought = self.clients.bring(state.client, &place, heard(state.left), heard(state.moved));
        let controls = state
            .controls
            .iter()
            .filter_map(|control| Some((control.number, self.bring_control(state.client, &control.place)?)));
        let controls = controls.collect();
        // Wherever its connections are, its data goes on where it went.
        if let Some(brought) = brought {
            brought.client().move_to(place);
        }
        controls
    }

    /// A control connection in another process.
    pub fn bring_control(&self, client: IpAddr, place: &PlaceState) -> Option<Control> {
        let place = self.place(place)?;
        let lease = place.node.lease();
        let trying = self.clients.bring(client, &place, None, None)?;
        Some(Control { lease, entered: trying.met(client, place) })
    }

    /// A control connection of another replica, which tells all the others of it by itself.
    pub fn mirror_control(&self, client: IpAddr, place: &PlaceState) -> Option<Control> {
        let place = self.place(place)?;
        let lease = place.node.lease();
        let trying = self.clients.bring(client, &place, None, None)?;
        Some(Control { lease, entered: trying.met_elsewhere(client, place) })
    }

    /// The control connections that are told of, as they are.
    pub fn controls(&self) -> Vec<ControlNews> {
        let of = |client: ClientState| {
            let news = move |control: ControlState| ControlNews {
                client: client.client,
                number: control.number,
                place: Some(control.place),
            };
            client.controls.into_iter().map(news)
        };
        self.clients().into_iter().flat_map(of).collect()
    }

    /// Another replica has removed a pin.
    pub fn forget_pin(&self, hash: u64) {
        self.pins.forget(hash);
    }

    /// Has `hook` hear of every control connection that comes about or ends from now on, and nobody else.
    pub fn watch_controls(&self, hook: Option<Box<dyn Fn(ControlNews) + Send + Sync>>) {
        self.clients.numbers.hook.store(hook.map(Arc::new));
    }

    fn place(&self, state: &PlaceState) -> Option<Place> {
        let node = self.nodes.iter().find(|node| node.name() == state.node)?;
        Some(Place { node: node.clone(), ip: state.ip })
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// When that was by this process's own clock, which no change of the wall clock moves: what is still to come is now.
fn moment(set: u64, wall: Duration) -> Instant {
    ago(wall.saturating_sub(Duration::from_millis(set)))
}

/// A moment so long ago, or as long as this clock goes back.
fn ago(age: Duration) -> Instant {
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_wall_clock_is_neither_ahead_nor_young_again_however_that_clock_jumps() {
        const DAY: Duration = Duration::from_secs(86_400);
        let wall = 20_000 * DAY;
        let age = |set: Duration| {
            let set = moment(millis(set), wall);
            Instant::now().saturating_duration_since(set)
        };
        let almost = |age: Duration, wanted: Duration| (wanted..wanted + Duration::from_secs(60)).contains(&age);
        assert!(almost(age(wall), Duration::ZERO) && almost(age(wall - DAY), DAY));
        // Set before the clock was put back, or in 1970 before the clock was right.
        assert!(almost(age(wall + 5000 * DAY), Duration::ZERO) && almost(age(Duration::MAX), Duration::ZERO));
        assert!(almost(age(Duration::ZERO), wall), "it is not new because it is so old");
    }
}
