//! Takes a snapshot: copies into a new directory that appears as a whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Content, Described, FILES, FORMAT, Files, MANIFEST, Manifest, UNIT_DIRECTORY, sha256};

/// The digests once more, for `sha256sum --check`.
const SUMS: &str = "SHA256SUMS";

/// What the manifest says of the host.
#[derive(Debug)]
pub struct About {
    /// The baseline's deployment.
    pub deployment: String,
    /// systemd's version; `None` if it could not be asked.
    pub systemd: Option<String>,
}

/// Writes the files and their manifest. Modes are kept; the copies belong to whoever takes them,
/// and the manifest tells the owners.
///
/// # Errors
///
/// A sentence; the directory is as it was then.
pub fn take(files: &Files, directory: &Path, about: &About) -> Result<(), String> {
    let shown = directory.display();
    refuse_if_used(directory)?;
    let Some(name) = directory.file_name() else {
        return Err(format!("{shown} is no name for a new directory"));
    };
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut partial = name.to_owned();
    partial.push(format!(".tmp-{}", std::process::id()));
    let partial = parent.join(partial);
    let failed = |error: io::Error| format!("writing the snapshot {shown}: {error}");

    fs::create_dir(&partial)
        .map_err(|error| format!("making the directory {}: {error}", partial.display()))?;
    let written = write(files, &partial, about).and_then(|()| {
        fs::rename(&partial, directory).map_err(failed)?;
        sync(&parent).map_err(failed)
    });
    if written.is_err() {
        // It is not there any more if only the last step failed.
        fs::remove_dir_all(&partial).unwrap_or_default();
    }
    written
}

fn refuse_if_used(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    match fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!(
            "{shown} is not empty: a snapshot is never written over, name a new directory"
        )),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("looking into {shown}: {error}")),
    }
}

fn write(files: &Files, to: &Path, about: &About) -> Result<(), String> {
    let failed = |path: &Path, error: io::Error| format!("writing {}: {error}", path.display());
    let copies = to.join(FILES);
    fs::create_dir(&copies).map_err(|error| failed(&copies, error))?;
    let mut directories = vec![copies.clone()];
    let mut described = Vec::new();
    let mut sums = String::new();
    for (path, entry) in files {
        let copy = copies.join(path);
        if let Some(directory) = copy.parent()
            && !directories.iter().any(|known| known == directory)
        {
            fs::create_dir(directory).map_err(|error| failed(directory, error))?;
            directories.push(directory.to_owned());
        }
        let Some(attributes) = entry.attributes else {
            return Err(format!("{path} has no mode and no owner"));
        };
        let (sha256, link) = match &entry.content {
            Content::Text(text) => {
                write_new(&copy, text, attributes.mode).map_err(|error| failed(&copy, error))?;
                let sum = sha256(text);
                sums.push_str(&sum_line(&sum, &format!("{FILES}/{path}")));
                (Some(sum), None)
            }
            Content::Link(target) => {
                symlink(target, &copy).map_err(|error| failed(&copy, error))?;
                (None, Some(target.clone()))
            }
            Content::Other => {
                return Err(format!(
                    "{UNIT_DIRECTORY}/{path} is neither a file nor a link: put that right first"
                ));
            }
        };
        described.push(Described {
            path: path.clone(),
            mode: format!("{:04o}", attributes.mode),
            uid: attributes.uid,
            gid: attributes.gid,
            sha256,
            link,
        });
    }
    let manifest = Manifest {
        format: FORMAT,
        taken: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        host: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        systemd: about.systemd.clone(),
        deployment: about.deployment.clone(),
        directory: UNIT_DIRECTORY.to_owned(),
        files: described,
    };
    let mut text = serde_json::to_string_pretty(&manifest)
        .map_err(|error| format!("writing {MANIFEST}: {error}"))?;
    text.push('\n');
    for (name, text) in [(SUMS, sums), (MANIFEST, text)] {
        let path = to.join(name);
        write_new(&path, text.as_bytes(), 0o644).map_err(|error| failed(&path, error))?;
    }
    for directory in directories.iter().map(PathBuf::as_path).chain([to]) {
        sync(directory).map_err(|error| failed(directory, error))?;
    }
    Ok(())
}

/// One line as `sha256sum` writes it, which escapes a backslash in a name.
fn sum_line(sum: &str, path: &str) -> String {
    if !path.contains(['\\', '\n']) {
        return format!("{sum}  {path}\n");
    }
    let path = path.replace('\\', "\\\\").replace('\n', "\\n");
    format!("\\{sum}  {path}\n")
}

/// Writes a file that was not there, down to the disk.
fn write_new(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        // Nobody else reads it before it has its own mode.
        .mode(0o600)
        .open(path)?;
    file.write_all(text)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Brings a directory's names down to the disk.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
