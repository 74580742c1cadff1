//! The data port. A gateway answers only who shows that it knows the secret; everybody else can hear no more than that the
//! port is closed.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    diagnosis::Diagnosis as D,
    finding::{Finding, Path},
    reach::{self, Fault, Place},
};
use crate::net::probe::{LEAST, MOST, Secret};

/// How often a probe is sent before it counts as lost.
const TRIES: u32 = 3;
/// How long one may be on its way.
const TURN: Duration = Duration::from_secs(1);
/// A size that ascp uses without asking the path, about a full frame of Ethernet with some tunnel around it, in bytes.
const LARGE: usize = 1440;
const _: () = assert!(LARGE <= MOST);

/// Looks at the data port.
pub(super) async fn look(place: &Place, secret: Option<&Secret>, patience: Duration) -> Vec<Finding> {
    let finding = match probe(place, secret, patience.min(TURN)).await {
        Ok(fault) | Err(fault) => Finding::new(Path::Udp, fault.diagnosis, fault.seen),
    };
    vec![finding]
}

async fn probe(place: &Place, secret: Option<&Secret>, turn: Duration) -> Result<Fault, Fault> {
    let address = reach::address(place, turn * TRIES).await?;
    let broken = |error: io::Error| Fault::new(D::Broken, format!("{place}: {error}"));
    let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await.map_err(broken)?;
    socket.connect(address).await.map_err(broken)?;
    let Some(secret) = secret else { return Ok(untold(&socket, place, turn).await) };
    let small = match ask(&socket, secret, LEAST, turn).await {
        Ok(Some(heard)) => heard,
        Ok(None) => return Ok(Fault::new(D::UdpSilent, format!("{place}: {TRIES} probes, no answer"))),
        Err(error) => return Ok(refused(place, &error)),
    };
    let (after, seen, tries) = small;
    let told = format!("{place}: answered after {} ms at try {tries}; it sees {seen}", after.as_millis());
    match ask(&socket, secret, LARGE, turn).await {
        Ok(Some(_)) => Ok(Fault::new(D::UdpOk, format!("{told}; {LARGE} bytes pass both ways"))),
        Ok(None) | Err(_) => Ok(Fault::new(D::UdpLargeLost, format!("{told}; {LARGE} bytes are lost"))),
    }
}

/// How long the answer took, where the gateway saw us, and at which try.
async fn ask(
    socket: &UdpSocket,
    secret: &Secret,
    size: usize,
    turn: Duration,
) -> io::Result<Option<(Duration, SocketAddr, u32)>> {
    let mut room = vec![0; MOST + 1];
    for attempt in 1..=TRIES {
        // A nonce of its own each time: one that was answered is not answered again.
        let nonce = Uuid::new_v4().into_bytes();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let question = secret.question(&nonce, u64::try_from(now.as_millis()).unwrap_or(0), size);
        let begin = Instant::now();
        match socket.send(&question).await {
            // The path is known to be smaller.
            Err(error) if size > LEAST && error.kind() != io::ErrorKind::ConnectionRefused => return Ok(None),
            sent => sent?,
        };
        let hear = async {
            loop {
                let n = socket.recv(&mut room).await?;
                if let Some(seen) = secret.read_answer(room.get(..n).unwrap_or_default(), &nonce) {
                    return io::Result::Ok(seen);
                }
            }
        };
        if let Ok(heard) = timeout(turn, hear).await {
            return heard.map(|seen| Some((begin.elapsed(), seen, attempt)));
        }
    }
    Ok(None)
}

/// Without a secret nobody answers, but a closed port may say so.
async fn untold(socket: &UdpSocket, place: &Place, turn: Duration) -> Fault {
    for _ in 0..2 {
        if let Err(error) = socket.send(b"?").await {
            return refused(place, &error);
        }
        if let Ok(Err(error)) = timeout(turn / 2, socket.recv(&mut [0; 64])).await {
            return refused(place, &error);
        }
    }
    Fault::new(D::UdpUntold, format!("{place}: without a secret nobody is answered there"))
}

fn refused(place: &Place, error: &io::Error) -> Fault {
    let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
    Fault::new(if is_refused { D::UdpRefused } else { D::Broken }, format!("{place}: {error}"))
}
