//! Drives the fuzz targets with mutations of a stored corpus: a short run in every `cargo test`.
//!
//! `TRIGGERD_FUZZ_CASES` makes the run longer. With cargo-fuzz and a nightly toolchain, the same
//! targets run without a limit: `cargo +nightly fuzz run --fuzz-dir tests/fuzz journal`. Failing
//! inputs belong in the corpus; the short run adds its own.

#![expect(
    clippy::disallowed_methods,
    reason = "tests read the environment where the server must not"
)]
// Always true here. Clippy then takes helpers for tests too.
#![cfg(test)]

mod targets;

mod tests {
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};

    use crate::targets::{TARGETS, Target};

    /// Number of mutations for a target without files; the journal gets a tenth.
    const CASES: u32 = 3_000;
    /// Words known to the parsers.
    const WORDS: [&str; 24] = [
        "\"type\":",
        "\"payload\":",
        "\"dedup_id\":",
        "\"labels\":",
        "\"deliver_after\":",
        "\"data\":",
        "\"data_base64\":",
        "\"specversion\":\"1.0\"",
        "\"id\":",
        "\"source\":",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\\u0000",
        "\\ud800",
        "null",
        "1e999",
        "[server]\n",
        "listen = ",
        "[::1]",
        "http://",
        "@",
    ];
    /// Edge values of the integers in frames and rows.
    const NUMBERS: [u64; 8] = [0, 1, 18, 127, 128, 255, 1 << 24, u64::MAX];

    #[derive(Clone, Debug)]
    enum Mutation {
        Flip(usize, u8),
        Set(usize, u8),
        Word(usize, usize),
        Number(usize, usize, bool),
        Remove(usize, usize),
        Repeat(usize, usize),
        Splice(usize, usize),
        Truncate(usize),
    }

    fn any_mutation() -> impl Strategy<Value = Mutation> {
        let at = any::<usize>;
        prop_oneof![
            4 => (at(), 0u8..8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
            3 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
            3 => (at(), at()).prop_map(|(at, word)| Mutation::Word(at, word)),
            2 => (at(), at(), any::<bool>()).prop_map(|(at, number, wide)| Mutation::Number(at,
            number, wide)),
            2 => (at(), 0usize..40).prop_map(|(at, len)| Mutation::Remove(at, len)),
            1 => (at(), 0usize..200).prop_map(|(at, len)| Mutation::Repeat(at, len)),
            1 => (at(), at()).prop_map(|(at, seed)| Mutation::Splice(at, seed)),
            1 => at().prop_map(Mutation::Truncate),
        ]
    }

    fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation, corpus: &[Vec<u8>]) {
        let len = bytes.len();
        let place = |at: usize| at % (len + 1);
        match *mutation {
            Mutation::Flip(at, bit) if len > 0 => bytes[at % len] ^= 1 << bit,
            Mutation::Set(at, byte) if len > 0 => bytes[at % len] = byte,
            Mutation::Flip(..) | Mutation::Set(..) => {}
            Mutation::Word(at, word) => {
                drop(bytes.splice(place(at)..place(at), WORDS[word % WORDS.len()].bytes()));
            }
            Mutation::Number(at, number, wide) => {
                let number = NUMBERS[number % NUMBERS.len()].to_be_bytes();
                let number = if wide { &number[..] } else { &number[4..] };
                let end = len.min(place(at) + number.len());
                bytes.splice(place(at)..end, number.iter().copied());
            }
            Mutation::Remove(at, count) => drop(bytes.drain(place(at)..len.min(place(at) + count))),
            Mutation::Repeat(at, count) => {
                let again = bytes[place(at)..len.min(place(at) + count)].to_vec();
                bytes.splice(place(at)..place(at), again);
            }
            Mutation::Splice(at, seed) => {
                let other = &corpus[seed % corpus.len()];
                bytes.truncate(place(at));
                bytes.extend_from_slice(&other[place(at).min(other.len())..]);
            }
            Mutation::Truncate(at) => bytes.truncate(place(at)),
        }
    }

    fn corpus_dir() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
    }

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let mut paths: Vec<_> = std::fs::read_dir(corpus_dir().join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    fn cases(name: &str) -> u32 {
        let all = std::env::var("TRIGGERD_FUZZ_CASES")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(CASES);
        if name == "journal" { all / 10 } else { all }
    }

    /// A failing input after shrinking, and the reason.
    type Found = (Vec<u8>, String);

    /// Runs a target on its corpus, then on mutations of the corpus.
    fn drive(target: Target, corpus: &[Vec<u8>], cases: u32) -> Result<(), Found> {
        for bytes in corpus {
            target(bytes);
        }
        let config = Config {
            cases,
            failure_persistence: None,
            max_shrink_iters: 2_000,
            ..Config::default()
        };
        let inputs = (any::<prop::sample::Index>(), prop::collection::vec(any_mutation(), 1..12));
        let inputs = inputs.prop_map(|(seed, mutations)| {
            let mut bytes = seed.get(corpus).clone();
            for mutation in &mutations {
                mutate(&mut bytes, mutation, corpus);
            }
            bytes
        });
        let ran = TestRunner::new(config).run(&inputs, |bytes| {
            std::panic::catch_unwind(|| target(&bytes))
                .map_err(|_panic| TestCaseError::fail("it panicked"))
        });
        ran.map_err(|error| match error {
            TestError::Fail(why, bytes) => (bytes, why.to_string()),
            TestError::Abort(why) => (Vec::new(), why.to_string()),
        })
    }

    /// Adds a failing input to the corpus. Returns a message with its file.
    fn keep(name: &str, found: &Found) -> String {
        let (bytes, why) = found;
        let file = corpus_dir().join(name).join(format!("found-{:08x}", crc32fast::hash(bytes)));
        std::fs::write(&file, bytes).unwrap();
        format!("{name}: {why}; kept as {}", file.display())
    }

    #[test]
    fn parsers_stand_up_to_anything() {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(corpus.len() >= 3, "a corpus for {name}");
            if let Err(found) = drive(target, &corpus, cases(name)) {
                panic!("{}", keep(name, &found));
            }
            println!("{name}: {} inputs of the corpus, {} mutations", corpus.len(), cases(name));
        }
    }

    /// The negative control: the fuzzer finds a fault behind two conditions.
    #[test]
    fn a_planted_fault_is_found() {
        fn planted(bytes: &[u8]) {
            let twice = bytes.windows(10).filter(|window| window == b"\"payload\":").count() >= 2;
            assert!(!(twice && bytes.contains(&0xff)), "planted");
        }
        let found = drive(planted, &corpus("event"), 20_000);
        assert!(found.as_ref().is_err_and(|error| error.1.contains("it panicked")), "{found:?}");
    }
}
