//! Why something was refused or failed.

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
        /// What other replicas know cannot be asked for, and nothing goes on without it.
        StateUnavailable = "state_unavailable",
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
