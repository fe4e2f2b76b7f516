//! A real Chromium, headless, driven by `chromedriver`, both from the system's packages.
//!
//! The browser is started here and chromedriver is told where it is, so that both end with the test.
//!
//! **Invariants.** Every question has a bound. The profile is a folder of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{eventually::eventually, port::Port, process::Process};

/// How long it may take to start.
const TURN: Duration = Duration::from_mins(2);
/// How long one question may take.
const ANSWER: Duration = Duration::from_mins(3);

/// Without what would ask other hosts.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
    "--window-size=1440,1000",
];

/// A browser with one page, ended when it is dropped.
#[derive(Debug)]
pub struct Browser {
    driver_at: SocketAddr,
    session: String,
    // Dropped in this order: the driver before its browser, the profile last.
    _driver: Process,
    chromium: Process,
    chromium_at: Port,
    _driver_port: Port,
    _folder: TempDir,
}

impl Browser {
    /// Starts both and opens a session.
    pub fn start() -> Self {
        let folder = TempDir::with_prefix("browser-").unwrap();
        let (debugging, driving) = (Port::reserve(), Port::reserve());
        let mut command = Command::new("chromium");
        let profile = folder.path().join("profile");
        command
            .args(FLAGS)
            .arg(format!("--remote-debugging-port={}", debugging.number()))
            .arg(format!("--user-data-dir={}", profile.display()))
            // Where it keeps its sockets; they go with the folder.
            .env("TMPDIR", folder.path())
            .arg("about:blank");
        let chromium = start(&command, folder.path(), "chromium");
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={}", driving.number()));
        let driver = start(&command, folder.path(), "chromedriver");
        let mut browser = Self {
            driver_at: driving.address(),
            session: String::new(),
            _driver: driver,
            chromium,
            chromium_at: debugging,
            _driver_port: driving,
            _folder: folder,
        };
        eventually(TURN, "chromium and chromedriver listen", || {
            TcpStream::connect(browser.chromium_at.address()).ok()?;
            TcpStream::connect(browser.driver_at).ok()
        });
        let address = browser.chromium_at.address().to_string();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"debuggerAddress": address},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.call("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Opens an address and waits until it is loaded.
    pub fn open(&self, url: &str) {
        self.tell("/url", &json!({ "url": url }));
    }

    /// What the body of a function returns on the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.tell("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until that is true.
    #[track_caller]
    pub fn until(&self, what: &str, condition: &str) {
        let script = format!("return Boolean({condition})");
        eventually(TURN, what, || (self.run(&script) == true).then_some(()));
    }

    /// Of how many points the window is, and whether it is a phone's.
    pub fn size(&self, width: u32, height: u32, mobile: bool) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Which colours the system is said to prefer: `dark` or `light`.
    pub fn prefers(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    /// Every answer takes that much longer.
    pub fn slow(&self, millis: u32) {
        self.devtools("Network.enable", &json!({}));
        let network = json!({"offline": false, "latency": millis, "downloadThroughput": -1, "uploadThroughput": -1});
        self.devtools("Network.emulateNetworkConditions", &network);
    }

    /// The window as a PNG, in base64.
    pub fn picture(&self) -> String {
        let picture = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        picture["data"].as_str().unwrap().to_owned()
    }

    /// What the console said since it was asked last, by level and text.
    pub fn console(&self) -> Vec<(String, String)> {
        let lines = self.tell("/se/log", &json!({"type": "browser"}));
        let text = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
        let lines = lines.as_array().unwrap().iter();
        lines
            .map(|line| (text(line, "level"), text(line, "message")))
            .collect()
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.tell("/goog/cdp/execute", &body)
    }

    #[track_caller]
    fn tell(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    /// One request on a connection of its own: no client of the tests can be called where nothing may wait for a future.
    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(self.driver_at).unwrap();
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.driver_at,
            body.len()
        );
        stream
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        let answer = message(&mut stream);
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value
    }
}

impl Drop for Browser {
    /// In good order, if there is time: what its processes still write would stay behind in the folder.
    fn drop(&mut self) {
        if !thread::panicking() && self.chromium.exited().is_none() {
            self.chromium.signal("TERM");
            self.chromium.exit(TURN);
        }
    }
}

/// The body, by its length: the driver may keep the connection open.
fn message(stream: &mut TcpStream) -> String {
    let (mut bytes, mut part) = (Vec::new(), [0; 16_384]);
    loop {
        let more = stream.read(&mut part).unwrap();
        assert!(more > 0, "the driver hung up");
        bytes.extend_from_slice(&part[..more]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.unwrap().trim().parse().unwrap();
        if bytes.len() >= end + 4 + length {
            return String::from_utf8(bytes[end + 4..end + 4 + length].to_vec()).unwrap();
        }
    }
}

fn start(command: &Command, folder: &Path, name: &str) -> Process {
    let logs = folder.join(name);
    fs::create_dir(&logs).unwrap();
    Process::start(command, &logs)
}
