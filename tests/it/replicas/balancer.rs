//! A balancer that knows connections and nothing of what is on them: each goes to the next gateway that takes it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::support::loopback;

pub(crate) struct Balancer {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Balancer {
    pub(crate) async fn start(to: Vec<SocketAddr>) -> Balancer {
        let listener = TcpListener::bind(loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (turn, to) = (Arc::new(AtomicUsize::new(0)), Arc::new(to));
            let mut open = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let (turn, to) = (turn.clone(), to.clone());
                open.spawn(async move {
                    for _ in 0..to.len() {
                        let next = to[turn.fetch_add(1, Ordering::Relaxed) % to.len()];
                        if let Ok(mut gateway) = TcpStream::connect(next).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
                            return;
                        }
                    }
                });
            }
        });
        Balancer { address, _tasks: tasks }
    }
}
