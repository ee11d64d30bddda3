//! What `make` builds and `make install` puts in place: looked at with the tools of a packager.
#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}{err}");
    out.into_owned()
}

/// Not as a part of the make that may have started us.
fn make(arguments: &[&str]) -> String {
    output(
        Command::new("make")
            .arg("--no-print-directory")
            .args(arguments)
            .env_remove("MAKEFLAGS")
            .env_remove("MAKELEVEL"),
    )
}

fn shared_library() -> PathBuf {
    make(&["build"]);
    root().join("target/release/libshmhot.so")
}

/// The values of one tag of the dynamic section, such as `NEEDED`.
fn dynamic(file: &Path, tag: &str) -> BTreeSet<String> {
    let section = output(Command::new("readelf").arg("-dW").arg(file));
    let lines = section.lines().filter(|line| line.contains(&format!("({tag})")));
    lines.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0.to_owned())).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

/// The functions that the headers declare.
fn declared() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("include/shmhot")).expect("include/shmhot") {
        let text = fs::read_to_string(entry.expect("an entry").path()).expect("a header");
        for line in text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_alphabetic())) {
            if let Some((head, _)) = line.split_once('(') {
                let name = head.rsplit([' ', '*']).next().expect("a name");
                names.insert(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn exports_what_the_headers_declare_and_nothing_else() {
    let symbols =
        output(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(shared_library()));
    let exported: BTreeSet<String> = symbols.lines().map(ToOwned::to_owned).collect();
    assert_eq!(exported, declared());
    for name in exported {
        assert!(
            ["shmhot_", "circbuf_", "hotpath_", "observer_", "vmclock_"].iter().any(|prefix| name.starts_with(prefix)),
            "{name}"
        );
    }
}

#[test]
fn has_a_soname_and_needs_only_the_c_library() {
    let library = shared_library();
    assert_eq!(dynamic(&library, "SONAME"), set(&["libshmhot.so.0"]));
    let needed = dynamic(&library, "NEEDED");
    let allowed = ["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"];
    assert!(needed.is_subset(&set(&allowed)), "{needed:?}");
}

#[test]
fn an_installation_serves_shared_and_static_programs() {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("installation");
    let _ = fs::remove_dir_all(&place);
    let destination = format!("DESTDIR={}", place.display());
    make(&["install", "PREFIX=/usr", &destination]);

    let lib = place.join("usr/lib");
    let link = |name: &str| fs::read_link(lib.join(name)).expect(name);
    assert_eq!(link("libshmhot.so"), Path::new("libshmhot.so.0"));
    assert_eq!(link("libshmhot.so.0"), Path::new(concat!("libshmhot.so.", env!("CARGO_PKG_VERSION"))));

    let source = place.join("version.c");
    let program = "#include <stdio.h>\n#include <shmhot.h>\nint main(void) { return puts(shmhot_version()) < 0; }\n";
    fs::write(&source, program).expect("write a program");
    let build = |name: &str, mode: &[&str]| {
        let pkg_config = output(
            Command::new("pkg-config")
                .args(["--cflags", "--libs", "shmhot"])
                .args(mode.contains(&"-static").then_some("--static"))
                .env("PKG_CONFIG_PATH", lib.join("pkgconfig"))
                .env("PKG_CONFIG_SYSROOT_DIR", &place),
        );
        let program = place.join(name);
        output(Command::new("cc").arg(&source).arg("-o").arg(&program).args(mode).args(pkg_config.split_whitespace()));
        program
    };
    let shared = build("shared", &[]);
    assert!(dynamic(&shared, "NEEDED").contains("libshmhot.so.0"));
    let fully_static = build("static", &["-static"]);
    for program in [shared, fully_static] {
        let version = output(Command::new(program).env("LD_LIBRARY_PATH", &lib));
        assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
    }

    make(&["uninstall", "PREFIX=/usr", &destination]);
    let left = output(Command::new("find").arg(place.join("usr")).args(["!", "-type", "d"]));
    assert_eq!(left, "", "uninstall leaves files behind");
}
