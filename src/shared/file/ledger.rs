//! What is to be in the file and what of it is not yet there: a pure core, without a file, a clock or a thread.
//!
//! Only the last change of a record is kept. A record that ended before it ever was written leaves nothing behind. So what
//! waits is never more than the records that live and those that are in the file, however long the file cannot be written.

use std::collections::{BTreeSet, HashMap, HashSet};

/// The key of a record, as the file has it.
pub(super) type Name = Vec<u8>;
/// Changes by key: a value to be written, or none where the record is to go.
pub(super) type Changes<V> = HashMap<Name, Option<V>>;

/// The records of one kind.
pub(super) struct Ledger<V> {
    max: usize,
    /// Those that live, by age, the oldest first.
    ages: BTreeSet<(u64, Name)>,
    /// The age of each.
    live: HashMap<Name, u64>,
    /// Those that are in the file, or may be.
    stored: HashSet<Name>,
    changes: Changes<V>,
}

impl<V> Ledger<V> {
    /// For a file that has these records, each with its age: when it began. At most `max` live; then the oldest go.
    pub(super) fn new(max: usize, found: impl IntoIterator<Item = (Name, u64)>) -> Ledger<V> {
        let live: HashMap<Name, u64> = found.into_iter().collect();
        let mut ledger = Ledger {
            max,
            ages: live.iter().map(|(name, age)| (*age, name.clone())).collect(),
            stored: live.keys().cloned().collect(),
            live,
            changes: HashMap::new(),
        };
        ledger.bound();
        ledger
    }

    /// A record is new, or is another now.
    pub(super) fn save(&mut self, name: Name, age: u64, value: V) {
        if let Some(before) = self.live.insert(name.clone(), age) {
            self.ages.remove(&(before, name.clone()));
        }
        self.ages.insert((age, name.clone()));
        self.changes.insert(name, Some(value));
        self.bound();
    }

    /// A record is no more.
    pub(super) fn forget(&mut self, name: &[u8]) {
        let Some((name, age)) = self.live.remove_entry(name) else { return };
        if self.stored.contains(&name) {
            self.changes.insert(name.clone(), None);
        } else {
            self.changes.remove(&name);
        }
        self.ages.remove(&(age, name));
    }

    /// From now on at most `max` live.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.bound();
    }

    fn bound(&mut self) {
        while self.live.len() > self.max {
            let Some((_, name)) = self.ages.first().cloned() else { return };
            self.forget(&name);
        }
    }

    /// Whether everything is in the file.
    pub(super) fn is_settled(&self) -> bool {
        self.changes.is_empty()
    }

    /// What is to be written now. It is to come back by [`Ledger::written`] or [`Ledger::missed`].
    pub(super) fn take(&mut self) -> Changes<V> {
        self.stored.extend(self.changes.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.clone()));
        std::mem::take(&mut self.changes)
    }

    /// These are in the file.
    pub(super) fn written(&mut self, changes: Changes<V>) {
        for (name, value) in changes {
            // A new one of this key may have come in between, and is not in the file for that.
            if value.is_none() {
                self.stored.remove(&name);
            }
        }
    }

    /// These may or may not be in the file; what came in between is newer.
    pub(super) fn missed(&mut self, changes: Changes<V>) {
        for (name, value) in changes {
            self.changes.entry(name).or_insert(value);
        }
    }

    /// The file was opened anew and has these records.
    pub(super) fn found(&mut self, stored: HashSet<Name>) {
        self.changes.retain(|name, value| value.is_some() || stored.contains(name));
        for name in stored.iter().filter(|name| !self.live.contains_key(*name)) {
            self.changes.insert(name.clone(), None);
        }
        self.stored = stored;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{prelude::*, sample::Index};

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Save(u8, u64, u32),
        Forget(u8),
        /// A batch is taken; it is written after the next steps, or some of it is and nobody knows.
        Take,
        Written,
        Missed(Index),
        Reopened,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..12u8, 0..20u64, any::<u32>()).prop_map(|(name, age, value)| Step::Save(name, age, value)),
            3 => (0..12u8).prop_map(Step::Forget),
            3 => Just(Step::Take),
            2 => Just(Step::Written),
            1 => any::<Index>().prop_map(Step::Missed),
            1 => Just(Step::Reopened),
        ];
        prop::collection::vec(step, 1..120)
    }

    /// What a file does with changes; some only, as one that failed.
    fn write(file: &mut BTreeMap<Name, u32>, changes: &Changes<u32>, many: usize) {
        for (name, value) in changes.iter().take(many) {
            match value {
                Some(value) => drop(file.insert(name.clone(), *value)),
                None => drop(file.remove(name)),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_fails_on_the_way_the_file_has_at_last_what_lives(steps in steps(), max in 1..8usize) {
            let mut ledger = Ledger::new(max, []);
            let (mut file, mut live) = (BTreeMap::new(), BTreeMap::<Name, (u64, u32)>::new());
            let mut taken: Option<Changes<u32>> = None;
            for step in steps {
                match step {
                    Step::Save(name, age, value) => {
                        ledger.save(vec![name], age, value);
                        live.insert(vec![name], (age, value));
                        if live.len() > max {
                            let oldest = live.iter().map(|(name, (age, _))| (*age, name.clone())).min().unwrap().1;
                            live.remove(&oldest);
                        }
                    }
                    Step::Forget(name) => {
                        ledger.forget(&[name]);
                        live.remove(&vec![name]);
                    }
                    Step::Take => taken = taken.or_else(|| Some(ledger.take())),
                    Step::Written => if let Some(changes) = taken.take() {
                        write(&mut file, &changes, usize::MAX);
                        ledger.written(changes);
                    },
                    Step::Missed(many) => if let Some(changes) = taken.take() {
                        write(&mut file, &changes, many.index(changes.len() + 1));
                        ledger.missed(changes);
                    },
                    // Only after a failure, when nothing is on the way.
                    Step::Reopened => if taken.is_none() {
                        ledger.found(file.keys().cloned().collect());
                        let names: BTreeSet<_> = file.keys().chain(live.keys()).collect();
                        prop_assert!(ledger.changes.len() <= names.len());
                    },
                }
            }
            if let Some(changes) = taken {
                write(&mut file, &changes, usize::MAX);
                ledger.written(changes);
            }
            let changes = ledger.take();
            write(&mut file, &changes, usize::MAX);
            ledger.written(changes);
            prop_assert!(ledger.is_settled());
            let wanted: BTreeMap<_, _> = live.into_iter().map(|(name, (_, value))| (name, value)).collect();
            prop_assert_eq!(&file, &wanted);
            prop_assert_eq!(ledger.stored.len(), wanted.len());
        }
    }

    #[test]
    fn a_record_that_ends_before_it_is_written_costs_nothing() {
        let mut ledger = Ledger::new(10, []);
        for age in 0..1000u64 {
            let name = age.to_be_bytes().to_vec();
            ledger.save(name.clone(), age, ());
            ledger.forget(&name);
        }
        assert!(ledger.is_settled() && ledger.stored.is_empty() && ledger.ages.is_empty());
    }

    #[test]
    fn more_than_may_be_are_found_and_the_oldest_go() {
        let found = (0..5u8).map(|i| (vec![i], u64::from(i)));
        let mut ledger: Ledger<()> = Ledger::new(3, found);
        let mut gone: Vec<_> = ledger.take().into_keys().collect();
        gone.sort();
        assert_eq!(gone, [vec![0], vec![1]]);
    }
}
