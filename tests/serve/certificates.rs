//! Certificates as openssl makes them, and curl, which uses them.

use std::fs;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory with a CA, what it signs, and whatever else a test puts there.
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// A new CA: `ca.crt` and `ca.key`.
    pub fn new() -> Self {
        let authority = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        authority.openssl("ca", "/CN=test CA", &[]);
        authority
    }

    /// A certificate by this CA for these names: `NAME.crt` and `NAME.key`.
    pub fn issue(&self, name: &str, names: &str) {
        let names = format!("subjectAltName={names}");
        let (certificate, key) = (self.path("ca.crt"), self.path("ca.key"));
        let signed_by = ["-CA", &certificate, "-CAkey", &key, "-addext", &names];
        let no_ca = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let subject = format!("/CN={name}");
        self.openssl(name, &subject, &[&signed_by[..], &no_ca].concat());
    }

    fn openssl(&self, name: &str, subject: &str, arguments: &[&str]) {
        let (certificate, key) = (format!("{name}.crt"), format!("{name}.key"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject])
            .args(["-out", &self.path(&certificate)])
            .args(["-keyout", &self.path(&key)])
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }

    /// Where a file of this directory is.
    pub fn path(&self, file: &str) -> String {
        self.directory.path().join(file).display().to_string()
    }

    /// Puts a file there, and says where.
    pub fn write(&self, file: &str, text: &str) -> String {
        let path = self.path(file);
        fs::write(&path, text).unwrap();
        path
    }

    /// Puts certificate and key of another CA in the place of these, each in one step.
    pub fn take_over(&self, name: &str, other: &Self, from: &str) {
        for suffix in ["crt", "key"] {
            let new = self.path("new");
            fs::copy(other.path(&format!("{from}.{suffix}")), &new).unwrap();
            fs::rename(new, self.path(&format!("{name}.{suffix}"))).unwrap();
        }
    }
}

/// What curl got: status, HTTP version and body; or why it got nothing.
pub fn curl(arguments: &[&str]) -> Result<(u16, String, String), String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(["--write-out", "\n%{http_code} %{http_version}"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, last) = text.rsplit_once('\n').unwrap();
    let (status, version) = last.split_once(' ').unwrap();
    Ok((status.parse().unwrap(), version.to_owned(), body.to_owned()))
}
