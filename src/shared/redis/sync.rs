//! What is read of the keys, and what is written to them.

use std::collections::HashMap;

use redis::{Pipeline, RedisError, Value, cmd};

use super::{
    Ending, Found, Lookup, Ran, Terms,
    connect::Connection,
    keys::{self, Keys},
    record::{self, Lives, News, Part, ReplicaId, SharedSession},
    scripts,
};
use crate::shared::Key;

/// How many records are read in one step.
const STEP: usize = 500;
/// How long pins are kept that nobody sets, in milliseconds: two days.
const PINS_FOR: &str = "172800000";

type Fields = HashMap<Vec<u8>, Vec<u8>>;

/// Everything that the keys hold.
pub(super) async fn read(
    connection: &mut Connection,
    keys: &Keys,
    (me, live): (ReplicaId, &[ReplicaId]),
    label_key: (u64, u64),
) -> Result<Found, RedisError> {
    let mut found = Found { replicas: live.to_vec(), ..Found::default() };
    let own = [label_key.0.to_be_bytes(), label_key.1.to_be_bytes()].concat();
    let mut asked = ::redis::pipe();
    asked.cmd("SET").arg(keys.label()).arg(keys::hex(&own)).arg("NX").ignore().cmd("GET").arg(keys.label());
    let (label,): (Vec<u8>,) = asked.query_async(connection).await?;
    found.label_key = keys::bytes(&label).map(|key| {
        let key = u128::from_be_bytes(key);
        ((key >> 64) as u64, key as u64)
    });
    let ids: Vec<Vec<u8>> = cmd("ZRANGE").arg(keys.sessions()).arg(0).arg(-1).query_async(connection).await?;
    let ids: Vec<Key> = ids.iter().filter_map(|id| keys::bytes(id).map(Key)).collect();
    for some in ids.chunks(STEP) {
        let mut all = ::redis::pipe();
        for key in some {
            all.cmd("HGETALL").arg(keys.session(*key));
        }
        let records: Vec<Fields> = all.query_async(connection).await?;
        found.sessions.extend(some.iter().zip(records).filter_map(|(key, fields)| session(*key, fields)));
    }
    let mut at = 0_u64;
    loop {
        let mut step = cmd("HSCAN");
        step.arg(keys.pins()).arg(at).arg("COUNT").arg(STEP);
        let (next, pins): (u64, Vec<Vec<u8>>) = step.query_async(connection).await?;
        found.pins.extend(pins.chunks(2).filter_map(|pair| record::read_pin(pair.get(1)?)));
        at = next;
        if at == 0 {
            break;
        }
    }
    for other in live.iter().filter(|other| **other != me) {
        let controls: Vec<Vec<u8>> = cmd("HVALS").arg(keys.controls(*other)).query_async(connection).await?;
        let controls = controls.iter().filter_map(|text| record::read_control(text));
        found.controls.extend(controls.map(|(upstream, news)| (*other, upstream, news)));
    }
    Ok(found)
}

/// What there is of one id. Fails where nothing can be written either: then others cannot have told of it.
pub(super) async fn find(connection: &mut Connection, keys: &Keys, key: Key) -> Result<Lookup, RedisError> {
    let mut all = ::redis::pipe();
    all.cmd("SET").arg(keys.look()).arg(1).arg("PX").arg(1000).ignore();
    all.cmd("HGETALL").arg(keys.session(key)).cmd("GET").arg(keys.refused(key));
    let (fields, refused): (Fields, Option<Vec<u8>>) = all.query_async(connection).await?;
    let refused = refused.unwrap_or_default();
    Ok(Lookup { session: session(key, fields), refused: refused == b"refused", cancelled: refused == b"cancelled" })
}

/// A session of the fields of its record.
fn session(key: Key, fields: Fields) -> Option<SharedSession> {
    let (state, home) = record::read_session(key, fields.get(&b"state"[..])?)?;
    Some(SharedSession { state, home, parts: parts(fields.into_iter()) })
}

fn parts(fields: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<(ReplicaId, Part)> {
    let part = |(name, text): (Vec<u8>, Vec<u8>)| {
        let replica = String::from_utf8(name.strip_prefix(b"part:")?.to_vec()).ok()?;
        Some((ReplicaId::try_from(replica).ok()?, record::read_part(&text)?))
    };
    fields.filter_map(part).collect()
}

/// What the script of an end returned.
pub(super) fn ending(ran: Ran) -> Ending {
    let Some(texts) = ran.texts() else { return Ending::Unknown };
    let mut texts = texts.into_iter();
    if texts.next().as_deref() != Some(b"1") {
        return Ending::Told;
    }
    let texts: Vec<_> = texts.collect();
    let pairs = texts.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone())));
    Ending::First(parts(pairs))
}

/// Adds to a pipeline what is to be written for a piece of news; false where nothing is.
fn add(all: &mut Pipeline, news: &News, keys: &Keys, me: ReplicaId, terms: &Terms) -> bool {
    let ttl = || terms.session_ttl.as_millis().to_string().into_bytes();
    let id = |key: &Key| keys::hex(&key.0).into_bytes();
    let replica = || me.to_string().into_bytes();
    match news {
        News::Session { session, new, lives, .. } => {
            let key = session.state.key;
            let part = session.parts.first().map(|(_, part)| *part).unwrap_or_default();
            let (state, part) = (record::value(&(&session.state, session.home)), record::value(&part));
            let names = [keys.session(key), keys.gone(key), keys.sessions()];
            let new = if *new { b"1".to_vec() } else { b"0".to_vec() };
            let lives = match lives {
                Lives::No => b"".to_vec(),
                Lives::NotIdle => b" idle ".to_vec(),
                Lives::AtHome => b" idle lost ".to_vec(),
            };
            all.add_command(scripts::SAVE.command(&names, &[id(&key), state, replica(), part, ttl(), new, lives]));
        }
        News::Idle(key, part) => {
            let names = [keys.session(*key), keys.sessions()];
            all.add_command(scripts::PART.command(&names, &[id(key), replica(), record::value(part), ttl()]));
        }
        News::Refused(key) => {
            all.cmd("SET").arg(keys.refused(*key)).arg("refused").arg("PX").arg(keys::REFUSED_FOR);
        }
        News::Cancelled(key) => {
            all.cmd("SET").arg(keys.refused(*key)).arg("cancelled").arg("PX").arg(keys::REFUSED_FOR);
        }
        News::Pin(pin) => {
            let name = format!("{:016x}:{}", pin.hash, pin.upstream).into_bytes();
            let (set, max) = (pin.set.to_string().into_bytes(), terms.max_pins.to_string().into_bytes());
            let arguments = [name, record::value(pin), set, max, PINS_FOR.as_bytes().to_vec()];
            all.add_command(scripts::PIN.command(&[keys.pins(), keys.pins_by_age()], &arguments));
        }
        News::Unpin(upstream, hash) => {
            let name = format!("{hash:016x}:{upstream}");
            all.cmd("HDEL").arg(keys.pins()).arg(&name).ignore().cmd("ZREM").arg(keys.pins_by_age()).arg(&name);
        }
        News::Control(upstream, control) => {
            let (at, name) = (keys.controls(me), format!("{}:{upstream}", control.number));
            match control.place {
                Some(_) => all.cmd("HSET").arg(at).arg(name).arg(record::value(&(upstream, control))),
                None => all.cmd("HDEL").arg(at).arg(name),
            };
        }
        News::Bye => {
            all.cmd("ZREM").arg(keys.replicas()).arg(me.to_string()).ignore().cmd("DEL").arg(keys.controls(me));
        }
        News::Busy(_) | News::Ended(..) | News::Data(_) => return false,
    }
    true
}

/// What became of sessions that were told to live.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// They are over.
    pub(super) gone: Vec<Key>,
    /// Others took them to be over.
    pub(super) back: Vec<Key>,
}

/// Writes all of it down and publishes it, in one round trip.
pub(super) async fn write(
    connection: &mut Connection,
    keys: &Keys,
    me: ReplicaId,
    terms: &Terms,
    news: Vec<News>,
) -> Result<Written, RedisError> {
    let mut all = ::redis::pipe();
    let written: Vec<_> = news.iter().filter(|news| add(&mut all, news, keys, me, terms)).collect();
    let sessions: Vec<Option<Key>> = written
        .into_iter()
        .map(|news| if let News::Session { session, .. } = news { Some(session.state.key) } else { None })
        .collect();
    all.cmd("PUBLISH").arg(keys.channel()).arg(record::message(me, news)).ignore();
    let answers: Vec<Value> = all.query_async(connection).await?;
    let mut written = Written::default();
    for (key, answer) in sessions.into_iter().zip(answers) {
        match answer {
            Value::Int(0) => written.gone.extend(key),
            Value::Int(2) => written.back.extend(key),
            _ => {}
        }
    }
    Ok(written)
}

/// Tells that this replica lives; returns all that do.
pub(super) async fn beat(
    connection: &mut Connection,
    keys: &Keys,
    me: ReplicaId,
    ttl: u64,
) -> Result<Vec<ReplicaId>, RedisError> {
    let names = [keys.replicas(), keys.controls(me), keys.label()];
    let ran =
        scripts::BEAT.run(connection, &names, &[me.to_string().into_bytes(), ttl.to_string().into_bytes()]).await?;
    let texts = ran.texts().unwrap_or_default().into_iter().filter_map(|text| String::from_utf8(text).ok());
    let mut live: Vec<_> = texts.filter_map(|text| ReplicaId::try_from(text).ok()).chain([me]).collect();
    live.sort_unstable();
    live.dedup();
    Ok(live)
}
