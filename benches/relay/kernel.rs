//! The kernel's own forwarding, for comparison: a translated address (nftables) between network namespaces.

use crate::{Options, node::Stage, report::Table};

pub(crate) fn run(_: &Options, _: &Stage) -> Vec<Table> {
    Vec::new()
}
