//! Connecting to whichever of several addresses answers first (RFC 8305, "happy eyeballs").

use std::{future::pending, io, net::SocketAddr, pin::pin, time::Duration};

use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How long an attempt is left alone before the next one begins beside it (RFC 8305, section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Why no address was connected to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The last one that answered refused.
    #[error("{0}: {1}")]
    Refused(SocketAddr, #[source] io::Error),
    /// None answered in time.
    #[error("no answer in time")]
    Timeout,
    /// The last one that answered did so otherwise.
    #[error("{0}: {1}")]
    Failed(SocketAddr, #[source] io::Error),
    /// There is none.
    #[error("there is no address")]
    Nowhere,
}

/// Connects to the first of `addresses` that answers within `patience`, in their order. Attempts that lose are dropped.
///
/// # Errors
/// None answered; then the most telling of what was heard.
pub async fn dial(addresses: Vec<SocketAddr>, patience: Duration) -> Result<(TcpStream, SocketAddr), DialError> {
    // One address needs no race, and most names have one.
    if let [only] = addresses.as_slice() {
        return match tokio::time::timeout(patience, TcpStream::connect(only)).await {
            Ok(connected) => connected.map(|stream| (stream, *only)).map_err(|error| told(*only, error)),
            Err(_) => Err(DialError::Timeout),
        };
    }
    race(addresses, patience, TcpStream::connect).await
}

async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    patience: Duration,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, SocketAddr), DialError>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut late = pin!(sleep_until(Instant::now() + patience));
    let mut waiting = addresses.into_iter();
    let mut running = JoinSet::new();
    let mut heard = None;
    let mut begin = |running: &mut JoinSet<_>| {
        let address = waiting.next()?;
        let attempt = connect(address);
        running.spawn(async move { (address, attempt.await) });
        Some(Instant::now() + STAGGER)
    };
    let mut next = begin(&mut running);
    while !running.is_empty() {
        let turn = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            Some(Ok((address, result))) = running.join_next() => match result {
                Ok(stream) => return Ok((stream, address)),
                Err(error) => {
                    heard = Some(told(address, error));
                    // Who has failed is not waited for.
                    next = begin(&mut running);
                }
            },
            () = &mut late => return Err(heard.unwrap_or(DialError::Timeout)),
            () = turn => next = begin(&mut running),
        }
    }
    Err(heard.unwrap_or(DialError::Nowhere))
}

fn told(address: SocketAddr, error: io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused(address, error),
        io::ErrorKind::TimedOut => DialError::Timeout,
        _ => DialError::Failed(address, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of an attempt: an answer after so many milliseconds, or none ever.
    #[derive(Clone, Copy)]
    enum Fate {
        Good(u64),
        Bad(u64),
        Silent,
    }

    async fn raced(fates: &'static [Fate], patience: u64) -> (Result<usize, DialError>, u128) {
        let address = |i: usize| SocketAddr::from(([192, 0, 2, 1], i as u16));
        let begin = Instant::now();
        let connect = move |address: SocketAddr| async move {
            match fates[usize::from(address.port())] {
                Fate::Good(after) => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    Ok(())
                }
                Fate::Bad(after) => {
                    tokio::time::sleep(Duration::from_millis(after)).await;
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                Fate::Silent => pending().await,
            }
        };
        let won = race((0..fates.len()).map(address).collect(), Duration::from_millis(patience), connect).await;
        (won.map(|((), address)| address.port().into()), begin.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_wins_and_a_silent_one_costs_a_quarter_second() {
        for (fates, winner, took) in [
            (&[Fate::Good(100), Fate::Good(1)] as &[_], 0, 100),
            (&[Fate::Silent, Fate::Good(10)], 1, 260),
            (&[Fate::Bad(5), Fate::Good(10)], 1, 15),
            (&[Fate::Silent, Fate::Silent, Fate::Bad(5), Fate::Good(5)], 3, 510),
            (&[Fate::Good(300), Fate::Good(100)], 0, 300),
            (&[Fate::Good(400), Fate::Good(100)], 1, 350),
        ] {
            let (won, after) = raced(fates, 5000).await;
            assert_eq!((won.unwrap(), after), (winner, took));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_answer_at_all_ends_in_time_and_says_the_most_that_was_heard() {
        let (won, after) = raced(&[Fate::Silent, Fate::Silent], 1000).await;
        assert!(matches!(won, Err(DialError::Timeout)) && after == 1000, "{won:?} {after}");
        let (won, after) = raced(&[Fate::Silent, Fate::Bad(1)], 1000).await;
        assert!(matches!(won, Err(DialError::Refused(..))) && after == 1000, "{won:?} {after}");
        let (won, after) = raced(&[Fate::Bad(1), Fate::Bad(1)], 1000).await;
        assert!(matches!(won, Err(DialError::Refused(..))) && after == 2, "{won:?} {after}");
        assert!(matches!(raced(&[], 1000).await.0, Err(DialError::Nowhere)));
    }
}
