//! A request that is no CONNECT: to its target and back.

use std::{net::SocketAddr, sync::Arc};

use bytes::BytesMut;

use super::{
    Door,
    connection::{After, Next, Refused},
    exchange::{self, AnswerFault, Exchange, Fault, Kept},
    parent,
    policy::{Ask, Verdict},
    record::Story,
    target::{self, Absolute, Target},
};
use crate::{
    config::ParentProxy,
    limit::Flow,
    net::http1::{Airlock, DRAIN_BYTES, DRAIN_TIME, Drained, Head},
    telemetry::{Kind, Operation, Reason, TunnelOutcome},
};

/// Passes a request on, and its answer back.
pub(super) async fn request(
    door: &Arc<Door>,
    mut airlock: Airlock,
    head: Head,
    client: SocketAddr,
    kept: Option<Kept>,
) -> Next {
    let mut story = Box::new(Story::new(Kind::Request, client));
    let preparing = prepare(door, &head, &mut story, kept);
    let (absolute, mut kept, parent) = match door.while_awaited(&mut airlock, preparing).await {
        Ok(prepared) => prepared,
        Err(refused) => return door.refuse(airlock, &head, story, refused).await,
    };
    // Any other request is no part of a session that a drain would wait for.
    let is_fallback = is_fallback(&head, &absolute);
    let is_fronted = !door.entrance.fronts().trusted().is_empty();
    let connected = is_fallback.then(|| door.recent.begin(client.ip(), &absolute.target).stands());
    let cancel = door.shared.cut.child_token();
    let transfer = story.post(&door.shared.live, &door.name, cancel.clone());
    let mut end = loop {
        let request = compose(&head, &absolute, (is_fallback, is_fronted), parent);
        let was_used = kept.uses > 0;
        let caps = (&door.shared.bandwidth, door.flow(&head, &absolute, client));
        let exchange = Exchange::new(&mut airlock, &mut kept, (&head, is_fallback), request, story.parent, caps);
        let end = exchange.run((&door.timeouts, &door.metrics), &transfer, &cancel).await;
        // The target closed what had been idle; nothing of the request was heard.
        let again = was_used && end.is_unheard() && is_repeatable(&head);
        if !again {
            break end;
        }
        let reaching = async {
            let reached = door.reach(&absolute.target, &mut story).await;
            reached.map_err(|error| Refused::because(error.reason(), error))
        };
        match door.while_awaited(&mut airlock, reaching).await {
            Ok(reached) => kept = Kept::new(absolute.target.clone(), reached, &story),
            Err(refused) => return door.refuse(airlock, &head, story, refused).await,
        }
    };
    (story.uploaded, story.downloaded) = (transfer.counts().upload(), transfer.counts().download());
    drop(transfer);
    if matches!(end.fault, Some(Fault::Cut)) && !door.shared.cut.is_cancelled() {
        end.fault = Some(Fault::Cancelled);
    }
    let outcome = match end.fault {
        None => TunnelOutcome::Closed,
        Some(fault) if !end.begun && !airlock.is_mid_write() => {
            return door.refuse(airlock, &head, story, fault.refused()).await;
        }
        Some(fault) => {
            let outcome = fault.outcome();
            let refused = fault.refused();
            door.metrics.refusal(refused.reason);
            story.reason = Some(refused.reason);
            outcome
        }
    };
    door.metrics.request(Operation::Absolute, end.status);
    story.status = Some(end.status);
    drop(connected);
    door.over(&story, outcome);
    if outcome != TunnelOutcome::Closed {
        // It would look whole to a client that waits for the end of the connection.
        airlock.abort();
        return Next::Over;
    }
    if !end.client_stays {
        airlock.close().await;
        return Next::Over;
    }
    if airlock.body_left() > 0
        && airlock.drain(DRAIN_BYTES, door.timeouts.body_idle, DRAIN_TIME).await == Drained::Given
    {
        airlock.close().await;
        return Next::Over;
    }
    kept.uses += 1;
    let target = is_fallback.then_some((client.ip(), absolute.target));
    Next::Again(airlock, After { kept: Some(kept).filter(|_| end.target_stays), target })
}

/// Who asks, for what, and a connection to it.
async fn prepare<'a>(
    door: &'a Door,
    head: &Head,
    story: &mut Story,
    kept: Option<Kept>,
) -> Result<(Absolute, Kept, Option<&'a ParentProxy>), Refused> {
    door.identify(head, story).await?;
    let absolute = target::absolute(head.target()).map_err(|error| Refused::because(error.reason(), error))?;
    story.target = Some(absolute.target.to_string());
    if head.has_control() {
        return Err(Refused::new(Reason::BadName));
    }
    door.admit(story, &absolute.target)?;
    if let Some(kept) =
        kept.filter(|kept| kept.serves(&absolute.target, story) && (kept.of_session || is_repeatable(head)))
        && door.may_use(&kept, &absolute.target, story)
    {
        return Ok((absolute, kept, None));
    }
    let reached = door.reach(&absolute.target, story).await;
    let reached = reached.map_err(|error| Refused::because(error.reason(), error))?;
    let parent = reached.parent;
    Ok((absolute.clone(), Kept::new(absolute.target, reached, story), parent))
}

impl Door {
    /// What a request belongs to. Those of one client to one target are one session, and of the fallback those of one
    /// session, on however many connections they come.
    fn flow(&self, head: &Head, absolute: &Absolute, client: SocketAddr) -> Flow {
        let path = head.target().get(absolute.path.clone()).unwrap_or_default();
        let id = if is_fallback(head, absolute) { path.split(|b| *b == b'/').nth(3) } else { None };
        let session = self.shared.bandwidth.number_of(&(client.ip(), &absolute.target, id));
        Flow { listener: self.name.as_str().into(), client: client.ip().into(), session: Some(session), node: None }
    }

    /// Whether a connection that is there already may serve this client and user. One through a parent is not kept.
    fn may_use(&self, kept: &Kept, target: &Target, story: &mut Story) -> bool {
        let (policy, own) = (&self.rules.policy, self.shared.own.load());
        let Some(address) = kept.address().filter(|_| policy.parent_for(&target.host).is_none()) else { return false };
        let ruling = policy.rule(Ask { client: story.client.ip(), user: story.user.as_deref(), target, own: &own });
        match ruling.addresses(&[address.ip()]) {
            Verdict::Pass(rule) => (story.rule, story.address) = (Some(rule), Some(address)),
            Verdict::Report(refusal) => {
                (story.rule, story.address, story.reported) = (Some(refusal.rule), Some(address), true);
            }
            Verdict::Refuse(_) => return false,
        }
        true
    }
}

/// Whether the client would keep its connection for another request.
pub(super) fn stays(head: &Head) -> bool {
    let says = |token| head.has_token("connection", token) || head.has_token("proxy-connection", token);
    if head.minor() == 0 { says("keep-alive") && !says("close") } else { !says("close") }
}

/// Whether a request may be sent twice: a target that heard it twice is as if it heard it once, and there is no body.
fn is_repeatable(head: &Head) -> bool {
    matches!(head.method(), b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE")
        && !head.is_chunked()
        && head.content_length().is_none_or(|length| length == 0)
}

/// Whether it is a request of the fallback, to a node that may know no other form of it (docs/protocol.md, "Requests").
fn is_fallback(head: &Head, absolute: &Absolute) -> bool {
    let path = head.target().get(absolute.path.clone()).unwrap_or_default();
    path.starts_with(b"/aspera/http/") || path.starts_with(b"/aspera/https/")
}

/// Whether a target is that of a session_start of the fallback.
pub(super) fn is_start(target: &[u8]) -> bool {
    target.windows(15).any(|part| part == b"/session_start/") && target.windows(8).any(|part| part == b"/aspera/")
}

/// The head as the target gets it. One of the fallback keeps its target and all fields but those of the proxy; of
/// another one the target is in origin form (RFC 9112, section 3.2.1), unless it goes to another proxy.
fn compose(
    head: &Head,
    absolute: &Absolute,
    (is_fallback, is_fronted): (bool, bool),
    parent: Option<&ParentProxy>,
) -> BytesMut {
    let mut text = BytesMut::with_capacity(head.raw().len() + 64);
    let path = head.target().get(absolute.path.clone()).unwrap_or_default();
    text.extend_from_slice(head.method());
    text.extend_from_slice(b" ");
    match path {
        _ if is_fallback || parent.is_some() => text.extend_from_slice(head.target()),
        b"" if head.method() == b"OPTIONS" => text.extend_from_slice(b"*"),
        path => {
            text.extend_from_slice(if path.starts_with(b"/") { b"" } else { b"/" });
            text.extend_from_slice(path);
        }
    }
    text.extend_from_slice(if head.minor() == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    let says_little =
        head.tokens("connection").all(|t| [&b"keep-alive"[..], b"close"].iter().any(|w| t.eq_ignore_ascii_case(w)));
    let authority = authority(head, absolute);
    let mut has_host = false;
    for (name, value) in head.fields() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"proxy-")) {
            continue;
        }
        // Those of the fallback are the client's word to its node, as long as they say no more than the client does.
        let stays = is_fallback && (is("connection") && says_little || is("keep-alive"));
        if !stays && exchange::is_hop_by_hop(name, head.tokens("connection")) {
            continue;
        }
        // A front of ours meant these for us; what it tells of our clients is nobody else's.
        if is_fronted && (is("forwarded") || is("x-forwarded-for")) {
            continue;
        }
        has_host |= is("host");
        // What the target says counts (RFC 9112, section 3.2.2).
        let value = if is("host") && !value.eq_ignore_ascii_case(authority) { authority } else { value };
        exchange::put_field(&mut text, name, value);
    }
    if !has_host {
        exchange::put_field(&mut text, b"Host", authority);
    }
    if let Some(value) = parent.and_then(parent::authorization) {
        exchange::put_field(&mut text, b"Proxy-Authorization", value.as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Host and port as the target has them.
fn authority<'a>(head: &'a Head, absolute: &Absolute) -> &'a [u8] {
    let before = head.target().get(..absolute.path.start).unwrap_or_default();
    let scheme = before.windows(3).position(|part| part == b"://").map_or(0, |at| at + 3);
    before.get(scheme..).unwrap_or_default()
}

impl Fault {
    /// As a refusal, when nothing of an answer has reached the client.
    fn refused(self) -> Refused {
        match self {
            Fault::Client => Refused::new(Reason::ClientLost),
            Fault::Target(error) => Refused::because(Reason::NodeLost, error),
            Fault::Answer(fault @ AnswerFault::Parent(_)) => Refused::because(Reason::ParentFailed, fault),
            Fault::Answer(fault) => Refused::because(Reason::NodeBadAnswer, fault),
            Fault::Body(error) => Refused::because(Reason::BadRequest, error),
            Fault::Stalled => Refused::new(Reason::Stalled),
            Fault::Cut => Refused::new(Reason::Draining),
            Fault::Cancelled => Refused::new(Reason::Cancelled),
        }
    }

    fn outcome(&self) -> TunnelOutcome {
        match self {
            Fault::Client | Fault::Body(_) => TunnelOutcome::ClientLost,
            Fault::Target(_) => TunnelOutcome::TargetLost,
            Fault::Answer(_) => TunnelOutcome::Failed,
            Fault::Stalled => TunnelOutcome::Idle,
            Fault::Cut => TunnelOutcome::Drained,
            Fault::Cancelled => TunnelOutcome::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http1::Grammar;

    fn composed(text: &str, parent: Option<&str>) -> String {
        let head = Head::parse_as(text.to_owned().into(), Grammar::Proxy).unwrap();
        let absolute = target::absolute(head.target()).unwrap();
        let parent = parent.map(|text| text.parse().unwrap());
        let is_fallback = is_fallback(&head, &absolute);
        String::from_utf8_lossy(&compose(&head, &absolute, (is_fallback, true), parent.as_ref())).into_owned()
    }

    #[test]
    fn a_request_of_the_fallback_goes_on_as_it_came_but_for_the_words_to_the_proxy() {
        let line = "PUT http://N1.example:8080/aspera/http/ab/file/a%20b//x.ashttp HTTP/1.1\r\n";
        let fields = "User-Agent: Aspera FASP HTTP Client\r\nHost: N1.example:8080\r\nKeep-Alive: 300\r\n\
                      Content-Length: 3\r\nConnection: keep-alive\r\nx-next-wire-file: b \r\nx-File-accessible: 1\r\n";
        let sent = format!("{line}{fields}Proxy-Authorization: Basic YTpi\r\nProxy-Connection: keep-alive\r\n\r\n");
        assert_eq!(composed(&sent, None), format!("{line}{fields}\r\n"));
    }

    #[test]
    fn what_a_request_of_the_fallback_says_of_its_connection_goes_on_only_when_it_is_harmless() {
        let line = "PUT http://n1:8080/aspera/http/ab/file/a HTTP/1.1\r\nHost: n1:8080\r\nContent-Length: 3\r\n";
        let sent = format!("{line}Connection: Content-Length, keep-alive\r\n\r\n");
        assert_eq!(composed(&sent, None), format!("{line}\r\n"));
    }

    #[test]
    fn another_request_gets_the_form_that_servers_know_and_loses_what_is_for_one_hop() {
        let sent = "GET http://n1.example?q HTTP/1.1\r\nHost: other\r\nConnection: x-a, close, Host\r\nX-A: 1\r\nX-Forwarded-For: 10.0.0.1\r\n\
                    TE: trailers\r\nUpgrade: h2c\r\nX-B: 2\r\n\r\n";
        assert_eq!(composed(sent, None), "GET /?q HTTP/1.1\r\nHost: n1.example\r\nX-B: 2\r\n\r\n");
        let sent = "OPTIONS http://n1.example:81 HTTP/1.0\r\n\r\n";
        assert_eq!(composed(sent, None), "OPTIONS * HTTP/1.0\r\nHost: n1.example:81\r\n\r\n");
        let sent = "GET http://n1.example/a HTTP/1.1\r\nHost: n1.example\r\n\r\n";
        let told = composed(sent, Some("http://anna:one@proxy.example:3128"));
        assert_eq!(told, format!("{}Proxy-Authorization: Basic YW5uYTpvbmU=\r\n\r\n", &sent[..sent.len() - 2]));
    }

    #[test]
    fn who_stays_and_what_may_be_said_twice_is_told_by_the_head() {
        let head = |text: &str| Head::parse_as(text.to_owned().into(), Grammar::Proxy).unwrap();
        for (text, stay, twice) in [
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", true, true),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Connection: Close\r\n\r\n", false, true),
            ("HEAD http://a/ HTTP/1.0\r\n\r\n", false, true),
            ("POST http://a/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", true, false),
        ] {
            assert_eq!((stays(&head(text)), is_repeatable(&head(text))), (stay, twice), "{text}");
        }
    }
}
