//! The control port: does it accept, and does it speak SSH.

use std::time::{Duration, Instant};

use super::{
    diagnosis::Diagnosis::{NotSsh, SshClosed, SshOk, SshSilent},
    finding::{Finding, Path},
    reach::{self, Place},
};
use crate::net::ssh::{NoBanner, read_banner};

/// Looks at the SSH port.
pub(super) async fn look(place: &Place, patience: Duration) -> Vec<Finding> {
    let find = |diagnosis, seen: String| vec![Finding::new(Path::Ssh, diagnosis, seen)];
    let begin = Instant::now();
    let mut stream = match reach::connect(place, patience).await {
        Ok(stream) => stream,
        Err(fault) => return find(fault.diagnosis, fault.seen),
    };
    let connected = begin.elapsed();
    let read = tokio::time::timeout(patience, read_banner(&mut stream));
    match read.await {
        Err(_) => find(SshSilent, format!("{place} accepts, and shows no banner in {}", secs(patience))),
        Ok(Err(NoBanner::Closed(_))) => find(SshClosed, format!("{place} accepts and closes")),
        Ok(Err(NoBanner::NotSsh)) => find(NotSsh, format!("{place} answers, but not with an SSH banner")),
        Ok(Ok(sent)) => {
            let text = String::from_utf8_lossy(&sent);
            let banner = text.lines().find(|line| line.starts_with("SSH-")).unwrap_or_default().to_owned();
            let banner: String = banner.chars().take(80).collect();
            let (connect, all) = (connected.as_millis(), begin.elapsed().as_millis());
            find(SshOk, format!("{banner} ({place}, connected in {connect} ms, banner after {all} ms)"))
        }
    }
}

/// A time as people read it.
pub(super) fn secs(time: Duration) -> String {
    format!("{} s", time.as_secs_f32())
}
