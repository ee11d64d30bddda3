//! `include/` is generated from the sources. `make headers` writes it anew; these tests compare, and compile what is
//! there as C programmers of all kinds would.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

struct Header {
    path: &'static str,
    guard: &'static str,
    /// The Rust files it is generated from.
    sources: &'static [&'static str],
    system_includes: &'static [&'static str],
    includes: &'static [&'static str],
    /// Rust's names and C's.
    rename: &'static [(&'static str, &'static str)],
    introduction: &'static str,
}

const HEADERS: &[Header] = &[
    Header {
        path: "include/shmhot/status.h",
        guard: "SHMHOT_STATUS_H",
        sources: &["src/status.rs", "src/abi/status.rs"],
        system_includes: &["stddef.h", "stdint.h"],
        includes: &[],
        rename: &[],
        introduction: "shmhot/status.h: what all systems of shmhot share.

Calls return int32_t: 0 and above is success or a count, -1 to -4095 is -errno, and below lie the codes of
this header. Each thread keeps a sentence about its last failure: shmhot_last_error().",
    },
    Header {
        path: "include/shmhot/circbuf.h",
        guard: "SHMHOT_CIRCBUF_H",
        sources: &["src/abi/circbuf.rs"],
        system_includes: &["stddef.h", "stdint.h"],
        includes: &["status.h"],
        rename: &[],
        introduction: "shmhot/circbuf.h: signals in shared memory.

A writer streams frames of numbers into a ring; any number of mirrors, of this process or others, read them as whole
frames, and know what they have missed. Either end may be ezmsg-tools. docs/circbuf.md is the guide, this header the
contract.",
    },
    Header {
        path: "include/shmhot/hotpath.h",
        guard: "SHMHOT_HOTPATH_H",
        sources: &["src/abi/hotpath.rs", "src/hotpath/completion.rs"],
        system_includes: &["stddef.h", "stdint.h", "sys/socket.h", "sys/uio.h"],
        includes: &["status.h"],
        rename: &[("Completion", "hotpath_completion_t")],
        introduction: "shmhot/hotpath.h: a socket ring on io_uring.

Operations are queued; hotpath_wait() hands all of them to the kernel in one system call and brings back
completions. docs/hotpath.md is the guide, this header the contract.",
    },
    Header {
        path: "include/shmhot/observer.h",
        guard: "SHMHOT_OBSERVER_H",
        sources: &["src/abi/observer.rs"],
        system_includes: &["stddef.h", "stdint.h"],
        includes: &["status.h"],
        rename: &[],
        introduction: "shmhot/observer.h: utilization metrics in shared memory.

A worker stores numbers in its segment of a file; whoever wants to know them reads them there, without asking it.
docs/observer.md is the guide, this header the contract.",
    },
    Header {
        path: "include/shmhot/vmclock.h",
        guard: "SHMHOT_VMCLOCK_H",
        sources: &["src/abi/vmclock.rs", "src/vmclock/page.rs", "src/vmclock/time.rs"],
        system_includes: &["stddef.h", "stdint.h"],
        includes: &["status.h"],
        rename: &[("Snapshot", "vmclock_snapshot_t"), ("Time", "vmclock_time_t")],
        introduction: "shmhot/vmclock.h: the hypervisor's clock page, and time with an error bound.

The page is that of UAPI.13 and of the kernel's linux/vmclock-abi.h, which may be included beside this header.
docs/vmclock.md is the guide, this header the contract.",
    },
];

const UMBRELLA: &str = "include/shmhot.h";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every header, with its text as it should be.
fn generated() -> Vec<(&'static str, String)> {
    let mut headers: Vec<_> = HEADERS.iter().map(|header| (header.path, generate(header))).collect();
    headers.push((UMBRELLA, umbrella()));
    headers
}

fn generate(header: &Header) -> String {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        header: Some(opening(&header.sources.join(", "), header.introduction)),
        include_guard: Some(header.guard.into()),
        no_includes: true,
        sys_includes: owned(header.system_includes),
        includes: owned(header.includes),
        style: Style::Type,
        usize_is_size_t: true,
        documentation_style: DocumentationStyle::Doxy,
        tab_width: 4,
        line_length: 120,
        ..Config::default()
    };
    let system_structs = [("iovec", "struct iovec"), ("sockaddr", "struct sockaddr")];
    for (rust, c) in header.rename.iter().chain(&system_structs) {
        config.export.rename.insert(rust.to_string(), c.to_string());
    }
    config.export.exclude = public_names(header).into_iter().filter(|name| !is_ours(name)).collect();
    let builder = header
        .sources
        .iter()
        .fold(Builder::new().with_config(config), |builder, source| builder.with_src(root().join(source)));
    let mut text = Vec::new();
    builder.generate().unwrap_or_else(|error| panic!("{}: {error}", header.path)).write(&mut text);
    tidy(&String::from_utf8(text).expect("the sources are UTF-8"), &hexadecimal(header))
}

fn umbrella() -> String {
    let mut text = opening("tests/headers.rs", "shmhot.h: all of shmhot.");
    text += "\n\n#ifndef SHMHOT_H\n#define SHMHOT_H\n\n";
    for header in HEADERS {
        text += &format!("#include \"{}\"\n", header.path.trim_start_matches("include/"));
    }
    text + "\n#endif  /* SHMHOT_H */\n"
}

fn opening(source: &str, introduction: &str) -> String {
    let introduction = introduction.lines().map(|line| format!(" * {line}").trim_end().to_owned() + "\n");
    format!(
        "/*\n{} *\n * Generated from {source} by `make headers`.\n * SPDX-License-Identifier: MIT OR Apache-2.0\n */",
        introduction.collect::<String>()
    )
}

/// What cbindgen leaves to wish for: no Markdown headings, short comments on one line, and constants that keep their
/// sign, width and spelling in any expression.
fn tidy(text: &str, hexadecimal: &BTreeMap<String, String>) -> String {
    let text = text.replace(" * # Safety\n * ", " * Safety: ").replace(" *\n * Safety: ring is NULL or a ring.\n", "");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut out = String::new();
    let mut rest = &lines[..];
    while let [line, after @ ..] = rest {
        rest = after;
        if line.is_empty() && out.ends_with("\n\n") {
            continue;
        }
        out += &constant(line, hexadecimal).unwrap_or_else(|| (*line).to_owned());
        if let ("/**", [words, end, after @ ..]) = (line.trim_start(), rest)
            && end.trim_start() == "*/"
        {
            out += &format!(" {} */", words.trim_start().trim_start_matches("* "));
            rest = after;
        }
        out.push('\n');
    }
    out
}

/// The public constants and functions of a header's sources.
fn public_names(header: &Header) -> Vec<String> {
    let starts = ["pub const ", "pub extern \"C\" fn ", "pub unsafe extern \"C\" fn "];
    let sources: Vec<String> = header.sources.iter().map(|source| read(source)).collect();
    let lines = sources.iter().flat_map(|source| source.lines());
    lines
        .filter_map(|line| starts.iter().find_map(|start| line.strip_prefix(start)))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

/// The small constants that a header's sources write in hexadecimal, such as `0xff`.
fn hexadecimal(header: &Header) -> BTreeMap<String, String> {
    let sources: String = header.sources.iter().map(|source| read(source)).collect();
    let constants = sources.lines().filter_map(|line| line.strip_prefix("pub const ")?.split_once(": u8 = 0x"));
    constants.map(|(name, digits)| (name.to_owned(), format!("0x{}", digits.trim_end_matches(';')))).collect()
}

fn constant(line: &str, hexadecimal: &BTreeMap<String, String>) -> Option<String> {
    let (name, value) = line.strip_prefix("#define ")?.split_once(' ')?;
    if let Some(literal) = hexadecimal.get(name) {
        return Some(format!("#define {name} {literal}"));
    }
    match value.parse::<i64>().ok()? {
        value if value < 0 => Some(format!("#define {name} ({value})")),
        value if value > i32::MAX.into() => Some(format!("#define {name} {value:#x}u")),
        _ => None,
    }
}

#[test]
fn committed_headers_are_what_the_sources_say() {
    let bless = std::env::var_os("SHMHOT_BLESS").is_some();
    for (path, text) in generated() {
        let file = root().join(path);
        if bless {
            fs::create_dir_all(file.parent().expect("a folder")).and_then(|()| fs::write(&file, &text)).expect(path);
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        if committed != text {
            let fresh = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(path.replace('/', "_"));
            fs::write(&fresh, text).expect("write the fresh header");
            let diff = Command::new("diff").arg("-u").args([&file, &fresh]).output();
            let diff = diff.map(|diff| String::from_utf8_lossy(&diff.stdout).into_owned()).unwrap_or_default();
            panic!("{path} does not follow the sources. If that is intended: make headers\n{diff}");
        }
    }
}

/// cbindgen drops without a word what it cannot express, such as a constant defined by a path.
#[test]
fn nothing_is_missing() {
    for header in HEADERS {
        let text = generate(header);
        let words: BTreeSet<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for name in public_names(header).iter().filter(|name| is_ours(name)) {
            assert!(words.contains(name.as_str()), "{name} did not make it into {}", header.path);
        }
    }
}

#[test]
fn only_our_names_are_declared() {
    for (path, text) in generated() {
        for line in text.lines() {
            let declared = match line.strip_prefix("#define ") {
                Some(constant) => constant.split(' ').next(),
                None if line.starts_with('}') || line.starts_with("typedef") => {
                    line.strip_suffix(';').and_then(|line| line.rsplit(' ').next())
                }
                None => None,
            };
            if let Some(name) = declared {
                assert!(is_ours(name), "{path} declares {name}");
            }
        }
    }
}

fn is_ours(name: &str) -> bool {
    ["shmhot_", "circbuf_", "hotpath_", "observer_", "vmclock_"]
        .iter()
        .any(|prefix| name.to_lowercase().starts_with(prefix))
}

#[test]
fn every_header_compiles_alone_and_twice() {
    let compilers = [
        ("gcc", "c", "c99"),
        ("gcc", "c", "c11"),
        ("clang", "c", "c99"),
        ("clang", "c", "c11"),
        ("g++", "c++", "c++17"),
        ("clang++", "c++", "c++17"),
    ];
    let paths = HEADERS.iter().map(|header| header.path).chain([UMBRELLA]);
    for path in paths {
        let include = format!("#include <{}>\n", path.trim_start_matches("include/"));
        for (compiler, language, standard) in compilers {
            compile(compiler, language, standard, &include);
            compile(compiler, language, standard, &include.repeat(2));
        }
    }
}

fn compile(compiler: &str, language: &str, standard: &str, program: &str) {
    let spawned = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"])
        .args(["-x", language, &format!("-std={standard}")])
        .arg(format!("-I{}", root().join("include").display()))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        println!("SKIP headers with {compiler}: it is not installed");
        return;
    };
    child.stdin.take().expect("piped").write_all(program.as_bytes()).expect("write to the compiler");
    let output = child.wait_with_output().expect("wait for the compiler");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} -std={standard} refuses\n{program}{said}");
}
