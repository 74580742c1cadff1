//! `fallgate node`: the transfer node of the demo as a process of its own.

use std::{net::SocketAddr, path::PathBuf};

use super::{FAILED, OK, complain, run::Stop, say};
use crate::node::{Node, NodeOptions};

/// What the node is.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Where it listens; port 0 takes any free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// The folder for its files.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Its name in the `Server` field of its answers.
    #[arg(long, default_value = "fallgate-demo-node")]
    name: String,
}

pub(super) fn node(options: Options) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    match runtime.block_on(serve(options)) {
        Ok(()) => OK,
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

async fn serve(options: Options) -> std::io::Result<()> {
    let mut stop = Stop::new()?;
    let Options { address, root, name } = options;
    let node = Node::start(address, NodeOptions { root, name, record: false, ..NodeOptions::default() }).await?;
    say(format_args!("Listening. address={}", node.address()));
    stop.recv().await;
    Ok(())
}
