//! The image, and what `compose.yaml` puts around it.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use serde_json::Value;

use crate::{
    image::{Container, stages},
    support::{Ended, eventually, here, is_root, netns::Host, node, programs::is_here, text, upload},
};

const FOLDER: &str = "deploy/container";

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// A service with what it has merged in.
fn services() -> Vec<(String, Value)> {
    let compose = yaml("deploy/container/compose.yaml");
    compose["services"].as_object().unwrap().iter().map(|(name, it)| (name.clone(), it.clone())).collect()
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn the_dockerfile_builds_with_the_version_that_cargo_asks_for_and_ends_in_an_image_without_rights() {
    let stages = stages();
    let [build, image] = &stages[..] else { panic!("{} stages", stages.len()) };
    let manifest = text("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap().trim_end_matches('"');
    assert_eq!((build.base.as_str(), build.name.as_str()), (&*format!("rust:{version}-slim-bookworm"), "build"));
    assert!(image.base.ends_with(":nonroot") && image.name.is_empty(), "{}", image.base);
    // Nothing runs in it while it is made: it has no shell.
    assert!(image.lines.iter().all(|(word, _)| word != "RUN"));
    let (user, group) = image.one("USER").split_once(':').unwrap();
    assert!([user, group].iter().all(|id| id.parse::<u32>().unwrap() > 0));
    assert_eq!(image.one("STOPSIGNAL"), "SIGTERM");
    assert_eq!(image.command("HEALTHCHECK"), ["/usr/bin/fallgate", "health"]);
    for (from, source, _) in image.copies() {
        match from.as_deref() {
            Some(from) => assert_eq!(from, build.name),
            None => assert!(here(&source).exists(), "{source}"),
        }
    }
    let is_labelled = |label: &str| image.lines.iter().any(|(word, said)| word == "LABEL" && said == label);
    assert!(is_labelled(&format!("org.opencontainers.image.version=\"{}\"", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_image_tells_each_port_of_the_reference_config() {
    let stage = stages().pop().unwrap();
    let exposed: Vec<_> = stage.one("EXPOSE").split(' ').collect();
    let config = yaml("config/fallgate.yaml");
    let kind = |protocol: &str| if protocol == "udp" { "udp" } else { "tcp" };
    let port = |address: &Value| address.as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    let listeners = config["listeners"].as_array().unwrap().iter().filter(|it| it["name"] != "fallback-names");
    let mut wanted: Vec<_> =
        listeners.map(|it| format!("{}/{}", port(&it["address"]), kind(it["protocol"].as_str().unwrap()))).collect();
    wanted.push(format!("{}/tcp", port(&config["admin"]["address"])));
    assert_eq!(exposed, wanted);
}

#[test]
fn the_context_of_the_build_has_what_cargo_reads_and_nothing_that_was_built() {
    let ignored = text("deploy/container/Dockerfile.dockerignore");
    let mut lines = ignored.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("*"));
    let kept: Vec<_> = lines.map(|line| line.strip_prefix('!').unwrap()).collect();
    assert!(kept.iter().all(|path| here(path).exists()));
    for needed in ["Cargo.toml", "Cargo.lock", "src", "tests", "benches", "LICENSE"] {
        assert!(kept.contains(&needed), "{needed}");
    }
    assert!(!kept.contains(&"target") && !kept.contains(&".git"));
}

#[tokio::test]
async fn the_image_serves_real_transfers_from_a_root_that_nobody_can_write_to_and_without_any_right() {
    let needed = [("unshare", "--version"), ("capsh", "--modes"), ("mmdebstrap", "--version")];
    if !is_root() || needed.iter().any(|(program, how)| !is_here(program, &[how])) {
        return;
    }
    let Some(host) = Host::new() else { return };
    let files = tempfile::tempdir().unwrap();
    let _node = node(&host, "127.0.0.1:18080", files.path());
    let config = text("deploy/container/fallgate.yaml");
    // The names of compose.yaml are known to its network alone.
    let config = config.replace("host: alpha, ports: { http: 8080 }", "host: 127.0.0.1, ports: { http: 18080 }");
    let config = config.replace("      - { name: beta, host: beta, ports: { http: 8080 } }\n", "");
    let config = config.replace("redis://redis:", "redis://127.0.0.1:");
    let (redis, data) = (is_here("redis-server", &["--version"]), tempfile::tempdir().unwrap());
    let _redis = redis.then(|| Ended(of_compose(&host, "redis").current_dir(data.path()).spawn().unwrap()));
    let Some(mut container) = Container::run(&host, &config).await else { return };
    eventually("a healthy container", || container.is_healthy().then_some(())).await;
    let status = container.status();
    for (name, wanted) in [("Uid", "65532\t65532\t65532\t65532"), ("Groups", " "), ("NoNewPrivs", "1")] {
        assert_eq!(status[name].trim(), wanted.trim(), "{name}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    assert!(status["NSpid"].ends_with("\t1"), "{}", status["NSpid"]);

    if redis {
        eventually("the Redis in use", || {
            let shown = metrics(&host);
            shown.contains("fallgate_shared_state_up 1\n").then_some(())
        })
        .await;
    }
    let file = files.path().join("sent");
    std::fs::write(&file, vec![7; 3_000_000]).unwrap();
    upload(&host, 8080, None, &file);
    assert_eq!(std::fs::read(files.path().join("up/sent")).unwrap(), std::fs::read(&file).unwrap());
    assert!(container.stop().await, "{}", container.log());
    assert!(!container.is_healthy() && container.log().contains("Stopped."), "{}", container.log());
}

#[test]
fn every_service_of_compose_may_do_little_and_all_that_it_mounts_is_there() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(words(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(words(&service["security_opt"]), ["no-new-privileges:true"], "{name}");
        let image = service["image"].as_str().unwrap();
        assert!(image == "fallgate" || image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest"), "{image}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (source, rest) = volume.as_str().unwrap().split_once(':').unwrap();
            if yaml("deploy/container/compose.yaml")["volumes"].as_object().unwrap().contains_key(source) {
                continue;
            }
            assert!(here(FOLDER).join(source).is_file() && rest.ends_with(":ro"), "{name}: {source}");
        }
        let is_checked = service["healthcheck"]["test"].is_array() || image == "fallgate";
        assert!(is_checked && !service["tmpfs"].as_array().unwrap().is_empty(), "{name}");
        for (other, how) in service["depends_on"].as_object().into_iter().flatten() {
            let all = services();
            let other = &all.iter().find(|(name, _)| name == other).unwrap().1;
            // Of a health that nobody looks at nobody would ever hear.
            assert!(how["condition"] != "service_healthy" || other["healthcheck"]["disable"] != true, "{name}");
        }
    }
}

#[test]
fn compose_waits_for_all_of_a_drain_before_it_kills() {
    let config = yaml("deploy/container/fallgate.yaml");
    assert_eq!(
        (config["timeouts"]["pre_drain"].as_str(), config["timeouts"]["drain"].as_str()),
        (Some("5s"), Some("4h"))
    );
    let (_, gateway) = services().into_iter().find(|(name, _)| name == "fallgate").unwrap();
    assert_eq!(gateway["stop_grace_period"], "4h1m5s");
}

#[tokio::test]
async fn the_commands_of_compose_run_with_the_files_that_it_mounts() {
    let program = || Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let image = stages().pop().unwrap();
    assert_eq!(image.command("ENTRYPOINT"), ["/usr/bin/fallgate"]);
    for (name, service) in services().into_iter().filter(|(_, it)| it["image"] == "fallgate") {
        if service["command"].is_null() {
            let config = mounted(&service, &image.command("CMD")[2]);
            let said = program().args(["check", "--config"]).arg(config).output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let root = folder.path().to_str().unwrap();
        let own = |word: &str| match word {
            "0.0.0.0:8080" => "127.0.0.1:0".to_owned(),
            "/srv" => root.to_owned(),
            word => word.to_owned(),
        };
        let mut command = program();
        command.args(words(&service["command"]).into_iter().map(own)).stdout(std::fs::File::create(&out).unwrap());
        let _child = Ended(command.spawn().unwrap());
        eventually(&name, || std::fs::read_to_string(&out).unwrap().starts_with("Listening.").then_some(())).await;
    }
}

/// The command of a service, on a host.
fn of_compose(host: &Arc<Host>, name: &str) -> Command {
    let (_, service) = services().into_iter().find(|(it, _)| it == name).unwrap();
    let words = words(&service["command"]);
    let mut command = host.command(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// What the admin door of a host tells Prometheus.
fn metrics(host: &Arc<Host>) -> String {
    let mut stream = host.open(|| TcpStream::connect("127.0.0.1:9180").unwrap());
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// The only one who reaches the Redis, which asks for no password, is the gateway.
#[test]
fn the_redis_of_compose_is_on_a_network_of_its_own_with_the_gateway() {
    let compose = yaml("deploy/container/compose.yaml");
    assert_eq!(compose["networks"]["state"]["internal"], true);
    for (name, service) in services() {
        let networks = service["networks"].as_array().map(|_| words(&service["networks"])).unwrap_or_default();
        assert_eq!(networks.contains(&"state"), ["fallgate", "redis"].contains(&&*name), "{name}");
    }
    let of = |name: &str| services().into_iter().find(|(it, _)| it == name).unwrap().1;
    assert_eq!(words(&of("redis")["networks"]), ["state"]);
    assert!(of("redis")["ports"].is_null());
    assert_eq!(yaml("deploy/container/fallgate.yaml")["state"]["redis"], "redis://redis:6379");
}

/// The file of this repository that a service finds under a name.
fn mounted(service: &Value, name: &str) -> PathBuf {
    let all = service["volumes"].as_array().unwrap();
    let found = all.iter().find_map(|volume| volume.as_str()?.strip_suffix(&format!(":{name}:ro")));
    here(FOLDER).join(found.unwrap_or_else(|| panic!("nothing is mounted at {name}")))
}

#[test]
fn prometheus_and_grafana_find_gateway_rules_and_dashboard() {
    let all = services();
    let of = |name: &str| &all.iter().find(|(it, _)| it == name).unwrap().1;
    if is_here("promtool", &["--version"]) {
        let folder = tempfile::tempdir().unwrap();
        for file in ["prometheus.yml", "fallgate.rules.yml"] {
            let path = mounted(of("prometheus"), &format!("/etc/prometheus/{file}"));
            std::fs::copy(path, folder.path().join(file)).unwrap();
        }
        let config = folder.path().join("prometheus.yml");
        let said = Command::new("promtool").args(["check", "config"]).arg(config).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.contains("SUCCESS: 1 rule files found"), "{said}");
    }
    let scraped = yaml("deploy/container/prometheus.yml");
    let admin = yaml("deploy/container/fallgate.yaml")["admin"]["address"].as_str().unwrap().to_owned();
    let target = scraped["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().unwrap();
    assert_eq!(target.split_once(':').unwrap(), ("fallgate", admin.rsplit_once(':').unwrap().1));
    let source = yaml("deploy/container/grafana/datasources.yml");
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let provider = yaml("deploy/container/grafana/dashboards.yml");
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap();
    let dashboard = mounted(of("grafana"), &format!("{folder}/fallgate.json"));
    assert_eq!(dashboard.canonicalize().unwrap(), Path::new(&here("deploy/grafana/fallgate.json")));
}
