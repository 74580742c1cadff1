//! Who answers what, and what is said when nobody may.

use std::{net::IpAddr, sync::Arc};

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    Cancelled, NodeDrain, Operated, Readiness, Rejected,
    feed::{Feed, Stream},
    gatekeeper::{self, Access, Caller},
    openapi, page,
    server::Patience,
    transfers::{self, Query},
    view,
};
use crate::telemetry::{Live, Metrics, Reason};

const JSON: &str = "application/json";
/// The largest body that is read, in bytes.
const BODY: usize = 64 * 1024;

type Answer = Response<Either<Full<Bytes>, Stream>>;

/// Where requests are answered.
pub(super) struct Desk {
    metrics: Arc<Metrics>,
    live: Live,
    operated: Arc<dyn Operated>,
    feed: Feed,
    /// The name that the system goes by.
    own_name: String,
}

/// What a path is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Livez,
    Readyz,
    Metrics,
    Page,
    Status,
    Sessions,
    Session(&'a str),
    Nodes,
    Config,
    Events,
    Description,
    Cancel(&'a str),
    /// Whether it is to drain, or not any more.
    DrainNode(&'a str, bool),
    Change,
    Reload,
    Upgrade,
    Drain,
}

impl<'a> Route<'a> {
    /// The route of a path that takes this method; else the methods that it takes, none where there is no such path.
    fn find(path: &'a str, method: &Method) -> Result<Route<'a>, &'static [Method]> {
        const GET: &[Method] = &[Method::GET, Method::HEAD];
        const POST: &[Method] = &[Method::POST];
        const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];
        let is_post = method == Method::POST;
        let api = path.strip_prefix("/api/v1/").map(|rest| rest.split('/').collect::<Vec<_>>());
        let (route, takes) = match (path, api.as_deref()) {
            ("/livez", _) => (Route::Livez, GET),
            ("/readyz", _) => (Route::Readyz, GET),
            ("/metrics", _) => (Route::Metrics, GET),
            ("/", _) => (Route::Page, GET),
            (_, Some(["status"])) => (Route::Status, GET),
            (_, Some(["sessions"])) => (Route::Sessions, GET),
            (_, Some(["sessions", id])) if !id.is_empty() => (Route::Session(id), GET),
            (_, Some(["sessions", id, "cancel"])) if !id.is_empty() => (Route::Cancel(id), POST),
            (_, Some(["nodes"])) => (Route::Nodes, GET),
            (_, Some(["nodes", name, "drain"])) if !name.is_empty() => (Route::DrainNode(name, true), POST),
            (_, Some(["nodes", name, "undrain"])) if !name.is_empty() => (Route::DrainNode(name, false), POST),
            (_, Some(["config"])) => (if is_post { Route::Change } else { Route::Config }, BOTH),
            (_, Some(["events"])) => (Route::Events, &GET[..1]),
            (_, Some(["openapi.json"])) => (Route::Description, GET),
            (_, Some(["reload"])) => (Route::Reload, POST),
            (_, Some(["upgrade"])) => (Route::Upgrade, POST),
            (_, Some(["drain"])) => (Route::Drain, POST),
            _ => return Err(&[]),
        };
        if takes.contains(method) { Ok(route) } else { Err(takes) }
    }

    fn access(self) -> Access {
        match self {
            Route::Livez | Route::Readyz | Route::Metrics => Access::Open,
            Route::Cancel(_) | Route::DrainNode(..) | Route::Change | Route::Reload | Route::Drain => Access::Command,
            _ => Access::Read,
        }
    }
}

impl Desk {
    pub(super) fn new(metrics: Arc<Metrics>, live: Live, operated: Arc<dyn Operated>, own_name: String) -> Desk {
        Desk { metrics, live, operated, feed: Feed::new(), own_name }
    }

    /// Feeds all who watch, for as long as it is polled.
    pub(super) async fn feed(&self) {
        self.feed.run(&self.live, &self.operated).await;
    }

    /// Counts a connection that is closed at once, for its address has as many as it may.
    pub(super) fn turn_away(&self, peer: IpAddr) {
        self.count(Reason::TooManyConnectionsPerClient, peer);
    }

    fn count(&self, reason: Reason, peer: IpAddr) {
        self.metrics.refused_by_admin(reason);
        tracing::info!(client = %peer, %reason, "An admin request is refused.");
    }

    pub(super) async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: IpAddr,
        patience: Patience,
    ) -> Answer {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let found = Route::find(path, &head.method);
        // What is not there is nothing that a stranger should learn.
        let access = found.map_or(Access::Read, Route::access);
        let mut answer = match self.admit(&head, peer, access) {
            Err(reason) => self.refuse(reason, access, peer),
            Ok(()) => match found {
                Ok(route) => self.serve(route, head.uri.query(), (peer, body), patience).await,
                Err([]) => no(
                    StatusCode::NOT_FOUND,
                    "not_found",
                    "There is nothing here; /api/v1/openapi.json tells what there is.",
                ),
                Err(takes) => {
                    let mut answer =
                        no(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "It does not take this method.");
                    let takes = takes.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
                    answer.headers_mut().extend(HeaderValue::from_str(&takes).map(|takes| (header::ALLOW, takes)));
                    answer
                }
            },
        };
        let always = [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        answer.headers_mut().extend(always.map(|(name, value)| (name, HeaderValue::from_static(value))));
        answer
    }

    fn admit(&self, head: &hyper::http::request::Parts, peer: IpAddr, access: Access) -> Result<(), Reason> {
        let field = |name: &str| head.headers.get(name).map(HeaderValue::as_bytes);
        let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
        let caller = Caller {
            peer,
            host: authority.or_else(|| field("host")),
            origin: field("origin"),
            site: field("sec-fetch-site"),
            authorization: field("authorization"),
            is_forwarded: ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"]
                .iter()
                .any(|name| head.headers.contains_key(*name)),
        };
        gatekeeper::admit(caller, access, self.operated.token().as_deref(), &self.own_name)
    }

    /// Says no in the word that is counted and logged.
    fn refuse(&self, reason: Reason, access: Access, peer: IpAddr) -> Answer {
        self.count(reason, peer);
        let has_token = self.operated.token().is_some();
        let (status, message) = match reason {
            Reason::AuthRequired if !has_token => {
                (StatusCode::FORBIDDEN, "This needs a token, and admin.token_file names none.")
            }
            Reason::AuthRequired => (
                StatusCode::UNAUTHORIZED,
                "This needs the token of admin.token_file, as Bearer or as the password of Basic.",
            ),
            Reason::AuthFailed => (StatusCode::UNAUTHORIZED, "This is not the token of admin.token_file."),
            Reason::ForeignHost => (
                StatusCode::FORBIDDEN,
                "The Host field names another host; ask by address or as localhost, or bring the token.",
            ),
            Reason::ForeignOrigin => (StatusCode::FORBIDDEN, "A page of another site may not ask this."),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "As many pages are open as there may be; close one."),
        };
        let mut answer = no(status, reason.as_str(), message);
        if status == StatusCode::UNAUTHORIZED {
            // A browser asks its user for a Basic password: for a page, not in the middle of a command.
            let how = if access == Access::Command {
                "Bearer realm=\"fallgate\""
            } else {
                "Basic realm=\"fallgate\", charset=\"UTF-8\""
            };
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
        }
        answer
    }

    async fn serve(
        self: &Arc<Self>,
        route: Route<'_>,
        query: Option<&str>,
        (peer, body): (IpAddr, Incoming),
        patience: Patience,
    ) -> Answer {
        match route {
            Route::Livez => text(StatusCode::OK, "ok\n"),
            Route::Readyz => match self.operated.readiness() {
                Readiness::Ready(words) if words.is_empty() => text(StatusCode::OK, "ok\n"),
                Readiness::Ready(words) => text(StatusCode::OK, format!("ok\ndegraded: {}\n", words.join(", "))),
                Readiness::NotReady(word) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{word}\n")),
            },
            Route::Metrics => {
                let text = self.aside(|desk| desk.metrics.render()).await;
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
            }
            Route::Page => page::answer().map(Either::Left),
            Route::Status => typed_json(self.aside(|desk| text_of(&desk.operated.status())).await),
            Route::Sessions => match Query::parse(query) {
                Ok(query) => {
                    let list = move |desk: &Desk| text_of(&transfers::list(&desk.live, &query));
                    typed_json(self.aside(list).await)
                }
                Err(problem) => no(StatusCode::BAD_REQUEST, "bad_request", &problem),
            },
            Route::Session(id) => match transfers::one(&self.live, id) {
                Some(session) => json(StatusCode::OK, &session),
                None => unknown_session(),
            },
            Route::Nodes => {
                let nodes = |desk: &Desk| text_of(&view::Nodes { nodes: desk.operated.status().nodes });
                typed_json(self.aside(nodes).await)
            }
            Route::Config => json(StatusCode::OK, &self.operated.config()),
            Route::Description => json(StatusCode::OK, &openapi::description()),
            Route::Events => self.events(patience, peer),
            Route::Cancel(id) => match self.operated.cancel(id) {
                Cancelled::Done => done(format!("{id} ends.")),
                Cancelled::Unknown => unknown_session(),
                Cancelled::Cannot => {
                    no(StatusCode::CONFLICT, "conflict", "A flow ends with its control connection; cancel that one.")
                }
            },
            Route::DrainNode(name, drain) => self.drain_node(name, drain, query),
            Route::Change => match read(body).await {
                Ok(change) => self.said(self.operated.change(change).await),
                Err(answer) => answer,
            },
            Route::Reload => self.said(self.operated.reload().await),
            Route::Upgrade => self.said(self.operated.upgrade().await),
            Route::Drain => done(self.operated.drain()),
        }
    }

    /// What may take milliseconds, which belong to transfers.
    async fn aside(self: &Arc<Self>, make: impl FnOnce(&Desk) -> Vec<u8> + Send + 'static) -> Vec<u8> {
        let desk = self.clone();
        tokio::task::spawn_blocking(move || make(&desk)).await.unwrap_or_default()
    }

    fn drain_node(&self, name: &str, drain: bool, query: Option<&str>) -> Answer {
        let upstream = match query.map(|query| query.strip_prefix("upstream=").ok_or(())) {
            None => None,
            Some(Ok(upstream)) => Some(upstream),
            Some(Err(())) => {
                return no(StatusCode::BAD_REQUEST, "bad_request", "The one parameter that there may be is upstream.");
            }
        };
        match self.operated.drain_node(name, upstream, drain) {
            NodeDrain::Done(sessions) if drain => {
                done(format!("Nothing new goes to {name}; sessions that are there go on: {sessions} now."))
            }
            NodeDrain::Done(_) => done(format!("New sessions may go to {name} again.")),
            NodeDrain::Unknown => no(StatusCode::NOT_FOUND, "unknown_node", "There is no node of this name."),
            NodeDrain::Several => no(
                StatusCode::CONFLICT,
                "conflict",
                "Several upstreams have a node of this name; say which by ?upstream=NAME.",
            ),
            NodeDrain::ByConfig => {
                no(StatusCode::CONFLICT, "conflict", "The config drains it; take that out there, and reload.")
            }
        }
    }

    fn events(&self, patience: Patience, peer: IpAddr) -> Answer {
        let Some(stream) = self.feed.stream(patience) else {
            let mut answer = self.refuse(Reason::TooManyStreams, Access::Read, peer);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
            return answer;
        };
        let mut answer = Response::new(Either::Right(stream));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        answer
    }

    fn said(&self, result: Result<String, Rejected>) -> Answer {
        match result {
            Ok(message) => done(message),
            Err(Rejected(problems)) => json(
                StatusCode::BAD_REQUEST,
                &view::Refused { error: "rejected".into(), message: "Nothing has changed.".into(), problems },
            ),
        }
    }
}

/// A body of JSON, or what is answered instead.
async fn read(body: Incoming) -> Result<Value, Answer> {
    let bad = |message| no(StatusCode::BAD_REQUEST, "bad_request", message);
    let body = Limited::new(body, BODY).collect().await.map_err(|_| bad("The body broke off or is over 64 KiB."))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|_| bad("The body is no JSON."))
}

fn unknown_session() -> Answer {
    no(StatusCode::NOT_FOUND, "unknown_session", "Nothing of this name is open.")
}

fn done(message: String) -> Answer {
    json(StatusCode::OK, &view::Done { message })
}

fn no(status: StatusCode, error: &str, message: &str) -> Answer {
    json(status, &view::Refused { error: error.into(), message: message.into(), problems: Vec::new() })
}

fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    typed(status, JSON, text_of(body))
}

fn typed_json(text: Vec<u8>) -> Answer {
    typed(StatusCode::OK, JSON, text)
}

fn text_of(body: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    text
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}
