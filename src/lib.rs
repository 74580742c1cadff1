//! fallgate: an edge gateway for Aspera-style file transfer.
//!
//! It stands in front of transfer nodes and carries every path of their clients to them. The nominal path is SSH over
//! TCP for control and UDP for data; both must meet the same node. Where a firewall blocks that, the client falls back
//! to HTTP(S): a fallback session is many requests on many connections, its token travels once, and its client never
//! retries; so the gateway knows what a session is, admits it by the shape of its token, keeps it on one node to its
//! end, and lets nothing else through. `docs/protocol.md` tells how the fallback looks on the wire.
//!
//! # Words
//!
//! *client* · *node* (a transfer server) · *upstream* (a named group of nodes) · *listener* (a named
//! bound address) · *policy* (who may reach what through a forward proxy) ·
//! *connection* (one TCP connection) · *request* (one HTTP exchange) · *door* (the kind of service behind a listener) · *session* (one transfer: the UUID in the path, from
//! session_start to session_end, over many connections) · *flow* (the UDP conversation of one client address) · *admission* (the decision by token shape;
//! not authentication, the node verifies) · *refusal* (we said no) against *failure* (it broke) ·
//! *transfer* (what is shown of a session, control connection, flow, tunnel or request while it is open) · *limit*, *permit*, *waiting room* · *cap* (on bandwidth) · *tunnel* (two TCP connections joined) · *pin* (an affinity entry) · *lease* (a node held) · *drain* · *generation* (one applied config) ·
//! *upgrade* (a new process takes over from this one) · *replica* (one of several gateways with the same Redis) · *mirror* (what a replica knows of the sessions of the others) ·
//! *guest* (a session in the table that is shown at another replica, its *home*).
//!
//! # The house
//!
//! ```text
//! roof     main -> cli -> gateway       builds the doors, reloads, drains; the one room that knows all
//!                     -> doctor        a client that moves nothing: which path to a server works, and why another does not
//! doors    fallback   relay   forward   admin   node      node is the guest house: a transfer node and a client for demo and tests
//! rules    upstream (which node)   limit (how much)   shared (what other processes know)   tunnel (two streams joined)
//! ground   net (sockets, TLS, HTTP/1 airlock)   telemetry (metrics, words, access log)
//! cellar   config (plain data, imports nothing of ours)
//! ```
//!
//! Imports go downward only. Doors never import each other, nothing but `cli` imports `gateway`, and
//! `upstream` and `limit` do not know each other; of the rules only `tunnel` knows another, for its bytes go by the caps of `limit`. Each library has one room: pingora in `fallback`,
//! hyper in `admin` and in the health checks of `upstream`, rustls and the name resolver in `net` (and rustls in the guest house,
//! which is a peer and stands for itself), prometheus and
//! opentelemetry in `telemetry`, governor in `limit`, redb and the client of Redis in `shared`, YAML in `config`, password hashes in `forward`; unsafe code is in `net::udp` alone. `tests/it/house.rs` reads the source and holds all of it to that.
//!
//! Heads of requests are read in one place, whatever door they come to: the airlock, [`net::http1`]. The forward door needs no
//! engine behind it: a CONNECT is a tunnel after its head, and any other request passes in its own bytes, which no engine would keep.
//!
//! # Nine stories
//!
//! **A request.** [`gateway`] accepts it and takes a connection permit from [`limit`];
//! [`fallback::Door`] ends TLS ([`net::tls`]). The airlock ([`net::http1`]) reads the head whole and
//! strictly, within a deadline. `fallback::grammar` says what the head asks for; what is no fallback
//! request is answered here and no node sees it. A `session_start` is read as far as its token, which
//! must have the right shape; its id must be new and be the one in the path. Where a maximum, a rate or the
//! nodes leave no room for it now it waits its turn (`fallback::waiting`). Then [`upstream`] gives a
//! lease on a node: the one that has the partial files of a session that ended badly, else by balance.
//! Every later request finds its session in the table ([`fallback::Sessions`]), or goes nowhere. Its node is reached
//! (`fallback::reach`); where that fails the request is held for a while (`fallback::hold`), as nobody has read of it. The
//! connection is lent to the engine (`fallback::engine`) for the length of the exchange, and the node's
//! connection likewise (`fallback::node_conn`); bodies stream both ways, as fast as the caps of [`limit`] let them
//! (`fallback::stream`), and are not kept. Meanwhile
//! the owner watches: a client that waits hears a 102, an exchange in which nothing moves is ended. What
//! the node says is looked at before the client obeys it (`fallback::guard`). At the session's end one
//! access record is written ([`telemetry::AccessLog`]).
//!
//! **A control connection.** [`relay::ControlDoor`] asks [`upstream`] for a node: that of the client's other live
//! connections, else by balance. The node must show its SSH banner before the client hears anything; where none does,
//! the connection is closed at once, for then the client falls back. A [`tunnel`] joins the two. As long as it lives the
//! client's address is pinned to the node, and the gate of data is open to it.
//!
//! **A datagram.** A thread of [`relay::DataListener`] receives a batch. What the flow table (`relay::udp::table`, a pure
//! core) knows goes out by the flow's own socket to its node, equal datagrams in one segmented send. What it does not
//! know must pass the gate (`relay::udp::gate`) and the limits; else it is dropped under a word that is counted. The
//! node's answers leave by the socket, and from the address, that the client spoke to. A reload moves no flow.
//!
//! **A CONNECT.** [`forward::Door`] finds out who asks and what for: the target must be sound, then the policy
//! (`forward::policy`, a pure core) rules on it by name. The resolver ([`net::dns`]) gives its addresses; each is ruled on, and
//! those that may be connected to are raced ([`net::dial`]). The client hears 200, and a [`tunnel`] joins the two. A request in
//! absolute form goes the same way, and then byte for byte (`forward::exchange`).
//!
//! **A reload.** A signal wants it, an operator, or a file that has changed (`gateway::watching`).
//! [`config::Config::load`] tells all problems at once, or none. The gateway builds the
//! whole new generation aside (certificates are read again) and binds what is new. Until here nothing
//! has changed; from here nothing can fail. Each listener gets its new door; one that is gone refuses
//! new sessions and closes when its last one is over. Nodes that stay keep their health and leases.
//!
//! **A node from the DNS.** Where the config gives a name instead of nodes, a task of the generation looks it up as often as the
//! answer wants ([`upstream::Discovery`], with a resolver of [`net::dns`] that remembers nothing). What is new among the answer
//! becomes a node and is checked; a node that it has no more drains, and is left out once nothing is on it. The set
//! changes under its readers, so nobody waits for it, and no door is built anew.
//!
//! **An upgrade.** [`gateway`] starts the installed program anew, with a pair of Unix sockets between the two
//! ([`net::passage`]). The new process builds its generation on the sockets of the old one, which then stands still for a
//! moment: what there is of clients, pins and flows goes over, in the words of [`shared`]. From there on the new one accepts.
//! The old one carries what began on its connections; a session goes wherever its next request comes in, for an id that
//! is not known is asked of the other process first.
//!
//! **A crash.** Sessions and pins are written behind, many in one commit, where the config names a file ([`shared::file`]). The
//! next process finds its sockets open, if a service manager has held them ([`net::activation`]), and goes on with the sessions
//! that were between two requests. Where the partial files of the others are is not forgotten.
//!
//! **A replica.** Where the config names a Redis ([`shared::redis`]) several gateways are one. Each tells the others what becomes
//! of its sessions, pins and control connections, and mirrors theirs (`gateway::replicas`): a session of another replica is a
//! guest in the table, with a lease and a permit. A client hears that its start is accepted once the others can know of it, so that its next
//! request may come to any of them. Each says what it did of a session; the first to say that it is over writes the record with
//! all of that. While the Redis is away each goes on by its mirror, and what is new goes by the hash of its id.
//!
//! **A look.** Whatever is open is posted in [`telemetry::Live`] by its door and counts there as it moves; nobody asks a door.
//! Once a second [`admin`] samples it, and while somebody watches makes one moment of it for all who do. Who may see it, and
//! who may end a session or change a cap, `admin::gatekeeper` (a pure core) says; what is commanded goes up to [`gateway`]
//! through a trait that it implements.

pub mod admin;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod fallback;
pub mod forward;
pub mod gateway;
pub mod limit;
pub mod net;
pub mod node;
pub mod relay;
pub mod shared;
pub mod telemetry;
pub mod tunnel;
pub mod upstream;
