//! A soak: load and faults at once, then the verdict.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    gateway::Abilities,
    leaks, print,
    report::{Made, Report, Window},
    schedule::{self, Fault, Step},
    stage::{self, Stage},
    work::{LANES, Work},
};

/// A client whose transfer failed waits so long.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs it; whether all is as it must be.
pub(crate) async fn soak(seed: u64, length: Duration) -> bool {
    print(format_args!("soak: {length:?} of load, seed {seed}"));
    let stage = Stage::set(seed).await;
    let faults = schedule::faults(seed, length, stage.nodes.len(), &stage.abilities.kinds());
    print(format_args!(
        "soak: {} faults of {} kinds; {:?}",
        faults.len(),
        stage.abilities.kinds().len(),
        stage.abilities
    ));
    let mut broken = one_of_each(&stage, "first").await;
    let base = match leaks::at_rest(&*stage.process.lock().await).await {
        Ok(base) => base,
        Err(left) => {
            print(format_args!("BROKEN before any load: {left}"));
            return false;
        }
    };
    let (epoch, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        lanes.spawn(work(stage.clone(), seed, lane, epoch, stop.clone()));
    }
    let windows = commit(&stage, &faults, epoch).await;
    sleep_until((epoch + length).into()).await;
    stop.store(true, Ordering::Relaxed);
    let made = lanes.join_all().await.into_iter().flatten().collect();
    stage.restore().await;
    broken.extend(one_of_each(&stage, "last").await);
    let process = stage.process.lock().await;
    match leaks::since(&process, &base).await {
        Ok(held) => print(format_args!("soak: at rest before the load {base:?}, after it {held:?}\n")),
        Err(left) => broken.push(left),
    }
    let report = Report { seed, made, windows };
    print(&report);
    broken.extend(report.broken());
    for line in &broken {
        print(format_args!("BROKEN: {line}"));
    }
    if !broken.is_empty() {
        print(format_args!("The gateway said:\n{}", process.log()));
    }
    broken.is_empty()
}

/// The transfers of a lane, one after the other.
async fn work(stage: Arc<Stage>, seed: u64, lane: usize, epoch: Instant, stop: Arc<AtomicBool>) -> Vec<Made> {
    let mut made = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (work, id, begin) = (Work::of(seed, lane, number), format!("t{lane}-{number}"), epoch.elapsed());
        let ended = work.run(&stage, &id).await;
        let has_failed = ended.failure.is_some();
        made.push(Made { id, name: work.name(), begin, end: epoch.elapsed(), ended });
        if has_failed {
            // Nobody tries again at once; what fails fast would else be most of what is made.
            sleep(PAUSE).await;
        }
    }
    made
}

/// Prints the faults of a run, with the kinds that this gateway is up to.
pub(crate) fn show(seed: u64, length: Duration) {
    for fault in schedule::faults(seed, length, stage::NODES.len(), &Abilities::find().kinds()) {
        let Fault { kind, node, at, lasts, .. } = fault;
        let node = if lasts.is_zero() { "" } else { stage::NODES[node].0 };
        print(format_args!("{:>8.1} s  {:>4.1} s  {:<3} {}", at.as_secs_f64(), lasts.as_secs_f64(), node, kind.name()));
    }
}

/// Commits the faults in their time; gives when they were there.
async fn commit(stage: &Stage, faults: &[Fault], epoch: Instant) -> Vec<Window> {
    let mut begun = vec![Duration::ZERO; faults.len()];
    let mut windows = Vec::new();
    for (at, step) in schedule::steps(faults) {
        sleep_until((epoch + at).into()).await;
        let (i, is_over) = match step {
            Step::Begin(i) => {
                begun[i] = epoch.elapsed();
                stage.begin(&faults[i]).await;
                (i, faults[i].lasts.is_zero())
            }
            Step::End(i) => {
                stage.end(&faults[i]).await;
                (i, true)
            }
        };
        if is_over {
            windows.push(Window { kind: faults[i].kind, begin: begun[i], end: epoch.elapsed() });
        }
    }
    windows
}

/// One transfer of each kind, which must go well; what did not.
async fn one_of_each(stage: &Stage, when: &str) -> Vec<String> {
    let mut broken = Vec::new();
    for (i, work) in Work::each().into_iter().enumerate() {
        let ended = work.run(stage, &format!("{when}-{i}")).await;
        if let Some(failure) = ended.failure {
            broken.push(format!("{when}, {}: {failure}", work.name()));
        }
        broken.extend(ended.wrong);
    }
    broken
}
