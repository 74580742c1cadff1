//! Everything that the doctor can find, each with its word, how good it is, what it means and what cures it. Pure.
//!
//! The words are stable: scripts read them. `docs/doctor.md` shows this table, and a test holds it to that.

use serde::Serialize;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Good,
    /// It works, but not for everybody or not for long.
    Warn,
    /// The path does not work.
    Bad,
    /// It cannot be told from here.
    Unknown,
}

impl State {
    /// The word in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Good => "good",
            State::Warn => "warn",
            State::Bad => "bad",
            State::Unknown => "unknown",
        }
    }
}

macro_rules! diagnoses {
    ($($name:ident = $word:literal, $state:ident, $meaning:literal, $cure:literal;)+) => {
        /// What was found.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Diagnosis {
            $(#[doc = $meaning] $name,)+
        }

        impl Diagnosis {
            /// All of them, in the order of the checks.
            pub const ALL: &[Diagnosis] = &[$(Diagnosis::$name),+];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self { $(Diagnosis::$name => $word),+ }
            }

            /// How good that is.
            pub fn state(self) -> State {
                match self { $(Diagnosis::$name => State::$state),+ }
            }

            /// What it means for a transfer.
            pub fn meaning(self) -> &'static str {
                match self { $(Diagnosis::$name => $meaning),+ }
            }

            /// What helps; empty where nothing is amiss.
            pub fn cure(self) -> &'static str {
                match self { $(Diagnosis::$name => $cure),+ }
            }
        }
    };
}

diagnoses! {
    NoAddress = "no_address", Bad, "The name has no address here.",
        "check the spelling and the DNS of this host";
    NoIpv4 = "no_ipv4", Bad, "There are IPv6 addresses only, and ascp knows none without a proxy.",
        "give the server an IPv4 address, or go through a proxy with -x, which resolves the name itself";
    Refused = "refused", Bad, "The port is closed: nothing listens, or a firewall rejects.",
        "check the port, that the service runs, and that firewalls let it pass";
    NoAnswer = "no_answer", Bad, "Nobody answers a connect: a firewall drops it. ascp waits 135 s before it goes on.",
        "open the port in the firewalls on the way, or use the next path of the list at once (-y F)";
    Broken = "broken", Bad, "The connection cannot be made, or breaks.",
        "look for a firewall or a load balancer on the way that resets connections";
    SshOk = "ssh_ok", Good, "The SSH port is open and shows its banner.", "";
    SshSilent = "ssh_silent", Bad, "The port accepts and says nothing. ascp waits for ever and never falls back.",
        "find what accepts in the place of the SSH server; until then force the fallback with -y F";
    SshClosed = "ssh_closed", Bad, "The port accepts and closes at once; ascp falls back with -y 1.",
        "check that a node is up behind it and that the client's address may connect";
    NotSsh = "not_ssh", Bad, "Something else than SSH answers; ascp falls back with -y 1.",
        "check the port: 33001 is usual, some servers have SSH on 22";
    UdpOk = "udp_ok", Good, "Probes went to the gateway and came back. Its nodes were not asked.", "";
    UdpLargeLost = "udp_large_lost", Warn, "Small datagrams pass and large ones do not: the MTU of the way is small.",
        "let ICMP \"fragmentation needed\" pass, or give ascp a smaller datagram with -Z 1200";
    UdpRefused = "udp_refused", Bad, "The far side says that the UDP port is closed.",
        "check the port, and that the data listener runs";
    UdpSilent = "udp_silent", Bad, "No probe came back.",
        "open the UDP port both ways; check that the gateway has this doctor.secret_file, and that both clocks agree to a minute";
    UdpUntold = "udp_untold", Unknown, "UDP cannot be told from outside: a data port answers nobody but its own transfers.",
        "give --secret-file with the secret of the gateway's doctor.secret_file, or try a transfer";
    NotTls = "not_tls", Bad, "The port does not speak TLS.",
        "check the port: clear text is usual on 8080 (-T), TLS on 8443";
    IsTls = "is_tls", Bad, "The port speaks TLS, and was asked in the clear.",
        "leave out -T, or use the port for the clear";
    TlsSilent = "tls_silent", Bad, "The handshake is never answered. ascp waits for ever.",
        "find what accepts in the place of the server, and close that port";
    TlsClosed = "tls_closed", Bad, "The connection ends in the handshake.",
        "look for a firewall that inspects TLS, or for a server without a certificate for clients without SNI";
    Tls13Only = "tls_13_only", Bad, "The server has TLS 1.3 alone; ascp 3.9 speaks 1.2 at most.",
        "allow TLS 1.2 on this port (fallgate: tls.min_version \"1.2\")";
    TlsNeedsSni = "tls_needs_sni", Bad, "The server needs a server name in the handshake; ascp sends none.",
        "give the server a certificate to fall back on";
    TlsUnspeakable = "tls_unspeakable", Bad, "The server has no cipher or certificate that ascp can use.",
        "use an RSA or ECDSA P-256 certificate, and ECDHE over P-256 with AES-GCM";
    TlsOld = "tls_old", Unknown, "ascp can begin a handshake here, with an old version or cipher that this program has not.",
        "try a transfer, or allow TLS 1.2 with ECDHE and AES-GCM on this port";
    TlsWantsCertificate = "tls_wants_certificate", Unknown, "The server wants a certificate of the client. ascp has that of -I, this program none.",
        "see that the server takes the certificate that ascp is given by -I and -Y, and try a transfer";
    TlsOk = "tls_ok", Good, "ascp can speak TLS with this server.", "";
    CertificateOk = "certificate_ok", Good, "The certificate is good for every client.", "";
    CertificateExpired = "certificate_expired", Warn, "The certificate is past its end, or before its begin. ascp does not look, others do.",
        "renew it";
    CertificateName = "certificate_name", Warn, "The certificate is for other names. ascp does not look, others do.",
        "use one of its names as the host, or add this one";
    CertificateUntrusted = "certificate_untrusted", Warn, "No authority of this host stands behind the certificate. ascp does not look, others do.",
        "send the whole chain, or give clients the authority";
    FallbackOk = "fallback_ok", Good, "A fallback server is here: it refuses a start without a token, as it should.", "";
    FallbackLikely = "fallback_likely", Unknown, "403 without a token: a fallback server answers so, and so does a web server that forbids.",
        "give --token-file to be sure";
    RequestChanged = "request_changed", Bad, "The gateway answers, but what came to it is not what was sent: something on the way rewrites requests.",
        "have it pass requests on as they are: HTTP/1.1 (nginx proxy_http_version 1.1), target, lengths and x- fields untouched";
    TokenOk = "token_ok", Good, "The token opens a session; it was ended at once.", "";
    TokenRefused = "token_refused", Bad, "The server refuses this token, for upload and download.",
        "get a new token, and check its user, paths and end; ascp shows code 5";
    TokenUnneeded = "token_unneeded", Warn, "The server takes sessions without a token.",
        "if this is not a test server, have it ask for tokens";
    NotFallback = "not_fallback", Bad, "A web server answers, but none of the fallback; ascp shows code 14 or 47.",
        "check the port, and that whatever stands here passes /aspera/ on to the fallback server";
    GatewayError = "gateway_error", Bad, "What stands here has no server behind it now; ascp shows code 47 and does not try again.",
        "look at the server behind: it is down, full or not reached";
    ServerError = "server_error", Bad, "The server fails; ascp shows code 11.",
        "look at the server's log";
    BadAnswer = "bad_answer", Bad, "The answer is none that ascp can read.",
        "find what answers here: it must be HTTP/1.1 with CR LF and at least one field";
    AnswerSilent = "answer_silent", Bad, "The start is not answered in time. ascp gives up after 20 s without a byte.",
        "find what holds the request back: a proxy that gathers bodies, or a server that hangs";
    AnswerClosed = "answer_closed", Bad, "The connection ends before the answer; ascp shows code 47.",
        "look for a firewall or filter on the way that cuts such requests";
    BodyCapped = "body_capped", Warn, "Large uploads are refused by size (413).",
        "raise the limit: nginx client_max_body_size 0, Squid request_body_max_size 0";
    BodyUncapped = "body_uncapped", Good, "The head of a large upload meets no size limit.", "";
    BodyUntold = "body_untold", Unknown, "Whether a size limit stands in the way of large uploads cannot be told.",
        "try the upload of a large file";
    BodyHeldUntold = "body_held_untold", Unknown, "Whether bodies are gathered, and 102 or pauses of 20 s pass, cannot be told: the far end must take part.",
        "give --secret-file with the secret of the gateway's doctor.secret_file, or try a large file; in nginx set proxy_request_buffering off, proxy_buffering off and proxy_http_version 1.1";
    BodyStreamed = "body_streamed", Good, "Bodies go on as they come.", "";
    BodyHeld = "body_held", Bad, "Bodies are gathered before they go on. Small uploads pass; with large ones ascp hears nothing for 20 s and ends with code 16.",
        "have bodies pass as they come: nginx proxy_request_buffering off and proxy_http_version 1.1; HAProxy no option http-buffer-request; Envoy without its buffer filter";
    InterimOk = "interim_ok", Good, "102 passes, so a slow node does not end a transfer.", "";
    InterimSwallowed = "interim_swallowed", Warn, "102 is swallowed or comes too late: ascp waits 20 s in silence, so a slower node ends a transfer with code 16.",
        "nginx proxy_buffering off; HAProxy, Squid, tinyproxy and whatever passes a CONNECT let 102 through; Envoy does not: there take a path on TCP (tcp_proxy)";
    InterimBroken = "interim_broken", Bad, "A 102 is taken for the answer or breaks the exchange: whenever a node is slow the transfer fails.",
        "take a path on TCP (nginx stream, HAProxy mode tcp, Envoy tcp_proxy); else fallgate's slow_node_notice off, and keep nodes fast";
    FieldsOk = "fields_ok", Good, "Fields pass as they are, both ways.", "";
    FieldsRewritten = "fields_rewritten", Warn, "Names of fields come in other letters or another order. By the rules of HTTP that means nothing; not every server goes by them.",
        "have it keep names: HAProxy h1-case-adjust with its option for client and server, Envoy header_key_format preserve_case for both";
    AnswerStreamed = "answer_streamed", Good, "Answers go on as they come.", "";
    AnswerHeld = "answer_held", Warn, "Answers are gathered before they go on: large downloads fill the memory and disk of what stands there.",
        "nginx proxy_buffering off; Envoy without its buffer filter; no scanning of what is downloaded";
    SilenceOk = "silence_ok", Good, "A request that is worked on in silence is answered.", "";
    SilenceCut = "silence_cut", Bad, "A request that is worked on in silence is cut off.",
        "raise the time-out: nginx proxy_read_timeout, HAProxy timeout server, Envoy timeout of the route (15 s unless set) and stream_idle_timeout, Squid read_timeout, tinyproxy Timeout";
    IdleOk = "idle_ok", Good, "A connection that is idle is kept.", "";
    IdleCut = "idle_cut", Warn, "A connection that is idle is closed: sessions on one persistent connection break in a pause, others do not mind.",
        "raise the time-out: nginx keepalive_timeout, HAProxy timeout http-keep-alive and timeout client, Envoy idle_timeout, Squid client_idle_pconn_timeout; or fallgate's persistent_connection off";
    Intermediary = "intermediary", Warn, "Something between here and the server shows itself in the answers.",
        "it must stream bodies both ways, keep every x- field, pass 102 on and leave idle connections alone";
    FieldsChanged = "fields_changed", Bad, "Fields that begin with x- are missing, renamed or changed on the way: files would be missing or corrupt, with exit status 0.",
        "have it leave fields that begin with x- as they are: nginx without proxy_pass_request_headers off, proxy_set_header and proxy_hide_header of them; Squid without request_header_access and reply_header_access";
    ConnectOk = "connect_ok", Good, "The proxy lets CONNECT through to this port.", "";
    ProxyAuth = "proxy_auth", Bad, "The proxy asks for a password (407), which was not tried.",
        "if it takes Basic, set ASPERA_SCP_PROXY_AUTH_USER and ASPERA_SCP_PROXY_AUTH_PASSWORD where ascp runs; else have the proxy let this client or this target through";
    ProxyDenied = "proxy_denied", Bad, "The proxy refuses the target.",
        "have the proxy allow this host and port (Squid: SSL_ports, Safe_ports; tinyproxy: ConnectPort)";
    ProxyFailed = "proxy_failed", Bad, "The proxy does not reach the target.",
        "check name and port as the proxy sees them, and the firewalls behind it";
    ProxySilent = "proxy_silent", Bad, "The proxy does not answer. To CONNECT ascp waits for ever.",
        "check that this is a proxy, and what it can reach";
    NotProxy = "not_proxy", Bad, "What answers there is no HTTP proxy.",
        "check host and port of the proxy";
}
