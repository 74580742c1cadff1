//! One connection to the Redis, wherever that is: one server, a cluster, or whom sentinels name.

use std::{
    error::Error as _,
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, Pipeline, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisFuture, ServerErrorKind, TlsCertificates, Value,
    aio::{ConnectionLike, MultiplexedConnection, SendError},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use tokio::{sync::mpsc, time::timeout};

use super::{keys::Keys, scripts};
use crate::config::{RedisConfig, RedisUrl};

/// Until then a connection is made, with all that belongs to it.
const CONNECTING: Duration = Duration::from_secs(3);
/// Until then one node of a cluster must be there; the others are asked after it.
const ONE_NODE: Duration = Duration::from_secs(1);
/// What it says while it is there and takes nothing: it is full, cannot write to its disk, or has lost its own replicas.
const FOR_A_WHILE: [&str; 3] = ["OOM", "MISCONF", "NOREPLICAS"];
/// Messages of others that may wait to be heard.
const UNHEARD: usize = 16_384;

/// Why the Redis cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// It is not there, or not now; that may pass by itself.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It is there and says no, or is something else.
    #[error("{0}")]
    Refused(String),
    /// A file that is needed for it cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl RedisError {
    /// Whether it may pass without anybody doing anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, RedisError::Unreachable(_))
    }
}

impl From<redis::RedisError> for RedisError {
    fn from(error: redis::RedisError) -> RedisError {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        // What TLS says against the other side is an error of input as well.
        let is_wrong =
            matches!(io, Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other));
        let may_pass = match error.kind() {
            ErrorKind::Io => !is_wrong,
            ErrorKind::ClusterConnectionNotFound | ErrorKind::NoValidReplicasFoundBySentinel => true,
            ErrorKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ReadOnly
            ),
            ErrorKind::Extension => error.code().is_some_and(|code| FOR_A_WHILE.contains(&code)),
            _ => false,
        };
        if may_pass { RedisError::Unreachable(error.to_string()) } else { RedisError::Refused(error.to_string()) }
    }
}

/// A connection. Cloning shares it: what is asked is answered in turn.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(command),
            Connection::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        all: &'a Pipeline,
        at: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(all, at, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(all, at, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// Connects, and subscribes to the channel; with what is published from now on. That ends when the connection does, or
/// when nobody keeps up with it.
pub(super) async fn connect(
    config: &RedisConfig,
    channel: &str,
) -> Result<(Connection, mpsc::Receiver<PushInfo>), RedisError> {
    let connecting = async {
        let (push, pushed) = mpsc::channel(UNHEARD);
        let push = until_full(push);
        let mut connection = open(config, push).await?;
        match &mut connection {
            Connection::One(one) => one.subscribe(channel).await?,
            Connection::Cluster(cluster) => cluster.subscribe(channel).await?,
        }
        Ok((connection, pushed))
    };
    let tls = if config.redis.iter().any(RedisUrl::is_tls) { "; does it speak TLS?" } else { "" };
    let late = || RedisError::Unreachable(format!("no connection within {} s{tls}", CONNECTING.as_secs()));
    timeout(CONNECTING, connecting).await.unwrap_or_else(|_| Err(late()))
}

/// Tells all of it, or ends with the first that is not heard: the client would go on without it.
fn until_full<T>(push: mpsc::Sender<T>) -> impl Fn(T) -> Result<(), SendError> {
    let push = Mutex::new(Some(push));
    move |info| {
        let mut push = push.lock().unwrap_or_else(PoisonError::into_inner);
        if push.as_ref().is_some_and(|push| push.try_send(info).is_ok()) {
            return Ok(());
        }
        *push = None;
        Err(SendError)
    }
}

/// Looks whether it can be used: connects, and has a script write something that is nobody's and soon gone.
pub(super) async fn look(config: &RedisConfig) -> Result<(), RedisError> {
    let keys = Keys::new(&config.key_prefix);
    let (mut connection, _pushed) = connect(config, &keys.channel()).await?;
    let names = [keys.look()];
    let looking = scripts::LOOK.run(&mut connection, &names, &[]);
    match timeout(CONNECTING, looking).await {
        Ok(ran) => Ok(ran.map(|_| ())?),
        Err(_) => Err(RedisError::Unreachable("it does not answer".to_owned())),
    }
}

async fn open(
    config: &RedisConfig,
    push: impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static,
) -> Result<Connection, RedisError> {
    let Some(first) = config.redis.first() else { return Err(RedisError::Refused("no URL is given".to_owned())) };
    let (password, certificates) = (password(config, first).await?, certificates(config).await?);
    let addresses = config.redis.iter().map(address);
    if let Some(name) = &config.sentinel_master {
        let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_db(first.database().into());
        if let Some(user) = first.user() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = &password {
            builder = builder.set_client_to_redis_password(password);
        }
        if first.is_tls() {
            builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
            builder = builder.set_client_to_sentinel_tls_mode(redis::TlsMode::Secure);
        }
        if let Some(certificates) = certificates {
            builder = builder.set_client_to_redis_certificates(certificates.clone());
            builder = builder.set_client_to_sentinel_certificates(certificates);
        }
        let client = builder.build()?.async_get_client().await?;
        return one(&client, config, push).await;
    }
    let settings = settings(first, password);
    let infos = addresses.map(|address| {
        redis::IntoConnectionInfo::into_connection_info(address).map(|info| info.set_redis_settings(settings.clone()))
    });
    let mut infos = infos.collect::<Result<Vec<_>, _>>()?;
    if infos.len() > 1 {
        let mut builder = ClusterClientBuilder::new(infos)
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(ONE_NODE)
            .response_timeout(config.timeout)
            .retries(1)
            .push_sender(push);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        return Ok(Connection::Cluster(builder.build()?.get_async_connection().await?));
    }
    let info = infos.remove(0);
    let client = match certificates.filter(|_| first.is_tls()) {
        Some(certificates) => Client::build_with_tls(info, certificates)?,
        None => Client::open(info)?,
    };
    one(&client, config, push).await
}

async fn one(
    client: &Client,
    config: &RedisConfig,
    push: impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static,
) -> Result<Connection, RedisError> {
    let how = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(Some(config.timeout))
        .set_push_sender(push);
    Ok(Connection::One(client.get_multiplexed_async_connection_with_config(&how).await?))
}

fn address(url: &RedisUrl) -> ConnectionAddr {
    let (host, port) = (url.host().to_owned(), url.port());
    if url.is_tls() {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

fn settings(url: &RedisUrl, password: Option<String>) -> RedisConnectionInfo {
    let mut settings = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(url.database().into())
        .set_skip_set_lib_name();
    if let Some(user) = url.user() {
        settings = settings.set_username(user);
    }
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    settings
}

/// That of the file, read anew each time, or that of the URL.
async fn password(config: &RedisConfig, url: &RedisUrl) -> Result<Option<String>, RedisError> {
    let Some(path) = &config.password_file else { return Ok(url.password().map(str::to_owned)) };
    let text = read(path).await?;
    let text =
        String::from_utf8(text).map_err(|_| RedisError::Refused(format!("{}: this is no text", path.display())))?;
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}

async fn certificates(config: &RedisConfig) -> Result<Option<TlsCertificates>, RedisError> {
    let Some(path) = &config.ca_file else { return Ok(None) };
    Ok(Some(TlsCertificates { client_tls: None, root_cert: Some(read(path).await?) }))
}

async fn read(path: &std::path::Path) -> Result<Vec<u8>, RedisError> {
    tokio::fs::read(path).await.map_err(|source| RedisError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_keep_up_with_what_is_told_hears_no_more_of_it_rather_than_a_part() {
        let (push, mut pushed) = mpsc::channel(2);
        let push = until_full(push);
        assert!(push(1).is_ok() && push(2).is_ok() && push(3).is_err());
        assert_eq!(pushed.recv().await, Some(1));
        assert!(push(4).is_err());
        assert_eq!((pushed.recv().await, pushed.recv().await), (Some(2), None));
    }
}
