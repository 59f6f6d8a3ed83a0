//! Fetches the dashboard's chart library, once: we do not keep other people's code in the repository.
//!
//! ```text
//! dashboard/package-lock.json ─ npm ci, in a copy ─► OUT_DIR/uplot.js, uplot.css ─ include_bytes! ─► src/serve/dashboard.rs
//! ```
//!
//! Upholds: what comes is what the lock file's hashes say, or the build fails; nothing else of npm's is run (`--ignore-scripts`), and the
//! folder `dashboard/` is not written to.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The library's files, and what they are called here.
const FILES: [(&str, &str); 2] = [("uPlot.iife.min.js", "uplot.js"), ("uPlot.min.css", "uplot.css")];

fn main() {
    println!("cargo:rerun-if-changed=dashboard/package.json");
    println!("cargo:rerun-if-changed=dashboard/package-lock.json");
    if env::var_os("CARGO_FEATURE_DASHBOARD").is_none() {
        return;
    }
    if let Err(error) = fetch() {
        eprintln!("\nstoreflow: could not fetch the dashboard's chart library: {error}\n");
        eprintln!(
            "It comes by npm, from the registry that npm is set up for. Install Node.js with npm (Debian: apt-get install nodejs npm) and"
        );
        eprintln!("build again, or build without the dashboard:  cargo build --no-default-features --features replay-cache\n");
        std::process::exit(1);
    }
}

/// Has npm fetch and check it below `OUT_DIR`.
fn fetch() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let (from, folder) = (Path::new("dashboard"), out.join("npm"));
    fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), folder.join(file))?;
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let output = Command::new(npm)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--prefer-offline"])
        .current_dir(&folder)
        .output()
        .map_err(|error| format!("\"{npm}\" cannot be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("\"npm ci\" failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    for (file, name) in FILES {
        fs::copy(folder.join("node_modules/uplot/dist").join(file), out.join(name))?;
    }
    Ok(())
}
