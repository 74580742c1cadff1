//! What came of a run: transfers by kind, failures by cause and by the faults that they met.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::schedule::Kind;

/// How a transfer ended.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Why it failed, if it did; the same words for the same cause.
    pub(crate) failure: Option<String>,
    /// The files that the client called done.
    pub(crate) files: u64,
    /// What of it is not as the client believes. There must be nothing.
    pub(crate) wrong: Vec<String>,
    /// The last that a client said whose transfer failed.
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn failed(cause: impl Into<String>) -> Ended {
        Ended { failure: Some(cause.into()), ..Ended::default() }
    }
}

/// A transfer, with its time from the beginning of the load.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) ended: Ended,
}

/// The time in which a fault was there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) kind: Kind,
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
}

/// Of some transfers, how many failed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) made: u64,
    pub(crate) failed: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, failed: bool) {
        self.made += 1;
        self.failed += u64::from(failed);
    }

    pub(crate) fn per_thousand(self) -> f64 {
        if self.made == 0 { 0.0 } else { self.failed as f64 * 1000.0 / self.made as f64 }
    }
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) made: Vec<Made>,
    pub(crate) windows: Vec<Window>,
}

impl Report {
    /// The kinds of the faults that were there during a transfer.
    fn met(&self, made: &Made) -> Vec<Kind> {
        let met = |w: &&Window| w.begin <= made.end && made.begin <= w.end;
        let mut kinds: Vec<_> = self.windows.iter().filter(met).map(|w| w.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// What must not be: a file that is not as its client believes, and a failure that no fault explains.
    pub(crate) fn broken(&self) -> Vec<String> {
        let mut broken: Vec<String> = self.made.iter().flat_map(|made| made.ended.wrong.clone()).collect();
        for made in &self.made {
            let met = self.met(made);
            if let Some(failure) = &made.ended.failure
                && met.iter().all(|kind| kind.is_free())
            {
                let names: Vec<_> = met.iter().map(|kind| kind.name()).collect();
                let (id, name, begin, end) = (&made.id, &made.name, made.begin, made.end);
                let said = &made.ended.said;
                broken.push(format!(
                    "{id} ({name}) failed with {names:?} alone, {begin:.1?} to {end:.1?}: {failure}\n{said}"
                ));
            }
        }
        broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut kinds, mut causes) =
            (BTreeMap::<&str, (Tally, u64)>::new(), BTreeMap::<&str, BTreeMap<&str, u64>>::new());
        let mut faults = BTreeMap::<Kind, (u64, Tally, Tally)>::new();
        let (mut all, mut calm) = (Tally::default(), Tally::default());
        for window in &self.windows {
            faults.entry(window.kind).or_default().0 += 1;
        }
        for made in &self.made {
            let (met, failed) = (self.met(made), made.ended.failure.is_some());
            let row = kinds.entry(&made.name).or_default();
            row.0.add(failed);
            row.1 += made.ended.files;
            all.add(failed);
            if met.is_empty() {
                calm.add(failed);
            }
            for kind in &met {
                let (_, overlapped, alone) = faults.entry(*kind).or_default();
                overlapped.add(failed);
                if met.iter().all(|other| other == kind || other.is_free()) {
                    alone.add(failed);
                }
            }
            if let Some(cause) = &made.ended.failure {
                let names = if met.is_empty() { vec!["no fault"] } else { met.iter().map(|k| k.name()).collect() };
                for name in names {
                    *causes.entry(cause).or_default().entry(name).or_default() += 1;
                }
            }
        }
        writeln!(
            f,
            "seed {}\n\n| transfers | made | failed | files called done, all checked |\n|---|--:|--:|--:|",
            self.seed
        )?;
        for (name, (tally, files)) in kinds {
            writeln!(f, "| {name} | {} | {} | {files} |", tally.made, tally.failed)?;
        }
        writeln!(f, "| all | {} | {} | |", all.made, all.failed)?;
        let head = "| fault | times | transfers that met it | failed | per 1,000 | met no other that costs | failed | per 1,000 |";
        writeln!(f, "\n{head}\n|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for (kind, (times, met, alone)) in faults {
            writeln!(
                f,
                "| {} | {times} | {} | {} | {:.0} | {} | {} | {:.0} |",
                kind.name(),
                met.made,
                met.failed,
                met.per_thousand(),
                alone.made,
                alone.failed,
                alone.per_thousand()
            )?;
        }
        writeln!(f, "| none | | {} | {} | {:.0} | | | |", calm.made, calm.failed, calm.per_thousand())?;
        writeln!(f, "\n| cause | failures that met each fault |\n|---|---|")?;
        for (cause, met) in causes {
            let met: Vec<_> = met.iter().map(|(name, n)| format!("{name}: {n}")).collect();
            writeln!(f, "| {cause} | {} |", met.join(", "))?;
        }
        Ok(())
    }
}
