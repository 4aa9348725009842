//! Tests of analysis and splitting.

use std::num::NonZeroUsize;
use std::ops::Range;

use proptest::prelude::*;
use tokenizers::Tokenizer;
use xxhash_rust::xxh3::xxh3_64;

use super::{Analyzer, ChunkSettings, Chunker, LANGUAGES, TextError};

fn stems(language: &str, text: &str) -> Vec<String> {
    Analyzer::new(language).expect("a known language").stems(text).collect()
}

#[test]
fn words_are_lower_cased_stopped_and_stemmed() {
    assert_eq!(stems("english", "The Cancellations, and it's the BILLING!"), ["cancel", "s", "bill"]);
    assert_eq!(stems("english", "x86_64 naïve 価格 42"), ["x86_64", "naïv", "価格", "42"]);
    assert_eq!(stems("german", "Die Häuser und der Straßenverkäufer"), ["haus", "strassenverkauf"]);
    assert_eq!(stems("french", "L'abonnement n'est pas résilié"), ["abon", "résili"]);
    assert_eq!(stems("finnish", "talossa"), ["talo"]);
    assert_eq!(stems("english", "to be or not to be"), Vec::<String>::new());
}

#[test]
fn documents_are_counted_by_term() {
    let analyzer = Analyzer::new("english").expect("a known language");
    let vector = analyzer.document("Bills, billing and billed: a refund");
    let mut expected = [(xxh3_64(b"bill"), 3.0), (xxh3_64(b"refund"), 1.0)];
    expected.sort_by_key(|(term, _)| *term);
    assert_eq!(vector.iter().collect::<Vec<_>>(), expected);
    assert_eq!(analyzer.query("refund bill refund").sum(), 3.0);
    assert!(analyzer.document(" – ").indices.is_empty());
}

#[test]
fn an_unknown_language_lists_the_known_ones() {
    let error = Analyzer::new("klingon").expect_err("not a language of Snowball");
    assert_eq!(error.to_string().split(';').next(), Some("language \"klingon\" is not known"));
    for (name, _) in LANGUAGES {
        assert!(error.to_string().contains(name));
        Analyzer::new(name).expect("a listed language");
    }
}

/// Words as BERT sees them, each character a token: "cat, dog" is c ##a ##t , d ##o ##g.
fn wordpiece() -> Tokenizer {
    let letters = "abcdefghijklmnopqrstuvwxyz0123456789,.!'";
    let pieces = letters.chars().flat_map(|c| [c.to_string(), format!("##{c}")]);
    let names = std::iter::once("[UNK]".to_owned()).chain(pieces);
    let vocab: serde_json::Map<_, _> = names.enumerate().map(|(id, name)| (name, id.into())).collect();
    tokenizer(serde_json::json!({
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100},
    }))
}

/// Each byte a token: most characters are more than one.
fn bytes() -> Tokenizer {
    let mut alphabet: Vec<char> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().collect();
    alphabet.sort_unstable();
    let vocab: serde_json::Map<_, _> =
        alphabet.iter().enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
    tokenizer(serde_json::json!({
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    }))
}

fn tokenizer(mut json: serde_json::Value) -> Tokenizer {
    json["version"] = "1.0".into();
    json["added_tokens"] = serde_json::json!([]);
    Tokenizer::from_bytes(json.to_string()).expect("a sound tokenizer")
}

fn settings(tokens_max: usize, overlap: usize) -> ChunkSettings {
    ChunkSettings { tokens_max: NonZeroUsize::new(tokens_max).expect("positive"), overlap }
}

fn split<'a>(tokenizer: &Tokenizer, text: &'a str, tokens_max: usize, overlap: usize) -> Vec<&'a str> {
    let chunker = Chunker::new(tokenizer, settings(tokens_max, overlap)).expect("sound settings");
    chunker.chunks(text).expect("a readable text").into_iter().map(|range| &text[range]).collect()
}

#[test]
fn windows_hold_whole_words_and_share_some() {
    let words = wordpiece();
    assert_eq!(split(&words, "one two, three four", 6, 0), ["one two", ", three ", "four"]);
    assert_eq!(split(&words, "one two six ten", 6, 3), ["one two ", "two six ", "six ten"]);
    assert_eq!(split(&words, "one two six ten", 6, 2), ["one two ", "six ten"]);
    // The shared word would leave no room for the long one.
    assert_eq!(split(&words, "one two fours ten", 6, 3), ["one two ", "fours ", "ten"]);
    assert_eq!(split(&words, "  one two  ", 6, 3), ["  one two  "]);
    assert_eq!(split(&words, " ", 6, 3), [" "]);
    assert_eq!(split(&words, "", 6, 3), [""]);
}

#[test]
fn a_word_longer_than_a_window_is_cut_between_its_tokens() {
    assert_eq!(split(&wordpiece(), "a abcdefgh b", 4, 1), ["a abc", "cdef", "fgh b"]);
    // Four bytes a character: never cut inside, even where one alone is too long.
    assert_eq!(split(&bytes(), "😀😀a", 3, 0), ["😀", "😀", "a"]);
}

#[test]
fn without_windows_a_text_is_one_chunk() {
    let text = "one two three";
    let whole = std::iter::once(0..text.len()).collect();
    assert_eq!(Chunker::whole().chunks(text), Ok(whole));
}

#[test]
fn windows_must_move_on() {
    let error = Chunker::new(&wordpiece(), settings(4, 4)).expect_err("no step forward");
    assert_eq!(error, TextError::Overlap { tokens_max: 4, overlap: 4 });
}

/// Tokens of the text's own tokenisation that start in a range.
fn tokens_in(offsets: &[(usize, usize)], range: &Range<usize>) -> usize {
    offsets.iter().filter(|(start, _)| range.contains(start)).count()
}

fn check_contract(tokenizer: &Tokenizer, text: &str, tokens_max: usize, overlap: usize, char_tokens: usize) {
    let chunker = Chunker::new(tokenizer, settings(tokens_max, overlap)).expect("sound settings");
    let ranges = chunker.chunks(text).expect("a readable text");
    let encoding = tokenizer.encode(text, false).expect("a readable text");
    let offsets = encoding.get_offsets();
    assert_eq!(ranges.first().map(|range| range.start), Some(0));
    assert_eq!(ranges.last().map(|range| range.end), Some(text.len()));
    for range in &ranges {
        assert!(text.is_char_boundary(range.start) && text.is_char_boundary(range.end));
        let tokens = tokens_in(offsets, range);
        assert!(tokens <= tokens_max.max(char_tokens), "{tokens} tokens in {range:?}");
    }
    for pair in ranges.windows(2) {
        assert!(pair[0].start < pair[1].start && pair[0].end < pair[1].end, "{pair:?}");
        assert!(pair[1].start <= pair[0].end, "gap in {pair:?}");
        let shared = tokens_in(offsets, &(pair[1].start..pair[0].end));
        assert!(shared <= overlap, "{shared} tokens shared by {pair:?}");
    }
    if offsets.len() <= tokens_max {
        assert_eq!(ranges.len(), 1);
    }
    check_words(&encoding, &ranges, tokens_max);
    assert_eq!(chunker.chunks(text).as_ref(), Ok(&ranges));
}

/// No range ends inside a word that fits into a window.
fn check_words(encoding: &tokenizers::Encoding, ranges: &[Range<usize>], tokens_max: usize) {
    let (words, offsets) = (encoding.get_word_ids(), encoding.get_offsets());
    for word in words.iter().flatten() {
        let tokens: Vec<_> = (0..words.len()).filter(|token| words[*token] == Some(*word)).collect();
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { continue };
        let inside = offsets[*first].0 + 1..offsets[*last].0 + 1;
        if tokens.len() <= tokens_max {
            let cut =
                ranges.iter().flat_map(|range| [range.start, range.end]).find(|cut| inside.contains(cut));
            assert_eq!(cut, None, "inside word {word}");
        }
    }
}

proptest! {
    #[test]
    fn chunks_keep_their_contract_on_words(
        text in "([a-z]{1,12}|[ \\n]{1,3}|[,.!']|é|中|[0-9]){0,60}", tokens_max in 1_usize..20, overlap in 0_usize..20,
    ) {
        let words = wordpiece();
        check_contract(&words, &text, tokens_max, overlap % tokens_max, 1);
        // A chunk by itself is not longer than it was as a part.
        for chunk in split(&words, &text, tokens_max, overlap % tokens_max) {
            let tokens = words.encode(chunk, false).expect("a readable text").len();
            prop_assert!(tokens <= tokens_max);
        }
    }

    #[test]
    fn chunks_keep_their_contract_on_any_text(text in "\\PC{0,80}", tokens_max in 1_usize..12, overlap in 0_usize..12) {
        // One character can be several words after normalisation (½ → 1 ⁄ 2, ﷺ → 18 letters).
        check_contract(&wordpiece(), &text, tokens_max, overlap % tokens_max, 32);
        check_contract(&bytes(), &text, tokens_max, overlap % tokens_max, 4);
    }

    #[test]
    fn terms_ascend_and_count_the_stems(text in "\\PC{0,200}") {
        let analyzer = Analyzer::new("english").expect("a known language");
        let vector = analyzer.document(&text);
        prop_assert!(vector.indices.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(vector.sum() as usize, analyzer.stems(&text).count());
        prop_assert_eq!(&vector, &analyzer.query(&text));
    }
}
