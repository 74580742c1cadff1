//! Who is next: the waiters of each client in order, the clients in turn, and which of them stand aside.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::Arc,
};

use tokio::sync::Notify;

/// The state of a waiting room.
pub(super) struct Line<K> {
    max: usize,
    len: usize,
    next_id: u64,
    /// The waiters of each client that has any.
    clients: HashMap<K, VecDeque<Waiter>>,
    /// The clients that may be served, the next one first.
    round: VecDeque<K>,
    /// The clients that stand aside, in the order in which they were found unserved.
    aside: VecDeque<K>,
    /// Who tries.
    turn: Option<u64>,
    /// Nothing is to be had by anybody until something is freed.
    rests: bool,
    /// What was freed while somebody tried: the try may have come too early.
    freed: Freed<K>,
}

struct Waiter {
    id: u64,
    called: Arc<Notify>,
}

/// Whose waiters need no longer stand aside.
enum Freed<K> {
    None,
    Clients(HashSet<K>),
    All,
}

impl<K: Hash + Eq + Clone> Line<K> {
    pub(super) fn new(max: usize) -> Line<K> {
        Line {
            max,
            len: 0,
            next_id: 0,
            clients: HashMap::new(),
            round: VecDeque::new(),
            aside: VecDeque::new(),
            turn: None,
            rests: false,
            freed: Freed::None,
        }
    }

    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn has_turn(&self, id: u64) -> bool {
        self.turn == Some(id)
    }

    /// The identity of a new waiter, and whether there is room for it to stay. One for whom there is none comes in only
    /// if it overtakes nobody, and has the turn at once.
    pub(super) fn enter(&mut self, client: K, called: Arc<Notify>) -> Option<(u64, bool)> {
        let may_stay = self.len < self.max;
        let is_free = self.turn.is_none() && !self.rests && self.round.is_empty();
        if !may_stay && (!is_free || self.clients.contains_key(&client)) {
            return None;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.len += 1;
        let waiters = self.clients.entry(client.clone()).or_default();
        waiters.push_back(Waiter { id, called });
        if waiters.len() == 1 {
            self.round.push_back(client);
        }
        self.advance();
        Some((id, may_stay))
    }

    /// The waiter is served, or gone.
    pub(super) fn leave(&mut self, client: &K, id: u64) {
        let Some(waiters) = self.clients.get_mut(client) else { return };
        let Some(at) = waiters.iter().position(|waiter| waiter.id == id) else { return };
        waiters.remove(at);
        self.len -= 1;
        let is_last = waiters.is_empty();
        let had_turn = self.turn == Some(id);
        if is_last {
            self.clients.remove(client);
            self.round.retain(|other| other != client);
            self.aside.retain(|other| other != client);
        } else if at == 0 && !had_turn {
            // The new head may need something else than the one that was found unserved.
            self.unblock(client);
        }
        if had_turn {
            self.turn = None;
            if !is_last && self.round.front() == Some(client) {
                self.round.rotate_left(1);
            }
            self.take_freed();
        }
        if self.len == 0 {
            // Nothing is known any more of what is to be had.
            self.rests = false;
        }
        self.advance();
    }

    /// The waiter with the turn could not be served; `nobody` says that no other could be either.
    pub(super) fn unserved(&mut self, client: &K, id: u64, nobody: bool) {
        if self.turn != Some(id) {
            return;
        }
        self.turn = None;
        match nobody {
            true => self.rests = true,
            false => {
                self.round.retain(|other| other != client);
                self.aside.push_back(client.clone());
            }
        }
        self.take_freed();
        self.advance();
    }

    /// Something was freed that anybody may need.
    pub(super) fn poke_all(&mut self) {
        self.freed = Freed::All;
        self.poked();
    }

    /// Something was freed that these clients may need, and all who do not stand aside.
    pub(super) fn poke(&mut self, may_need: impl Fn(&K) -> bool) {
        // Who tries at this moment may come to stand aside for what is free now.
        let clients = self.clients.keys().filter(|client| may_need(client)).cloned();
        match &mut self.freed {
            Freed::All => {}
            Freed::Clients(known) => known.extend(clients),
            Freed::None => self.freed = Freed::Clients(clients.collect()),
        }
        self.poked();
    }

    fn poked(&mut self) {
        if self.turn.is_none() {
            self.take_freed();
            self.advance();
        }
    }

    /// All may have what nobody could have before.
    pub(super) fn wake(&mut self) {
        self.rests = false;
        self.advance();
    }

    /// The client need no longer stand aside.
    pub(super) fn unblock(&mut self, client: &K) {
        if let Some(at) = self.aside.iter().position(|other| other == client) {
            self.aside.remove(at);
            self.round.push_front(client.clone());
            self.advance();
        }
    }

    /// Those for whom something was freed come before the others, in the order in which they stood aside.
    fn take_freed(&mut self) {
        let freed = std::mem::replace(&mut self.freed, Freed::None);
        let back: VecDeque<K> = match freed {
            Freed::None => return,
            Freed::All => self.aside.drain(..).collect(),
            Freed::Clients(clients) => {
                let (back, aside): (VecDeque<K>, _) = self.aside.drain(..).partition(|client| clients.contains(client));
                self.aside = aside;
                back
            }
        };
        back.into_iter().rev().for_each(|client| self.round.push_front(client));
        self.rests = false;
    }

    /// Gives the turn to the next one, if nobody has it and there may be something to be had.
    fn advance(&mut self) {
        if self.turn.is_some() || self.rests {
            return;
        }
        let next = self.round.front().and_then(|client| self.clients.get(client)).and_then(VecDeque::front);
        if let Some(waiter) = next {
            self.turn = Some(waiter.id);
            waiter.called.notify_one();
        }
    }

    /// Whether every client with waiters is in exactly one place, and the numbers agree.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        let places = self.round.len() + self.aside.len();
        let known = self.round.iter().chain(&self.aside).all(|client| self.clients.contains_key(client));
        let waiters: usize = self.clients.values().map(VecDeque::len).sum();
        let turn = self.turn.is_none_or(|id| self.clients.values().any(|waiters| waiters.iter().any(|w| w.id == id)));
        places == self.clients.len() && known && waiters == self.len && turn
    }
}
