//! The gateway between two networks.
