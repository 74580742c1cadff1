//! Admission: the decision by a token's shape whether a session may go on to a node. It is not
//! authentication; the node verifies.

use std::time::SystemTime;

use super::token;
use crate::{
    config::{AdmissionConfig, TokenLevel},
    telemetry::Reason,
};

/// Decides on the token of a start.
pub(super) fn decide(config: &AdmissionConfig, token: &[u8], now: SystemTime) -> Result<(), Reason> {
    if config.token == TokenLevel::Off {
        return Ok(());
    }
    let kind = token::shape(token)?;
    if !config.kinds.contains(&kind) {
        return Err(Reason::TokenKind);
    }
    match config.token {
        TokenLevel::Decode => token::decode(kind, token, &config.access_keys, now),
        TokenLevel::Off | TokenLevel::Shape => Ok(()),
    }
}
