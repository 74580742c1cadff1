//! `fallgate node`: the transfer node of the demo as a process of its own.

use std::{io, net::SocketAddr, path::PathBuf};

use super::{FAILED, OK, USAGE, complain, run::Stop, say};
use crate::node::{Node, NodeOptions};

/// What the node is.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Where it listens; port 0 takes any free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    address: SocketAddr,
    /// The folder for its files, which must be there.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Its name in the `Server` field of its answers.
    #[arg(long, default_value = "fallgate-demo-node")]
    name: String,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error("--root: there is no folder {}\n  hint: make it first, for this is where files are looked for and put", .0.display())]
    NoRoot(PathBuf),
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected IP:PORT, such as 127.0.0.1:8080 or [::1]:8080")
}

pub(super) fn node(options: Options) -> u8 {
    if !options.root.is_dir() {
        complain(&NodeError::NoRoot(options.root));
        return USAGE;
    }
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
            complain(error.as_ref());
            FAILED
        }
    }
}

async fn serve(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut stop = Stop::new()?;
    let Options { address, root, name } = options;
    let told = NodeOptions { root, name, record: false, ..NodeOptions::default() };
    let node = Node::start(address, told).await.map_err(|source| NodeError::Listen(address, source))?;
    say(format_args!("Listening. address={}", node.address()));
    stop.recv().await;
    Ok(())
}
