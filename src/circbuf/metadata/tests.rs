//! The corpus, both ways; what is refused; and what is damaged. corpus/make.py has written the pickles, with the packages
//! that peers use, and the JSON, with numpy's own idea of what is in them.

use serde_json::Value as Json;

use super::{Array, Axis, Metadata, MetadataError, Value};

macro_rules! corpus {
    ($($case:literal from $($maker:literal)*;)*) => {
        &[$($((
            concat!($case, "-", $maker),
            include_bytes!(concat!("corpus/", $case, "-", $maker, ".pickle")),
            include_str!(concat!("corpus/", $case, ".json")),
        ),)*)*]
    };
}

/// Name, pickle, JSON.
const CORPUS: &[(&str, &[u8], &str)] = corpus! {
    "plain" from "0.9.0" "0.10.0";
    "numpy" from "0.9.0" "0.10.0";
    "table" from "0.9.0" "0.10.0";
    "padded" from "0.9.0" "0.10.0";
    "spectrum" from "0.9.0" "0.10.0";
    "all" from "protocol-2" "protocol-3" "protocol-4";
    "older" from "0.7";
};

/// JSON with all floats in the same digits.
fn normal(text: &str) -> Json {
    fn walk(json: &mut Json) {
        match json {
            Json::Number(number) if number.as_str().contains(['.', 'e', 'E']) => {
                *json = format!("{:?}", number.as_f64()).into();
            }
            Json::Array(items) => items.iter_mut().for_each(walk),
            Json::Object(members) => members.values_mut().for_each(walk),
            _ => {}
        }
    }
    let mut json = serde_json::from_str(text).expect("JSON");
    walk(&mut json);
    json
}

fn from_json(text: &str) -> Metadata {
    Metadata::from_json(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn json_error(text: &str) -> String {
    match Metadata::from_json(text) {
        Err(error @ MetadataError::Json { .. }) => error.to_string(),
        other => panic!("{text}: {other:?}"),
    }
}

fn attr(json: &str) -> Value {
    let mut metadata = from_json(&format!(r#"{{"attrs":{{"a":{json}}}}}"#));
    metadata.attrs.pop().expect("an attribute").1
}

fn attr_error(json: &str) -> String {
    json_error(&format!(r#"{{"attrs":{{"a":{json}}}}}"#))
}

fn array(json: &str) -> Array {
    match attr(&format!(r#"{{"$array":{json}}}"#)) {
        Value::Array(array) => array,
        other => panic!("{json}: {other:?}"),
    }
}

fn attr_text(value: Value) -> String {
    let metadata = Metadata { attrs: vec![("a".into(), value)], ..Metadata::default() };
    let text = metadata.to_json();
    let attr = text.strip_prefix(r#"{"dims":[],"axes":{},"attrs":{"a":"#).expect("the begin");
    attr.strip_suffix(r#"},"key":"","buffered_axis":null,"stream_dim":null}"#).expect("the end").to_owned()
}

// The corpus

#[test]
fn pickles_of_peers_become_the_json_that_numpy_says() {
    for (name, pickle, json) in CORPUS {
        let metadata = Metadata::from_pickle(pickle).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(normal(&metadata.to_json()), normal(json), "{name}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    for (name, pickle, json) in CORPUS {
        let metadata = Metadata::from_pickle(pickle).expect(name);
        let text = metadata.to_json();
        // By text, because nan equals nothing.
        assert_eq!(Metadata::from_pickle(&metadata.to_pickle()).expect(name).to_json(), text, "{name}");
        assert_eq!(from_json(&text).to_json(), text, "{name}");
        assert_eq!(from_json(json).to_json(), text, "{name}");
        assert_eq!(from_json(json).to_pickle(), metadata.to_pickle(), "{name}");
    }
}

// Damage

#[test]
fn every_truncation_is_an_error() {
    for (name, pickle, _) in CORPUS {
        for length in 0..pickle.len() {
            let error = Metadata::from_pickle(&pickle[..length]).expect_err(name);
            assert!(matches!(error, MetadataError::Pickle { .. }), "{name}, {length} bytes: {error}");
        }
        let longer = [pickle, &b"N"[..]].concat();
        assert!(matches!(Metadata::from_pickle(&longer), Err(MetadataError::Pickle { .. })), "{name}");
    }
}

/// A value that was made of damaged bytes is as good as any other.
fn read_and_write(pickle: &[u8]) {
    let Ok(metadata) = Metadata::from_pickle(pickle) else { return };
    let text = metadata.to_json();
    assert_eq!(Metadata::from_pickle(&metadata.to_pickle()).map(|again| again.to_json()), Ok(text.clone()));
    assert_eq!(Metadata::from_json(&text).map(|again| again.to_json()), Ok(text));
}

#[test]
fn every_byte_may_flip() {
    for (name, pickle, _) in CORPUS {
        let mut damaged = pickle.to_vec();
        let mut errors = 0;
        for index in 0..damaged.len() {
            for bits in [0x01, 0x80, 0xff] {
                damaged[index] ^= bits;
                match Metadata::from_pickle(&damaged) {
                    Ok(metadata) => assert!(metadata.to_json().ends_with('}')),
                    Err(error) => errors += usize::from(!error.to_string().is_empty()),
                }
                damaged[index] ^= bits;
            }
        }
        assert!(errors > pickle.len(), "{name}: {errors} of {} flips were noticed", 3 * pickle.len());
    }
}

/// SplitMix64: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % end as u64) as usize
    }
}

#[test]
fn bytes_may_be_cut_moved_and_made_up() {
    let mut random = Random(1);
    for _ in 0..40_000 {
        let (_, pickle, _) = CORPUS[random.below(CORPUS.len())];
        let mut damaged = pickle.to_vec();
        for _ in 0..=random.below(4) {
            let (a, b) = (random.below(damaged.len()), random.below(damaged.len()));
            let (from, to) = (a.min(b), a.max(b));
            match random.below(4) {
                0 => damaged[a] = random.below(256) as u8,
                1 => drop(damaged.drain(from..to.min(from + 8))),
                2 => damaged.copy_within(from..to.min(from + 40), 0),
                _ => {
                    let part = damaged[from..to.min(from + 40)].to_vec();
                    damaged.splice(b..b, part);
                }
            }
        }
        read_and_write(&damaged);
    }
}

#[test]
fn json_may_be_damaged() {
    let mut random = Random(2);
    for _ in 0..20_000 {
        let (_, _, json) = CORPUS[random.below(CORPUS.len())];
        let mut damaged = json.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let index = random.below(damaged.len());
            match random.below(3) {
                0 => damaged[index] = br#"{}[]",:$-0129enfitul<"#[random.below(21)],
                1 => drop(damaged.remove(index)),
                _ => damaged.insert(index, b"[]{}\"9"[random.below(6)]),
            }
        }
        if let Ok(metadata) = std::str::from_utf8(&damaged).map(Metadata::from_json)
            && let Ok(metadata) = metadata
        {
            let text = metadata.to_json();
            assert_eq!(from_json(&text).to_json(), text);
            assert_eq!(Metadata::from_pickle(&metadata.to_pickle()).map(|again| again.to_json()), Ok(text));
        }
    }
}

// What is refused

/// The value of a pickle's body, as an attribute.
fn body(body: &[u8]) -> Result<Metadata, MetadataError> {
    Metadata::from_pickle(&[b"\x80\x05}(\x8c\x07versionK\x01\x8c\x05attrs}\x8c\x01a", body, b"su."].concat())
}

#[test]
fn nothing_is_executed() {
    for (pickle, named) in [
        (&b"\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R"[..], "posix.system"),
        (b"cos\nsystem\n(X\x04\0\0\0truetR", "os.system"),
        (b"\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R", "builtins.eval"),
        (b"\x8c\x08builtins\x8c\x07getattr\x93N\x8c\x01a\x86R", "builtins.getattr"),
        (b"\x8c\x07copyreg\x8c\x0e_reconstructor\x93NNN\x87R", "copyreg._reconstructor"),
        (b"\x8c\x05numpy\x8c\x11ndarray.__class__\x93", "numpy.ndarray.__class__"),
        (b"\x8c\x05numpy\x8c\x04load\x93\x8c\x01f\x85R", "numpy.load"),
        (b"\x8c\x0bnumpy.ctype\x8c\x01s\x93", "numpy.ctype.s"),
        (b"\x8c\x05numpy\x8c\x08recarray\x93)R", "REDUCE"),
        (b"\x8c\x05numpy\x8c\x06record\x93)R", "REDUCE"),
        (b"N)R", "REDUCE"),
        (b"\x8c\x08builtins\x8c\x07complex\x93NR", "REDUCE"),
        (b"}}b", "BUILD"),
        (b"\x8c\x05numpy\x8c\x07ndarray\x93}b", "BUILD"),
        (b"\x8c\x08builtins\x8c\x07complex\x93G\0\0\0\0\0\0\0\0G\0\0\0\0\0\0\0\0\x86R}b", "BUILD"),
        (b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f8\x85R)b)b", "BUILD"),
        (b"(ios\nsystem\n", "INST"),
        (b"(cos\nsystem\no", "os.system"),
        (b"(No", "OBJ"),
        (b"N)\x81", "NEWOBJ"),
        (b"N)}\x92", "NEWOBJ_EX"),
        (b"\x82\x01", "EXT"),
        (b"\x83\x01\x01", "EXT"),
        (b"\x84\x01\x01\x01\x01", "EXT"),
        (b"P0\n", "PERSID"),
        (b"NQ", "BINPERSID"),
        (b"\x97", "NEXT_BUFFER"),
        (b"N\x98", "READONLY_BUFFER"),
        (b"\x8f", "set"),
        (b"(\x91", "set"),
        (b"N0", "POP"),
        (b"I1\n", "protocol 0 or 1"),
        (b"\x80\x05", "0x80"),
        (b"\xff", "0xff"),
    ] {
        match body(pickle) {
            Err(error @ MetadataError::Refused { offset, .. }) => {
                let sentence = error.to_string();
                assert!(sentence.contains(named), "{named}: {sentence}");
                assert!((26..26 + pickle.len()).contains(&offset), "{sentence}");
            }
            other => panic!("{named}: {other:?}"),
        }
    }
}

#[test]
fn calls_with_other_arguments_are_errors() {
    const F8: &[u8] = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02f8\x85R";
    let ndarray = |rest: &[u8]| body(&[b"\x8c\x05numpy\x8c\x07ndarray\x93", rest].concat());
    let of_shape = |shape: &[u8]| ndarray(&[shape, F8, b"C\0\x87R"].concat());
    assert!(of_shape(b"K\0\x85").is_ok());
    assert!(of_shape(b"K\0").is_ok(), "a shape may be a length");
    for shape in [
        &b"K\x01\x85"[..], // no bytes for it
        b"J\xff\xff\xff\xff\x85",
        b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\0\x86",
        b"\x8a\x08\0\0\0\0\0\0\0\x20\x85", // times 8 is 0, in 64 bits
        b"\x8a\x09\0\0\0\0\0\0\0\0\x01\x85",
        b"N",
        b"N\x85",
        &[&b"("[..], &b"K\0".repeat(33), b"t"].concat(),
    ] {
        assert!(matches!(of_shape(shape), Err(MetadataError::Content { .. })), "{shape:?}");
    }
    for arguments in [&b")R"[..], b"NNN\x87R", b"]\x85R", b"K\0\x8c\x02f8C\0\x87R"] {
        assert!(matches!(ndarray(arguments), Err(MetadataError::Content { .. })), "{arguments:?}");
    }
    for call in [
        &b"\x8c\x08builtins\x8c\x07complex\x93NN\x86R"[..],
        b"\x8c\x07_codecs\x8c\x06encode\x93\x8c\x02\xc4\x80\x8c\x06latin1\x86R",
        b"\x8c\x07_codecs\x8c\x06encode\x93\x8c\x01a\x8c\x03rot\x86R",
        b"\x8c\x08builtins\x8c\x05bytes\x93K\x7f\x85R",
        F8,
        b"\x8c\x05numpy\x8c\x05dtype\x93",
    ] {
        assert!(matches!(body(call), Err(MetadataError::Content { .. })), "{call:?}");
    }
}

#[test]
fn the_stack_is_not_trusted() {
    for pickle in [
        &b"\x80\x05."[..],
        b"\x80\x05N",
        b"\x80\x05(.",
        b"\x80\x05NN.",
        b"\x80\x05a.",
        b"\x80\x05Na.",
        b"\x80\x05NNa.",
        b"\x80\x05e.",
        b"\x80\x05(e.",
        b"\x80\x05](a.",
        b"\x80\x05s.",
        b"\x80\x05}(Nu.",
        b"\x80\x05](NNu.",
        b"\x80\x05t.",
        b"\x80\x05\x85.",
        b"\x80\x05N\x86.",
        b"\x80\x05N(N\x86.",
        b"\x80\x05h\0.",
        b"\x80\x05j\xff\xff\xff\xff.",
        b"\x80\x05q\0.",
        b"\x80\x05Nq\x01.",
        b"\x80\x05Nr\xff\xff\xff\xff.",
        b"\x80\x05\x94.",
        b"\x80\x05R.",
        b"\x80\x05b.",
        b"\x80\x05\x93.",
        b"\x80\x05NN\x93.",
        b"\x80\x05\x95\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x05\x8b\xff\xff\xff\xff.",
        b"\x80\x05X\xff\xff\xff\xff.",
        b"\x80\x05\x8c\x01\xff.",
        b"\x80\x05cos",
        b"\x80\x05cos\n",
        b"",
        b"\x80",
        b"\x80\x01N.",
        b"\x80\x06N.",
        b"N.",
        b"(dp0\n.",
    ] {
        let error = Metadata::from_pickle(pickle).expect_err("an error");
        assert!(matches!(error, MetadataError::Pickle { .. }), "{pickle:?}: {error}");
    }
}

// Bounds

#[test]
fn a_value_that_contains_itself_is_an_error() {
    for cycle in [&b"]\x94h\0a"[..], b"}\x94\x8c\x01ah\0s", b"](\x94e"] {
        assert!(body(cycle).is_err(), "{cycle:?}");
    }
    // A dtype whose field is itself.
    let dtype = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02V8\x85R\x94(K\x03\x8c\x01|N\x8c\x01a\x85}\x8c\x01ah\0K\0\x86sK\x08K\x01K\0tb";
    let array = [b"\x8c\x05numpy\x8c\x07ndarray\x93)", &dtype[..], b"C\x08aaaaaaaa\x87R"].concat();
    let error = body(&array).expect_err("a loop").to_string();
    assert!(error.contains("deeper"), "{error}");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| body(&[b"]".repeat(levels), b"a".repeat(levels - 1)].concat());
    assert!(nested(20).is_ok());
    assert!(nested(100).is_err() && nested(300_000).is_err());
    let json = |levels: usize| {
        Metadata::from_json(&format!(r#"{{"attrs":{{"a":{}{}}}}}"#, "[".repeat(levels), "]".repeat(levels)))
    };
    assert!(json(20).is_ok());
    assert!(json(40).is_err() && json(300_000).is_err());
}

#[test]
fn what_is_too_deep_as_json_is_so_as_a_pickle() {
    let record = |levels: usize| {
        let dtype = format!("{}\"u1\"{}", "[[\"a\",".repeat(levels), "]]".repeat(levels));
        attr(&format!(r#"{{"$array":{{"dtype":{dtype},"shape":[0],"data":[]}}}}"#))
    };
    let innermost = [
        Value::None,
        Value::Bytes(vec![0]),
        Value::Float(f64::INFINITY),
        Value::Complex(0.5, 0.5),
        record(0),
        record(1),
        record(5),
    ];
    let mut deepest = Vec::new();
    for innermost in innermost {
        for around in [
            |value| Value::List(vec![value]),
            |value| Value::Tuple(vec![value]),
            |value| Value::Dict(vec![("a".into(), value)]),
        ] {
            let nested = |levels: usize| {
                let value = (0..levels).fold(innermost.clone(), |value, _| around(value));
                Metadata { attrs: vec![("a".into(), value)], ..Metadata::default() }
            };
            let reads = |levels: &usize| {
                let metadata = nested(*levels);
                let is_read = Metadata::from_pickle(&metadata.to_pickle()).is_ok();
                assert_eq!(Metadata::from_json(&metadata.to_json()).is_ok(), is_read, "{levels} around {innermost:?}");
                is_read
            };
            deepest.push((0..40).take_while(reads).count());
        }
    }
    assert_eq!(deepest.chunks(3).map(|equal| equal[0]).collect::<Vec<_>>(), [31, 31, 31, 30, 29, 29, 25]);
}

/// A tuple of lists, each of which holds the one before ten times: 10^`levels` items of a few bytes.
fn laughs(levels: u8) -> Vec<u8> {
    let list = |level: u8| [b"](", &[b'h', level].repeat(10)[..], b"e\x94"].concat();
    let lists: Vec<u8> = (0..levels).flat_map(list).collect();
    [b"(]\x94", &lists[..], b"t"].concat()
}

#[test]
fn what_is_mentioned_often_is_paid_each_time() {
    assert!(body(&laughs(3)).is_ok());
    let error = body(&laughs(20)).expect_err("too many").to_string();
    assert!(error.contains("too many"), "{error}");
    // A megabyte of text, a hundred thousand times.
    let mut texts = [b"(X", &(1u32 << 20).to_le_bytes()[..], &[b'x'; 1 << 20], b"\x94"].concat();
    texts.extend(b"h\0".repeat(100_000));
    texts.push(b't');
    assert!(body(&texts).is_err());
    // Two hundred fields that all lie in the same bytes.
    let overlapping = |dtype: &[u8]| {
        let field = |index: u8| {
            let name = [b'\x8c', 2, b'a' + index / 16, b'a' + index % 16];
            let described = [b"\x8c\x05numpy\x8c\x05dtype\x93\x8c", dtype, b"\x85R\x94"].concat();
            let dtype = if index == 0 { &described[..] } else { b"h\0" };
            (name.to_vec(), [&name[..], dtype, b"K\0\x86"].concat())
        };
        let (names, fields): (Vec<_>, Vec<_>) = (0..200).map(field).unzip();
        body(&[
            &b"\x8c\x05numpy\x8c\x07ndarray\x93M\xd0\x07\x85\x8c\x05numpy\x8c\x05dtype\x93\x8c\x05V1000\x85R(K\x03\x8c\x01|N("[..],
            &names.concat(), b"t}(", &fields.concat(), b"uM\xe8\x03K\x01K\0tbB", &2_000_000u32.to_le_bytes(), &vec![0; 2_000_000], b"\x87R",
        ]
        .concat())
    };
    assert!(overlapping(b"\x02u1").is_ok());
    let error = overlapping(b"\x05V1000").expect_err("too many").to_string();
    assert!(error.contains("too many"), "{error}");
    // As many items as there are numbers, of no bytes each.
    for dtype in [&b"\x8c\x02U0"[..], b"]", b"](\x8c\x01a\x8c\x02U0\x86e"] {
        let array = [
            b"\x8c\x05numpy\x8c\x07ndarray\x93J\xff\xff\xff\x7f\x85\x8c\x05numpy\x8c\x05dtype\x93",
            dtype,
            b"\x85RC\0\x87R",
        ];
        let error = body(&array.concat()).expect_err("too many").to_string();
        assert!(error.contains("too many"), "{error}");
    }
}

#[test]
fn opcodes_and_bytes_are_bounded() {
    let many = body(&[&b"]("[..], &vec![b'N'; 2 << 20], b"e"].concat()).expect_err("too many").to_string();
    assert!(many.contains("opcodes"), "{many}");
    let large = Metadata::from_pickle(&vec![0x80; (64 << 20) + 1]).expect_err("too large").to_string();
    assert!(large.contains("more than"), "{large}");
    assert!(attr_error(r#"{"$array":{"dtype":"<U9999999999","data":["a"]}}"#).contains("more than"));
}

// Versions

#[test]
fn another_version_says_so() {
    let of = |version: &[u8]| Metadata::from_pickle(&[b"\x80\x05}\x8c\x07version", version, b"s."].concat());
    assert_eq!(of(b"K\x01"), Ok(Metadata::default()));
    let error = of(b"K\x02").expect_err("another version");
    assert_eq!(error, MetadataError::Version("2".into()));
    assert_eq!(error.to_string(), "metadata of version 2, this build knows 1");
    assert!(matches!(of(b"\x8c\x011"), Err(MetadataError::Version(_))));
    assert!(matches!(Metadata::from_pickle(b"\x80\x05}."), Err(MetadataError::Content { .. })));
    assert!(matches!(Metadata::from_pickle(b"\x80\x05]."), Err(MetadataError::Content { .. })));
}

#[test]
fn a_newer_peers_additions_are_skipped() {
    let pickle = b"\x80\x05}(\x8c\x03newK\x05\x8c\x07versionK\x01\x8c\x03key\x8c\x01ku.";
    assert_eq!(Metadata::from_pickle(pickle), Ok(Metadata { key: "k".into(), ..Metadata::default() }));
}

#[test]
fn a_pickle_of_something_else_says_where() {
    let with = |member: &[u8]| {
        let pickle = [b"\x80\x05}(\x8c\x07versionK\x01", member, b"u."].concat();
        Metadata::from_pickle(&pickle).expect_err("an error").to_string()
    };
    assert_eq!(with(b"\x8c\x04dims](K\x05e"), "dims[0]: this is no text");
    assert_eq!(with(b"\x8c\x04axes}\x8c\x02chNs"), "axes.ch: this is no dict");
    assert_eq!(
        with(b"\x8c\x04axes}\x8c\x02ch}\x8c\x04kind\x8c\x03logss"),
        "axes.ch: no kind of axis is called \"log\", only linear and coord"
    );
    assert_eq!(
        with(b"\x8c\x04axes}\x8c\x02ch}(\x8c\x04kind\x8c\x05coord\x8c\x04data]us"),
        "axes.ch.data: this is no array"
    );
    assert_eq!(with(b"\x8c\x05attrs}\x8c\x01a}K\x01K\x02ss"), "attrs.a: a key is no text");
    assert_eq!(with(b"\x8c\x05attrs}(\x8c\x01aN\x8c\x01aNu"), "attrs: two keys are called \"a\"");
}

// JSON

#[test]
fn every_member_may_be_missing() {
    assert_eq!(from_json("{}"), Metadata::default());
    assert_eq!(
        from_json("{}").to_json(),
        r#"{"dims":[],"axes":{},"attrs":{},"key":"","buffered_axis":null,"stream_dim":null}"#
    );
    let axes = from_json(r#"{"axes":{"f":{"kind":"linear"},"ch":{"kind":"coord","data":[1,2]}}}"#).axes;
    assert_eq!(axes[0], ("f".into(), Axis::Linear { unit: String::new(), gain: 1.0, offset: Some(0.0) }));
    let Axis::Coord { unit, dims, data: Some(data) } = &axes[1].1 else { panic!("{:?}", axes[1]) };
    assert_eq!((unit.as_str(), &dims[..], data.shape()), ("", &["ch".to_owned()][..], &[2][..]));
}

#[test]
fn the_buffered_axis_keeps_what_stays() {
    let linear = r#"{"axes":{"time":{"kind":"linear","unit":"s","gain":0.001,"offset":5.0}},"buffered_axis":"time"}"#;
    assert_eq!(from_json(linear).axes[0].1, Axis::Linear { unit: "s".into(), gain: 0.001, offset: None });
    for data in ["", r#","data":[1.0,2.0]"#] {
        let coord = format!(r#"{{"axes":{{"time":{{"kind":"coord","unit":"s"{data}}}}},"buffered_axis":"time"}}"#);
        assert_eq!(
            from_json(&coord).axes[0].1,
            Axis::Coord { unit: "s".into(), dims: vec!["time".into()], data: None }
        );
    }
}

#[test]
fn arrays_are_inferred_as_numpy_would() {
    for (data, dtype, shape) in [
        ("[true,false]", "|b1", &[2][..]),
        ("[1,-2]", "<i8", &[2]),
        ("[1,18446744073709551615]", "<u8", &[2]),
        ("[1,2.5]", "<f8", &[2]),
        ("[-1,18446744073709551615]", "<f8", &[2]),
        (r#"["C3","Fpz","é"]"#, "<U3", &[3]),
        (r#"[""]"#, "<U1", &[1]),
        ("[]", "<f8", &[0]),
        ("[[],[]]", "<f8", &[2, 0]),
        ("[[1,2,3],[4,5,6]]", "<i8", &[2, 3]),
        ("[[[1]],[[2]]]", "<i8", &[2, 1, 1]),
        ("5", "<i8", &[]),
    ] {
        let array = array(&format!(r#"{{"data":{data}}}"#));
        assert_eq!((array.dtype().to_string(), array.shape()), (dtype.into(), shape), "{data}");
    }
    for data in ["[1,[2]]", "[[1],[2,3]]", "[[1],2]", "[1,true]", "[1,\"a\"]", "[null]", "[{}]", "[[1],[]]"] {
        assert!(attr_error(&format!(r#"{{"$array":{{"data":{data}}}}}"#)).starts_with("attrs.a.$array.data"), "{data}");
    }
}

#[test]
fn shapes_of_given_dtypes() {
    assert_eq!(array(r#"{"dtype":"<c8","data":[[1,2],[3,4],["nan",0]]}"#).shape(), [3]);
    assert_eq!(array(r#"{"dtype":"<c8","data":[1,2]}"#).shape(), [0; 0]);
    assert_eq!(array(r#"{"dtype":"<c8","data":[[[1,2]],[[3,4]]]}"#).shape(), [2, 1]);
    assert_eq!(array(r#"{"dtype":[["a","<c8"],["b","u1",[2]]],"data":[[[1,2],[3,4]]]}"#).shape(), [1]);
    assert_eq!(array(r#"{"dtype":"u1","shape":[2,2],"data":[1,2,3,4]}"#).data(), [1, 2, 3, 4]);
    assert_eq!(array(r#"{"dtype":">u2","shape":[1],"data":[258]}"#).data(), [1, 2]);
    assert_eq!(
        array(r#"{"dtype":"<f4","data":[16777217.0000001]}"#).data(),
        16_777_218f32.to_le_bytes(),
        "rounded once"
    );
    assert_eq!(array(r#"{"dtype":"S3","data":["YQ=="]}"#).data(), *b"a\0\0");
}

#[test]
fn mistakes_say_where_they_are() {
    let channels = |members: &str| json_error(&format!(r#"{{"axes":{{"ch":{{"kind":"coord",{members}}}}}}}"#));
    for (sentence, expected) in [
        (json_error("{"), "metadata: no JSON: EOF while parsing an object at line 1 column 1"),
        (json_error("[]"), "metadata: a list is not an object"),
        (
            json_error(r#"{"version":1}"#),
            "version: no such member: here are dims, axes, attrs, key, buffered_axis, stream_dim",
        ),
        (json_error(r#"{"dims":["time",5]}"#), "dims[1]: 5 is not a text"),
        (json_error(r#"{"key":null}"#), "key: null is not a text"),
        (json_error(r#"{"axes":{"f":{}}}"#), "axes.f: an axis is of kind linear or coord: say which"),
        (json_error(r#"{"axes":{"f":{"kind":"log"}}}"#), "axes.f.kind: \"log\" is not linear or coord"),
        (
            json_error(r#"{"axes":{"f":{"kind":"linear","data":[]}}}"#),
            "axes.f.data: no such member: here are kind, unit, gain, offset",
        ),
        (json_error(r#"{"axes":{"f":{"kind":"linear","gain":"1"}}}"#), "axes.f.gain: \"1\" is not a number of 64 bits"),
        (
            json_error(r#"{"axes":{"f":{"kind":"linear","gain":1e+999}}}"#),
            "axes.f.gain: 1e+999 is not a number of 64 bits",
        ),
        (channels(r#""unit":"V""#), "axes.ch: there is no data, which only the buffered axis can do without"),
        (
            channels(r#""data":["a"],"dtype":"<f3""#),
            "axes.ch.dtype: no dtype is called \"<f3\"; one is as <f4, |b1, <U16, |S8, <M8[ns] or int16",
        ),
        (channels(r#""data":["abcd"],"dtype":"<U3""#), "axes.ch.data[0]: \"abcd\" is not what dtype <U3 holds"),
        (channels(r#""data":[1,256],"dtype":"u1""#), "axes.ch.data[1]: 256 is not what dtype |u1 holds"),
        (channels(r#""data":[1.5],"dtype":"i4""#), "axes.ch.data[0]: 1.5 is not what dtype <i4 holds"),
        (channels(r#""data":[1e+39],"dtype":"f4""#), "axes.ch.data[0]: 1e+39 is not what dtype <f4 holds"),
        (channels(r#""data":["!"],"dtype":"S4""#), "axes.ch.data[0]: \"!\" is not base64"),
        (channels(r#""data":["YQ=="],"dtype":"V2""#), "axes.ch.data[0]: 1 bytes are not what dtype |V2 holds"),
        (channels(r#""data":[1,2],"shape":[3]"#), "axes.ch.data: 2 items are not those of shape [3]"),
        (channels(r#""data":[],"shape":[-1]"#), "axes.ch.shape[0]: -1 is not a length"),
        (
            channels(r#""data":[],"shape":[18446744073709551615,2]"#),
            "axes.ch.shape: no array has the shape [18446744073709551615, 2]",
        ),
        (
            channels(r#""data":[["a",1]],"dtype":[["label","<U4"],["x","<f4",[2]]]"#),
            "axes.ch.data[0].x: 1 is not a list",
        ),
        (
            channels(r#""data":[["a"]],"dtype":[["label","<U4"],["x","<f4"]]"#),
            "axes.ch.data[0]: a row of 1 values, where 2 fields are",
        ),
        (
            channels(r#""data":[],"dtype":"O""#),
            "axes.ch.dtype: arrays of objects are not read, only those of plain values",
        ),
        (attr_error(r#"{"$bytes":5}"#), "attrs.a.$bytes: 5 is not a text"),
        (
            attr_error(r#"{"$what":5}"#),
            "attrs.a.$what: this is not $array, $tuple, $bytes, $complex or $float; a name that begins with $ has one $ more",
        ),
        (
            attr_error(r#"{"$tuple":[],"b":5}"#),
            "attrs.a.$tuple: this has no meaning here; a name that begins with $ has one $ more",
        ),
        (attr_error(r#"{"$complex":[1]}"#), "attrs.a.$complex: a list is not a pair of numbers"),
        (attr_error(r#"{"$float":"big"}"#), "attrs.a.$float: \"big\" is not nan, inf or -inf"),
        (attr_error(&format!("[{}]", "9".repeat(5000))), "attrs.a[0]: an integer has too many digits"),
    ] {
        assert_eq!(sentence, expected);
    }
}

#[test]
fn values_keep_their_kind() {
    for text in [
        "null",
        "true",
        "-5",
        "123456789012345678901234567890",
        "0.1",
        "1e300",
        "-0.0",
        "[]",
        r#""\"\\\u0001é""#,
        r#"{"$tuple":[1,{"$tuple":[]}]}"#,
        r#"{"$bytes":"AP8="}"#,
        r#"{"$complex":[1.0,{"$float":"-inf"}]}"#,
        r#"{"$float":"nan"}"#,
        r#"{"$$array":1,"$$$b":{"c":[]}}"#,
        r#"{"$array":{"dtype":"<f2","shape":[2],"data":[0.5,"-inf"]}}"#,
    ] {
        assert_eq!(attr_text(attr(text)), text);
    }
    assert_eq!(attr(r#"{"$$tuple":[]}"#), Value::Dict(vec![("$tuple".into(), Value::List(Vec::new()))]));
    assert_eq!(attr("1.0"), Value::Float(1.0));
    assert_eq!(attr("1"), Value::Int(1));
}
