//! A headless Chromium in the network of a machine, driven over a pipe by its DevTools protocol.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::wait::PATIENCE;

/// What it is started with besides: no sandbox, as it runs as root; no word to anybody outside.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// How large the window is and which colours its user prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub name: &'static str,
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

/// One browser with one page. Ends when dropped.
pub struct Browser {
    process: Child,
    orders: ChildStdin,
    answers: Receiver<Value>,
    session: String,
    last_id: u64,
    /// What the page complained of since it was opened.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one whose 127.0.0.1 is the machine's.
    pub fn start(machine: &Machine) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", machine.pid1()))
            // It reads its orders from descriptor 3 and answers on 4.
            .args([
                "--",
                "sh",
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null",
                "sh",
            ])
            .arg("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("nsenter starts");
        let (sender, answers) = channel();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while output
                .read_until(0, &mut message)
                .is_ok_and(|read| read > 0)
            {
                message.pop();
                let value = serde_json::from_slice(&message).expect("a message is JSON");
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut browser = Self {
            orders: process.stdin.take().unwrap(),
            process,
            answers,
            session: String::new(),
            last_id: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in [
            "Page.enable",
            "Runtime.enable",
            "Log.enable",
            "Network.enable",
        ] {
            browser.call(domain, &json!({}));
        }
        browser
    }

    /// Sets the window and the preferred colours.
    pub fn view(&mut self, view: View) {
        let metrics = json!({
            "width": view.width,
            "height": view.height,
            "deviceScaleFactor": 1,
            "mobile": view.width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if view.dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media);
    }

    /// Opens a page and waits until it is all there.
    pub fn open(&mut self, url: &str) {
        self.complaints.clear();
        let opened = self.call("Page.navigate", &json!({ "url": url }));
        assert_eq!(opened["errorText"], Value::Null, "{opened}");
        self.until(|message| message["method"] == "Page.loadEventFired");
    }

    /// What the page, its style or its policy complained of since it was opened.
    pub fn complaints(&mut self) -> &[String] {
        // Whatever was said before the answer to this was read with it.
        self.evaluate("1");
        &self.complaints
    }

    /// The value of an expression of JavaScript.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let expression = json!({
            "expression": expression,
            "returnByValue": true,
            "awaitPromise": true,
        });
        let answer = self.call("Runtime.evaluate", &expression);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{answer}");
        answer["result"]["value"].clone()
    }

    /// Keeps a picture of what the window shows.
    pub fn picture(&mut self, path: &Path) {
        let answer = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let png = BASE64_STANDARD.decode(answer["data"].as_str().unwrap().as_bytes());
        std::fs::write(path, png.unwrap()).unwrap();
    }

    #[track_caller]
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        let mut order = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            order["sessionId"] = Value::from(self.session.as_str());
        }
        let mut bytes = order.to_string().into_bytes();
        bytes.push(0);
        self.orders.write_all(&bytes).unwrap();
        let answer = self.until(|message| message["id"] == id);
        assert_eq!(answer["error"], Value::Null, "{method}: {answer}");
        answer["result"].clone()
    }

    #[track_caller]
    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.answers.recv_timeout(PATIENCE);
            let message = message.expect("Chromium (of Debian's package chromium) answers");
            let of_page = &message["params"];
            let complaint = match message["method"].as_str().unwrap_or_default() {
                "Log.entryAdded" => Some(&of_page["entry"]),
                "Runtime.exceptionThrown"
                | "Runtime.consoleAPICalled"
                | "Network.loadingFailed" => Some(of_page),
                _ => None,
            };
            self.complaints.extend(complaint.map(Value::to_string));
            if is_it(&message) {
                return message;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its other processes end with it; one that has ended already is as well.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
