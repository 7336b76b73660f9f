//! Compiled code on disk.
//!
//! Loading compiled code means running it. A file is therefore trusted only if it carries the MAC,
//! under this host's key, of the component's digest, the engine's settings and the code itself. Any
//! other file is a miss, never an error: the component is compiled again.
//!
//! Every build of a component and every version of the host leaves a file of some megabytes. Files
//! that were not loaded for a month are removed when another one is stored.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use zeroize::Zeroizing;

type HmacSha256 = Hmac<Sha256>;

/// Bytes of the MAC at the head of a file.
const MAC_BYTES: usize = 32;

/// After what time without use a file is removed. A host that is started less often compiles again,
/// which takes seconds.
const UNUSED: Duration = Duration::from_secs(30 * 86_400);

/// How exactly a file says when it was last loaded: by the time of its last change.
const NOTED: Duration = Duration::from_secs(86_400);

/// The key that authenticates compiled code. Anyone who knows it can make the host run anything, so
/// keep it with the host's other secrets.
pub struct CodeCacheKey(Zeroizing<[u8; 32]>);

impl CodeCacheKey {
    /// 32 random bytes, the same at every start.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl std::fmt::Debug for CodeCacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CodeCacheKey([REDACTED])")
    }
}

/// A folder of compiled components.
pub(crate) struct CodeCache {
    folder: PathBuf,
    key: CodeCacheKey,
}

impl CodeCache {
    pub(crate) fn new(folder: PathBuf, key: CodeCacheKey) -> Self {
        Self { folder, key }
    }

    /// The compiled form of the component, if this host has stored one.
    pub(crate) fn get(&self, engine: &Engine, digest: &str) -> Option<Vec<u8>> {
        let path = self.path(engine, digest);
        let mut file = fs::read(&path).ok()?;
        let mac = file.get(..MAC_BYTES)?;
        let code = file.get(MAC_BYTES..)?;
        if self.mac(engine, digest, code)?.verify_slice(mac).is_err() {
            tracing::warn!(file = %path.display(), "compiled code without this host's signature; compiling the component again");
            return None;
        }
        file.drain(..MAC_BYTES);
        note_use(&path);
        Some(file)
    }

    /// Stores the compiled form. A failure only costs time at the next start, so it is logged and
    /// not returned.
    pub(crate) fn put(&self, engine: &Engine, digest: &str, code: &[u8]) {
        let path = self.path(engine, digest);
        self.prune();
        if let Err(error) = self.write(engine, digest, code, &path) {
            tracing::warn!(file = %path.display(), %error, "cannot keep compiled code; the component is compiled again at the next start");
        }
    }

    fn write(&self, engine: &Engine, digest: &str, code: &[u8], path: &Path) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mac =
            self.mac(engine, digest, code).ok_or_else(|| std::io::Error::other("no key"))?.finalize().into_bytes();
        // A unique temporary name and a rename: readers see the old file or the new one, and two
        // hosts never mix theirs.
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(std::io::Error::other)?;
        let temporary = path.with_extension(format!("{:016x}.tmp", u64::from_be_bytes(random)));
        let written = private_file(&temporary).and_then(|mut file| {
            file.write_all(&mac)?;
            file.write_all(code)?;
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Removes what was not used for long, unfinished files included. A failure costs space only.
    fn prune(&self) {
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        for file in files.flatten() {
            let path = file.path();
            let is_ours = path.extension().is_some_and(|end| end == "cwasm" || end == "tmp");
            if is_ours && age(&path).is_some_and(|age| age >= UNUSED) {
                let _ = fs::remove_file(path);
            }
        }
    }

    fn mac(&self, engine: &Engine, digest: &str, code: &[u8]) -> Option<HmacSha256> {
        let mut mac = HmacSha256::new_from_slice(self.key.0.as_ref()).ok()?;
        mac.update(b"keyway compiled code v1\0");
        mac.update(digest.as_bytes());
        mac.update(&settings(engine).to_be_bytes());
        mac.update(code);
        Some(mac)
    }

    fn path(&self, engine: &Engine, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{:016x}.cwasm", settings(engine)))
    }
}

/// The time since the last change of a file.
fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::symlink_metadata(path).ok()?.modified().ok()?).ok()
}

/// Notes that a file was loaded. A folder that cannot be written needs no note.
fn note_use(path: &Path) {
    if age(path).is_some_and(|age| age >= NOTED)
        && let Ok(file) = fs::OpenOptions::new().append(true).open(path)
    {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// wasmtime's version and every engine setting that shapes the code. wasmtime checks them again
/// when it loads the code.
fn settings(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

fn private_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
