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

words! {
    /// Why a connection, request or session was refused or failed.
    Reason {
        /// The listener, or the gateway, holds as many connections as `max_connections` allows.
        TooManyConnections = "too_many_connections",
        /// The client holds as many connections as `max_connections_per_client` allows.
        TooManyConnectionsPerClient = "too_many_connections_per_client",
        /// The listener, or the gateway, holds as many sessions as `max_sessions` allows.
        TooManySessions = "too_many_sessions",
        /// The client holds as many sessions as `max_sessions_per_client` allows.
        TooManySessionsPerClient = "too_many_sessions_per_client",
        /// The transfer user holds as many sessions as `max_sessions_per_user` allows.
        TooManySessionsPerUser = "too_many_sessions_per_user",
        /// The client starts sessions more often than `session_starts_per_client` allows.
        StartRate = "start_rate",
        /// The client asks more often than `requests_per_client` allows.
        RequestRate = "request_rate",
        /// The session waited for room as long as `max_wait` allows.
        WaitTooLong = "wait_too_long",
        /// As many sessions wait for room as `max_waiting` allows.
        WaitingRoomFull = "waiting_room_full",
        /// The TLS handshake failed or was not TLS at all.
        TlsHandshake = "tls_handshake",
        /// The TLS handshake was not over within `tls_handshake`.
        TlsTimeout = "tls_timeout",
        /// The request head is not what RFC 9112 and the fallback allow; the framing is lost.
        BadHead = "bad_head",
        /// The request head is larger than 32 KiB or has more than 100 fields.
        HeadTooLarge = "head_too_large",
        /// The request head was not whole within `request_head`.
        HeadTimeout = "head_timeout",
        /// A field value or the path holds a control character.
        BadName = "bad_name",
        /// The target is not one of the fallback's forms.
        NotFound = "not_found",
        /// The operation does not go with this method.
        MethodNotAllowed = "method_not_allowed",
        /// The target or the length field does not fit the fallback's grammar.
        BadRequest = "bad_request",
        /// The start body holds no id, operation or token where they must be.
        BadStart = "bad_start",
        /// The id in the start body is not the session in the path.
        SessionMismatch = "session_mismatch",
        /// A session with this id is live already.
        SessionLive = "session_live",
        /// No such session was admitted here.
        UnknownSession = "unknown_session",
        /// The session belongs to another client address.
        ClientMismatch = "client_mismatch",
        /// The start carries no token.
        TokenMissing = "token_missing",
        /// The token has the shape of no known kind.
        TokenShape = "token_shape",
        /// The token is of a kind that this listener does not take.
        TokenKind = "token_kind",
        /// The token is over its date.
        TokenExpired = "token_expired",
        /// The token's access key is not on the list.
        AccessKey = "access_key",
        /// The gateway is draining and takes no new session.
        Draining = "draining",
        /// No node can take the session: all are down, full or excluded.
        NoNode = "no_node",
        /// The session's node could not be reached.
        NodeUnreachable = "node_unreachable",
        /// The node answered with something that is not HTTP.
        NodeBadAnswer = "node_bad_answer",
        /// The node closed or reset the connection before its answer was whole.
        NodeLost = "node_lost",
        /// The node named a file that is not in the download's folder, or holds controls.
        NodeBadName = "node_bad_name",
        /// The node would have an upload start beyond the file's end.
        NodeBadStart = "node_bad_start",
        /// The node sent a whole file where its rest was asked for.
        NodeIgnoredRange = "node_ignored_range",
        /// The node sent no SSH banner within `banner_timeout`, and nor did another one.
        NodeSilent = "node_silent",
        /// The node closed before its SSH banner, or does not speak SSH.
        NodeNotSsh = "node_not_ssh",
        /// A trusted front sent no PROXY header, or not in time.
        ProxyProtocol = "proxy_protocol",
        /// The target of a forward request is none, or not in its one spelling.
        BadTarget = "bad_target",
        /// The client's address is not in the policy's `allow_from`.
        ClientNotAllowed = "client_not_allowed",
        /// The policy asks for a user, and the request names none; or the admin door for its token.
        AuthRequired = "auth_required",
        /// The user is not known, or the password is wrong; or it is not the admin door's token.
        AuthFailed = "auth_failed",
        /// More users log in than passwords can be checked.
        AuthBusy = "auth_busy",
        /// The policy denies the target, or does not allow it.
        PolicyDenied = "policy_denied",
        /// The target is a private address, or the gateway's own, that the policy does not name.
        PrivateAddress = "private_address",
        /// The name of the target was not found.
        DnsFailed = "dns_failed",
        /// The target refused the connection.
        ConnectRefused = "connect_refused",
        /// The target was not connected to within `connect`.
        ConnectTimeout = "connect_timeout",
        /// The target could not be connected to for another reason.
        ConnectFailed = "connect_failed",
        /// The gateway, or the client, has as many tunnels as `max_tunnels` or `max_tunnels_per_client` allow.
        TooManyTunnels = "too_many_tunnels",
        /// The request came from this gateway itself.
        ProxyLoop = "proxy_loop",
        /// The parent proxy could not be reached, or refused the target.
        ParentFailed = "parent_failed",
        /// Neither side moved a byte for `body_idle`.
        Stalled = "stalled",
        /// The client went away before the answer was whole.
        ClientLost = "client_lost",
        /// An operator cancelled the session.
        Cancelled = "cancelled",
        /// A request to the admin door that is trusted for coming from this host names another one.
        ForeignHost = "foreign_host",
        /// A page of another site asks the admin door.
        ForeignOrigin = "foreign_origin",
        /// The admin door sends as many event streams as it may.
        TooManyStreams = "too_many_streams",
        /// A defect of the gateway itself.
        Internal = "internal",
    }
}

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
        /// Bytes may move.
        Open = "open",
    }
}

words! {
    /// The way a session's files go.
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
    /// How one active health check ended.
    HealthResult {
        /// The node is fine.
        Ok = "ok",
        /// The node did not answer, or not as expected.
        Failed = "failed",
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
