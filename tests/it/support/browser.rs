//! A real browser without a window, driven as WebDriver has it.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Wire, loopback, programs::is_here};

/// Longer than a page takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The browser with one page; it does not outlive its test.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes its browsers along when it is asked to end, and not when it is killed.
        let stopped = std::net::TcpStream::connect(self.address).and_then(|mut stream| {
            use std::io::{Read, Write};
            stream.write_all(b"GET /shutdown HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            stream.read_to_end(&mut Vec::new())
        });
        if stopped.is_err() {
            let _ = self.driver.kill();
        }
        let _ = self.driver.wait();
    }
}

/// A driver and its port. It ends where the port that it took of one family is taken of the other.
fn driver() -> Option<(Child, u16)> {
    let mut driver = Command::new("chromedriver");
    let driver = driver.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut driver = driver.spawn().unwrap();
    let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let on_port = |line: String| line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok();
    let port = lines.map_while(Result::ok).find_map(on_port);
    if port.is_none() {
        let _ = driver.wait();
    }
    Some((driver, port?))
}

impl Browser {
    /// Starts it with a window of this size; none where there is no Chromium.
    pub(crate) async fn start(width: u32, height: u32) -> Option<Browser> {
        if !is_here("chromedriver", &["--version"]) || !is_here("chromium", &["--version"]) {
            return None;
        }
        let (driver, port) = (0..10).find_map(|_| driver()).expect("the driver says where it listens");
        let profile = tempfile::tempdir().unwrap();
        let address = loopback(port);
        let mut browser = Browser { driver, address, session: String::new(), _profile: profile };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", browser._profile.path().display()),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let said = browser.ask("POST", "/session", &wanted).await;
        browser.session = said["sessionId"].as_str().unwrap().to_owned();
        Some(browser)
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("url", json!({ "url": url })).await;
    }

    /// What the body of a function comes to in the page, with these arguments.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        self.command("execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// What an expression is in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression};"), json!([])).await
    }

    /// Waits until an expression holds in the page.
    pub(crate) async fn until(&self, expression: &str) {
        let begin = Instant::now();
        while self.value(&format!("Boolean({expression})")).await != true {
            assert!(
                begin.elapsed() < PATIENCE,
                "never: {expression}; the page says: {}",
                self.value("document.body.innerText").await
            );
        }
    }

    /// Presses a key or writes a text, wherever the focus is. WebDriver has private characters for keys.
    pub(crate) async fn press(&self, keys: &str) {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        self.command("actions", json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] })).await;
    }

    /// What the page's console was told, of what should not be.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let said = self.command("se/log", json!({ "type": "browser" })).await;
        let bad = |entry: &&Value| ["SEVERE", "WARNING"].contains(&entry["level"].as_str().unwrap());
        said.as_array().unwrap().iter().filter(bad).map(|entry| entry["message"].to_string()).collect()
    }

    async fn command(&self, what: &str, body: Value) -> Value {
        self.ask("POST", &format!("/session/{}/{what}", self.session), &body).await
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut wire = Wire::plain(self.address).await;
        let reply = wire.ask((head + &body).as_bytes()).await;
        let length = reply.field("content-length").unwrap().parse().unwrap();
        let said: Value = serde_json::from_slice(&wire.body(length).await).unwrap();
        assert_eq!(reply.status, 200, "{method} {path} {body}: {said}");
        said["value"].clone()
    }
}
