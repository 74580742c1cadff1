//! The closed vocabulary: every label value that is not a configured name is a word of these enums.
//!
//! A refusal has one word. The metric label, the log field and the `x-fallgate-error` field of the
//! answer carry the same one, so that an operator can go from a user's message to the counter.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every word there is, in the order of declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word as it stands in metrics, logs and answers.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

mod reason;

pub use reason::Reason;

words! {
    /// What a transfer is, to those who watch it.
    #[derive(PartialOrd, Ord, serde::Serialize)]
    #[serde(rename_all = "snake_case")]
    Kind {
        /// A fallback session.
        Session = "session",
        /// A control connection.
        Control = "control",
        /// A flow of data.
        Flow = "flow",
        /// A CONNECT through a forward proxy.
        Tunnel = "tunnel",
        /// Any other request through a forward proxy.
        Request = "request",
    }
}

words! {
    /// How far a transfer has come.
    Stage {
        /// It waits for room.
        Waiting = "waiting",
        /// Its node has not answered yet.
        Starting = "starting",
        /// A request of it waits for its node, which cannot be reached.
        Held = "held",
        /// Bytes may move.
        Open = "open",
    }
}

words! {
    /// The way a session's files go.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    Direction {
        /// From the client to the node (put).
        Upload = "upload",
        /// From the node to the client (get).
        Download = "download",
    }
}

words! {
    /// What a request asks for.
    Operation {
        /// POST session_start.
        Start = "session_start",
        /// PUT or GET file.
        File = "file",
        /// PUT create_dir.
        CreateDir = "create_dir",
        /// PUT mgmt_msg.
        Message = "mgmt_msg",
        /// POST session_end.
        End = "session_end",
        /// CONNECT, through a forward proxy.
        Connect = "connect",
        /// Any other request through a forward proxy.
        Absolute = "absolute",
        /// Nothing that is known.
        Other = "other",
    }
}

words! {
    /// How a session ended.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    Outcome {
        /// The client reported DONE.
        Done = "done",
        /// The client reported ERROR.
        Error = "error",
        /// The gateway or the node refused the start.
        Refused = "refused",
        /// The one connection of a persistent session was lost.
        Lost = "lost",
        /// Nothing moved for `session_idle`.
        Idle = "idle",
        /// The gateway ended before the session did.
        Drained = "drained",
        /// An operator ended it.
        Cancelled = "cancelled",
    }
}

words! {
    /// How a control connection ended that had met its node.
    ControlOutcome {
        /// Both sides were through.
        Closed = "closed",
        /// The client's side broke.
        ClientLost = "client_lost",
        /// The node's side broke.
        NodeLost = "node_lost",
        /// Nothing moved for `idle`.
        Idle = "idle",
        /// The gateway ended before the connection did.
        Drained = "drained",
        /// An operator ended it.
        Cancelled = "cancelled",
    }
}

words! {
    /// How a tunnel or a request through a forward proxy ended.
    TunnelOutcome {
        /// Both sides were through.
        Closed = "closed",
        /// It was refused.
        Refused = "refused",
        /// The target was not reached, or did not answer as it should.
        Failed = "failed",
        /// The client's side broke.
        ClientLost = "client_lost",
        /// The target's side broke.
        TargetLost = "target_lost",
        /// Nothing moved for `tunnel_idle`.
        Idle = "idle",
        /// The gateway ended before it did.
        Drained = "drained",
        /// An operator ended it.
        Cancelled = "cancelled",
    }
}

words! {
    /// How a flow of data ended.
    FlowOutcome {
        /// No datagram came for `flow_idle`.
        Idle = "idle",
        /// The client's last control connection ended longer than `gate_grace` ago.
        GateClosed = "gate_closed",
        /// The gateway ended before the flow did.
        Drained = "drained",
    }
}

words! {
    /// Why a datagram went nowhere.
    DropReason {
        /// Its sender has no control connection here.
        GateClosed = "gate_closed",
        /// No node can take the client's data.
        NoNode = "no_node",
        /// `max_udp_flows` are open.
        TooManyFlows = "too_many_flows",
        /// `max_udp_flows_per_client` are open.
        TooManyFlowsPerClient = "too_many_flows_per_client",
        /// It carries nothing.
        Empty = "empty",
        /// It is longer than a datagram can be.
        Truncated = "truncated",
        /// No socket to the node could be opened.
        NodeUnreachable = "node_unreachable",
        /// There was no descriptor left for a socket to the node.
        OpenFiles = "open_files",
        /// The kernel had no room for it when it came.
        ReceiveFull = "receive_full",
        /// The kernel had no room to send it.
        SendFull = "send_full",
        /// The kernel would not send it.
        SendFailed = "send_failed",
        /// `bandwidth` lets no more pass.
        Bandwidth = "bandwidth",
    }
}

words! {
    /// What became of a probe of a doctor.
    ProbeResult {
        /// It was answered.
        Answered = "answered",
        /// It is not signed with the secret.
        Forged = "forged",
        /// Its time is further away than a minute, or another process answers from now on.
        Stale = "stale",
        /// It was here before.
        Replayed = "replayed",
        /// More came within two minutes than are remembered, or at once than are answered, or faster than the client may ask.
        TooMany = "too_many",
    }
}

words! {
    /// What a cap on bandwidth is for, the narrowest first.
    Scope {
        /// The streams of one session.
        Session = "session",
        /// Those of one client.
        Client = "client",
        /// Those to one node.
        Node = "node",
        /// All streams together.
        Total = "total",
    }
}

words! {
    /// What a limit of the whole gateway counts, by its key in `limits`.
    Limit {
        /// Client connections, over all listeners.
        MaxConnections = "max_connections",
        /// Fallback sessions that were let in.
        MaxSessions = "max_sessions",
        /// Fallback sessions that wait for room.
        MaxWaiting = "max_waiting",
        /// Flows of data.
        MaxUdpFlows = "max_udp_flows",
        /// Tunnels of forward proxies.
        MaxTunnels = "max_tunnels",
        /// Descriptors of the process; the limit is the system's (`RLIMIT_NOFILE`).
        OpenFiles = "open_files",
    }
}

words! {
    /// What was noticed of a session and let pass.
    Finding {
        /// A download was not as long as announced; a file that grows is legitimate.
        LengthDiffers = "length_differs",
        /// A download ended well with fewer files than it had sources.
        ChainEndedEarly = "chain_ended_early",
    }
}

words! {
    /// How a TLS handshake ended.
    HandshakeResult {
        /// TLS is up.
        Ok = "ok",
        /// An alert, garbage, or plain HTTP on the TLS port.
        Failed = "failed",
        /// Not over within `tls_handshake`.
        Timeout = "timeout",
    }
}

words! {
    /// What came of one lookup of an upstream's nodes.
    LookupResult {
        /// All nodes that there are.
        Found = "found",
        /// The name servers say that there are none.
        Nothing = "nothing",
        /// The name servers could not say, or not all.
        Failed = "failed",
    }
}

words! {
    /// How one active health check ended.
    HealthResult {
        /// The node is fine.
        Ok = "ok",
        /// The node did not answer, or not as expected.
        Failed = "failed",
    }
}

words! {
    /// What came of a request that was held because its node could not be reached.
    NodeWait {
        /// A node was reached, and the request went on.
        Returned = "returned",
        /// None was within `node_grace`.
        GaveUp = "gave_up",
        /// The client left, or an operator ended the session.
        Left = "left",
    }
}

words! {
    /// What decided on a node.
    PickHow {
        /// The upstream's balance.
        Balance = "balance",
        /// The client or user was on this node before (`affinity.key`).
        Pin = "pin",
        /// The node has the partial files of this client's and user's last session.
        Resume = "resume",
        /// The client has a live control connection, or live data, on this node.
        Control = "control",
        /// Another node than that of the client's live control connection, because that one could not take it.
        Repin = "repin",
        /// Another node, because the first could not be reached.
        Failover = "failover",
        /// Rendezvous hash of an unknown session (`unknown_session: route`).
        Hash = "hash",
        /// Every node was down and `when_all_down` is `try_all`.
        TryAll = "try_all",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_word_of_its_own_in_snake_case() {
        let mut seen = std::collections::HashSet::new();
        for reason in Reason::ALL {
            let word = reason.as_str();
            assert!(seen.insert(word), "{word} twice");
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        }
    }
}
