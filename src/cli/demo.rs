//! demo
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Stop after the transfers instead of waiting for Ctrl-C.
    #[arg(long)]
    once: bool,
}
pub(super) fn demo(_: &Options) -> u8 {
    0
}
