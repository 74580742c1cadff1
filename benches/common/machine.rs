//! What the kernel knows: who used how much processor time and memory, and who runs where.

use std::{fs, process::Command};

/// The processor of the proxies.
pub(crate) const PROXY_CPU: &str = "0";
/// The processor of everything else: load, nodes, the real client.
pub(crate) const LOAD_CPU: &str = "1";
/// Of the kernel, in a second.
const TICKS: f64 = 100.0;

/// Puts this process, before it has threads, on its own processor.
pub(crate) fn pin_this_process() {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-p", "-c", LOAD_CPU, &pid]).output().expect("taskset is there");
    assert!(done.status.success(), "taskset: {}", String::from_utf8_lossy(&done.stderr));
}

/// Nanoseconds on a processor of a process, all its threads, and its children.
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    family(pid).into_iter().map(own_cpu_ns).sum()
}

fn own_cpu_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let run = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(run).sum()
}

/// The same in steps of 10 ms, with threads and children that have ended.
pub(crate) fn whole_cpu_ns(pid: u32) -> u64 {
    let ticks = |pid: u32| ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default());
    (family(pid).into_iter().map(ticks).sum::<f64>() / TICKS * 1e9) as u64
}

/// Ticks of processor time of a process and the children it has waited for, from its `stat`.
fn ticks(stat: &str) -> f64 {
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    after_name.split(' ').skip(11).take(4).filter_map(|n| n.parse::<f64>().ok()).sum()
}

/// Resident bytes of a process and its children.
pub(crate) fn resident(pid: u32) -> u64 {
    let rss = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    family(pid).into_iter().filter_map(rss).sum::<u64>() * 1024
}

/// A process and its children; the proxies here have no grandchildren.
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid).chain(children.split_whitespace().filter_map(|c| c.parse().ok())).collect()
}

/// Seconds of processor time since boot that no process of this bench can have used, up to a constant: all
/// that is busy, less this process, its waited-for children, and the proxies.
pub(crate) fn foreign_seconds(proxies: &[u32]) -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc is there");
    let mut all = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let mut next = || all.next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    let (user, nice, system, _idle, _iowait, irq, softirq, steal) =
        (next(), next(), next(), next(), next(), next(), next(), next());
    let own = ticks(&fs::read_to_string("/proc/self/stat").expect("/proc is there"));
    let ours: f64 = proxies.iter().map(|pid| whole_cpu_ns(*pid) as f64 / 1e9).sum();
    (user + nice + system + irq + softirq + steal - own) / TICKS - ours
}
