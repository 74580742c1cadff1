//! A Redis that lets in only who may, and speaks TLS.

use super::{Cluster, Plan};
use crate::support::{certificate, redis::Redis};

/// As the documentation has it.
fn acl() -> String {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/replicas.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("user fallgate ")).unwrap();
    line.replace("PASSWORD", "acl-password")
}

async fn whole_sessions(cluster: &Cluster) {
    for _ in 0..3 {
        let client = cluster.begin().await;
        for name in ["a", "b", "c"] {
            assert_eq!(client.put(&format!("{name}{}", cluster.records(0).await.len()), b"x").await.status, 201);
        }
        assert_eq!(client.end().await.status, 200);
    }
    assert_eq!(cluster.records(3).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rights_of_the_documentation_are_enough() {
    if !Redis::is_here() {
        return;
    }
    let redis = Redis::with(|dir| {
        let file = dir.join("users.acl");
        // The other one is for the test itself.
        std::fs::write(&file, format!("user default on nopass ~* &* +@all\n{}\n", acl())).unwrap();
        vec!["--aclfile".into(), file.to_str().unwrap().into()]
    });
    let redis = redis.await.named("redis://fallgate:acl-password@127.0.0.1");
    let limits = "limits: {max_sessions: 9, requests_per_client: {rate: 99/s, burst: 99}}";
    let top = format!("{limits}\nbandwidth: {{total: 1Gbit/s}}");
    let plan = Plan { top: top.leak(), ..Plan::default() };
    let cluster = Cluster::on(redis, &plan).await;
    whole_sessions(&cluster).await;
    // A place is counted, so its script was let run; a share is held, so those were.
    let counted = || cluster.redis.ask("KEYS *").contains("{fallgate}:cap:total").then_some(());
    crate::support::eventually("caps", counted).await;
    let client = cluster.begin().await;
    assert!(cluster.redis.ask("ZCARD {fallgate}:count:all").contains(":1"));
    client.end().await;
    assert_eq!(cluster.redis.ask("ACL LOG").trim(), "*0");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_speak_tls_to_a_redis_whose_authority_they_know() {
    if !Redis::is_here() {
        return;
    }
    let redis = Redis::with(|dir| {
        certificate(dir, "redis", &rcgen::PKCS_ECDSA_P256_SHA256);
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let words = ["--port", "0", "--tls-port", "PORT", "--tls-auth-clients", "no", "--tls-cert-file"];
        let mut options: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        options.extend([file("redis.crt"), "--tls-key-file".into(), file("redis.key")]);
        options.extend(["--tls-ca-cert-file".into(), file("redis.crt")]);
        options
    });
    let redis = redis.await.named("rediss://localhost");
    let authority = format!(", ca_file: '{}'", redis.dir().join("redis.crt").display());
    let plan = Plan { state: authority.leak(), ..Plan::default() };
    whole_sessions(&Cluster::on(redis, &plan).await).await;
}
