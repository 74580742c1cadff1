//! What the engine says of an error, without what a peer has sent.
//!
//! Where the engine cannot read an answer or a body it puts the bytes into its error. They may be anything: a node that
//! repeats the target of a request says the id of the session, and a body is somebody's file.

use pingora_core::{BError, Error, ErrorType, ImmutStr};

/// The kinds of an error and its causes, in one line, and what each says of itself where that is no peer's word.
pub(super) fn told(error: &Error) -> String {
    let mut text = error.esource.as_str().to_owned();
    let mut next = Some(error);
    while let Some(error) = next.take() {
        if !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
        text.push_str(error.etype.as_str());
        if let Some(context) = error.context.as_ref().filter(|context| is_own_word(error, context)) {
            text.push_str(" context: ");
            text.push_str(context.as_str());
        }
        if let Some(cause) = &error.cause {
            text.push_str(" cause: ");
            next = cause.downcast_ref::<BError>().map(|error| &**error);
            if next.is_none() {
                text.push_str(&cause.to_string());
            }
        }
    }
    text
}

/// What is written in the program is nobody's secret; what is put together while it runs says which node could not be
/// connected to, or how long something took, and else holds what was read.
fn is_own_word(error: &Error, context: &ImmutStr) -> bool {
    matches!(context, ImmutStr::Static(_))
        || matches!(
            error.etype,
            ErrorType::ConnectTimedout
                | ErrorType::ConnectRefused
                | ErrorType::ConnectNoRoute
                | ErrorType::ConnectError
                | ErrorType::SocketError
                | ErrorType::BindError
                | ErrorType::TLSHandshakeFailure
                | ErrorType::TLSHandshakeTimedout
                | ErrorType::InvalidCert
                | ErrorType::HandshakeError
                | ErrorType::ReadTimedout
                | ErrorType::WriteTimedout
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sent_is_left_out_and_the_rest_is_told() {
        let io = || std::io::Error::other("broken pipe");
        let read = Error::because(ErrorType::InvalidHTTPHeader, format!("buf: {}", "SECRET"), io());
        let whole = Error::because(ErrorType::H1Error, "while reading", read).into_up();
        assert_eq!(told(&whole), "Upstream H1Error context: while reading cause: InvalidHTTPHeader cause: broken pipe");
        let body = Error::explain(ErrorType::new("InvalidChunk"), format!("Invalid chunk: {}", "SECRET")).into_down();
        assert_eq!(told(&body), "Downstream InvalidChunk");
        let closed: BError = Error::explain(ErrorType::ConnectRefused, format!("peer: {}", "127.0.0.1:9"));
        assert_eq!(told(&closed), "ConnectRefused context: peer: 127.0.0.1:9");
    }
}
