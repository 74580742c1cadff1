//! Other programs through the forward proxy, as their users set it: curl, git, Python's requests, apt, OpenSSH.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use super::{
    egress::{Egress, HERE},
    sshd,
};
use crate::support::{noise, programs::is_here};

/// Serves a folder on a free port, whose number it prints: `server.py FOLDER [CERTIFICATE KEY]`.
const SERVER: &str = "
import http.server, functools, ssl, sys
class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *_): pass
    def do_PUT(self):
        left = int(self.headers.get('Content-Length', -1))
        body = b''
        while left < 0:
            size = int(self.rfile.readline().split(b';')[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0: left = 0
        body += self.rfile.read(left)
        open(self.translate_path(self.path), 'wb').write(body)
        self.send_response(201)
        self.send_header('Content-Length', '0')
        self.end_headers()
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Files, directory=sys.argv[1]))
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";

/// A server of the files in a folder; it ends when this drops.
struct Files {
    child: Child,
    address: SocketAddr,
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Files {
    /// Over TLS with the certificate `tls` of a folder, if one is named.
    fn of(folder: &Path, certificates: Option<&Path>) -> Files {
        let mut command = Command::new("python3");
        command.args(["-c", SERVER]).arg(folder);
        if let Some(at) = certificates {
            command.arg(at.join("tls.crt")).arg(at.join("tls.key"));
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        Files { child, address }
    }
}

/// Runs a program to its end, on a thread of its own, without proxies of this machine.
async fn run(mut command: Command) -> Output {
    for name in
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
    {
        command.env_remove(name);
    }
    tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().unwrap()).await.unwrap()
}

#[track_caller]
fn good(what: &str, said: &Output) -> String {
    assert!(said.status.success(), "{what}: {said:?}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

fn folder(egress: &Egress, name: &str) -> PathBuf {
    let path = egress.dir().join(name);
    fs::create_dir_all(&path).unwrap();
    path
}

fn curl(egress: &Egress, proxy: &str, more: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "-m", "60", "--insecure", "--proxy-insecure", "-x", &format!("{proxy}{}", egress.address)]);
    command.args(more);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_through_in_every_way_it_has() {
    if !is_here("curl", &["--version"]) {
        return;
    }
    for (listener, proxy) in [("", "http://"), (", tls: {cert_file: tls.crt, key_file: tls.key}", "https://")] {
        let egress = Egress::with(HERE, listener).await;
        let files = folder(&egress, "files");
        let content = noise(3_000_000, 3);
        fs::write(files.join("file"), &content).unwrap();
        let local = egress.dir().join("local");
        let data = format!("@{}", local.display());
        for (scheme, at) in [("http", None), ("https", Some(egress.dir()))] {
            let server = Files::of(&files, at);
            let url = format!("{scheme}://{}/file", server.address);
            let sent = format!("{scheme}://{}/sent", server.address);
            let old = egress.address.to_string();
            for way in [[].as_slice(), &["--proxytunnel"], &["--proxy1.0", &old]] {
                let is_old = way.contains(&"--proxy1.0");
                if is_old && proxy == "https://" {
                    continue;
                }
                let what = format!("{proxy} {scheme} {way:?}");
                let got = run(curl(&egress, proxy, &[way, &[&url, "-o", local.to_str().unwrap()]].concat())).await;
                good(&what, &got);
                assert!(fs::read(&local).unwrap() == content, "{what}");
                let length = format!("Content-Length: {}", content.len());
                for header in ["Transfer-Encoding: chunked", &length] {
                    // HTTP/1.0 has no chunks.
                    if is_old && scheme == "http" && header != length {
                        continue;
                    }
                    let put = ["-X", "PUT", "--data-binary", &data, "-H", header, &sent];
                    good(&what, &run(curl(&egress, proxy, &[way, &put].concat())).await);
                    assert!(fs::read(files.join("sent")).unwrap() == content, "{what} {header}");
                    fs::remove_file(files.join("sent")).unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_logs_in_and_is_told_when_it_may_not() {
    if !is_here("curl", &["--version"]) {
        return;
    }
    let egress = Egress::start(&format!("auth: {{users_file: users}}, {HERE}")).await;
    let files = folder(&egress, "files");
    fs::write(files.join("file"), "content").unwrap();
    for (scheme, at) in [("http", None), ("https", Some(egress.dir()))] {
        let server = Files::of(&files, at);
        let url = format!("{scheme}://{}/file", server.address);
        for way in [["--proxy-basic"].as_slice(), &["--proxy-anyauth"]] {
            let said = run(curl(&egress, "http://", &[way, &["--proxy-user", "anna:one", &url]].concat())).await;
            assert_eq!(good(scheme, &said), "content", "{scheme} {way:?}");
        }
        let code = ["-o", "/dev/null", "-w", "%{http_code} %{http_connect}", &url];
        for user in [[].as_slice(), &["--proxy-user", "anna:two"], &["--proxy-user", "bert:one"]] {
            let said = run(curl(&egress, "http://", &[user, &code].concat())).await;
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(said.contains("407"), "{scheme} {user:?}: {said}");
        }
    }
    let records = egress.records(4).await;
    assert!(records.iter().any(|r| r["user"] == "anna") && !format!("{records:?}").contains("one"), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_over_https() {
    let egress = Egress::open().await;
    let (files, work) = (folder(&egress, "files"), folder(&egress, "work"));
    let git = |at: &Path, args: &[&str]| {
        let mut command = Command::new("git");
        let who = ["-c", "user.name=a", "-c", "user.email=a@example", "-c", "init.defaultBranch=main"];
        command.current_dir(at).args(who).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    };
    fs::write(work.join("file"), noise(500_000, 5)).unwrap();
    for args in [["init", "-q"].as_slice(), &["add", "file"], &["commit", "-q", "-m", "one"]] {
        good("git", &run(git(&work, args)).await);
    }
    good("git clone", &run(git(&files, &["clone", "-q", "--bare", work.to_str().unwrap(), "repo.git"])).await);
    good("git update-server-info", &run(git(&files.join("repo.git"), &["update-server-info"])).await);
    let server = Files::of(&files, Some(egress.dir()));
    let (proxy, url) =
        (format!("http.proxy=http://{}", egress.address), format!("https://{}/repo.git", server.address));
    let clone = ["-c", &proxy, "-c", "http.sslVerify=false", "clone", "-q", &url, "copy"];
    good("git clone", &run(git(egress.dir(), &clone)).await);
    assert!(fs::read(egress.dir().join("copy/file")).unwrap() == noise(500_000, 5));
    assert!(egress.metrics().await.sum("tunnels_total", &[("outcome", "closed")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_python_go_both_ways() {
    if !is_here("python3", &["-c", "import requests"]) {
        return;
    }
    let egress = Egress::start(&format!("auth: {{users_file: users}}, {HERE}")).await;
    let files = folder(&egress, "files");
    fs::write(files.join("file"), "content").unwrap();
    let (plain, tls) = (Files::of(&files, None), Files::of(&files, Some(egress.dir())));
    let script = "
import sys, warnings, requests
warnings.simplefilter('ignore')
proxy, *urls = sys.argv[1:]
session = requests.Session()
session.trust_env = False
session.proxies = {'http': proxy, 'https': proxy}
for url in urls:
    for _ in range(3):
        assert session.get(url + '/file', verify=False).text == 'content'
        assert session.put(url + '/sent', data=(b'x' * 1000 for _ in range(50)), verify=False).status_code == 201
        assert len(session.get(url + '/sent', verify=False).content) == 50000
        assert session.get(url + '/nothing', verify=False).status_code == 404
";
    let mut command = Command::new("python3");
    command.args(["-c", script, &format!("http://anna:one@{}", egress.address)]);
    command.args([format!("http://{}", plain.address), format!("https://{}", tls.address)]);
    good("requests", &run(command).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn apt_reads_its_lists_and_fetches_a_package() {
    if !is_here("apt-get", &["--version"]) {
        return;
    }
    let egress = Egress::open().await;
    let (files, at) = (folder(&egress, "files"), folder(&egress, "apt"));
    let package = noise(200_000, 9);
    fs::write(files.join("hello.deb"), &package).unwrap();
    let said = Command::new("sha256sum").arg(files.join("hello.deb")).output().unwrap();
    let digest = String::from_utf8(said.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
    let index = format!(
        "Package: hello\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example>\nFilename: ./hello.deb\nSize: {}\nSHA256: {digest}\nDescription: a test\n\n",
        package.len()
    );
    fs::write(files.join("Packages"), index).unwrap();
    for name in ["lists/partial", "archives/partial", "etc", "log"] {
        folder(&egress, &format!("apt/{name}"));
    }
    fs::write(at.join("status"), "").unwrap();
    let server = Files::of(&files, None);
    fs::write(at.join("etc/sources.list"), format!("deb [trusted=yes] http://{} ./\n", server.address)).unwrap();
    let set = |name: &str, to: &str| format!("{name}={}", at.join(to).display());
    let options = [
        format!("Acquire::http::Proxy=http://{}", egress.address),
        set("Dir::Etc::sourcelist", "etc/sources.list"),
        set("Dir::Etc::sourceparts", "etc/none"),
        set("Dir::State::lists", "lists"),
        set("Dir::State::status", "status"),
        set("Dir::Cache::archives", "archives"),
        set("Dir::Cache::pkgcache", "pkg.bin"),
        set("Dir::Cache::srcpkgcache", "src.bin"),
        set("Dir::Log", "log"),
        "APT::Sandbox::User=".to_owned(),
        "Acquire::http::Timeout=20".to_owned(),
    ];
    for args in [["update"].as_slice(), &["download", "hello"]] {
        let mut command = Command::new("apt-get");
        for option in &options {
            command.args(["-o", option]);
        }
        good(
            "apt-get",
            &run({
                command.args(args).current_dir(&at);
                command
            })
            .await,
        );
    }
    let fetched = fs::read_dir(&at).unwrap().flatten().find(|f| f.path().extension().is_some_and(|e| e == "deb"));
    assert!(fs::read(fetched.unwrap().path()).unwrap() == package);
    assert!(egress.metrics().await.sum("requests_total", &[("operation", "absolute"), ("status", "200")]) >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn openssh_logs_in_through_connect() {
    if !sshd::is_here() || !is_here("sh", &["-c", "nc -h 2>&1 | grep -q -- -X"]) {
        return;
    }
    let (egress, server) = (Egress::open().await, sshd::Sshd::start().await);
    let nc = format!("ProxyCommand=nc -X connect -x {} %h %p", egress.address);
    let said = server.ssh(server.address, &["-o", &nc], "echo out; exit 7").await;
    assert_eq!((said.status.code(), said.stdout.as_slice()), (Some(7), b"out\n".as_slice()), "{said:?}");
    let record = egress.records(1).await.pop().unwrap();
    assert_eq!((&record["kind"], &record["target"]), (&"tunnel".into(), &server.address.to_string().into()));
    assert!(record["bytes_uploaded"].as_u64().unwrap() > 1000, "{record}");
}
