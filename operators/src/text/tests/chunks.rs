//! Tests of splitting.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;

use proptest::prelude::*;
use tokenizers::Tokenizer;

use crate::text::endings::{Ending, boundaries};
use crate::text::{ChunkSettings, Chunker, TextError};

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

#[test]
fn sentences_and_paragraphs_begin_where_words_do() {
    let text = "One is 3.5 long. Two?\n Three\n \n  four! \u{201c}Five.\u{201d} Six\r\n\r\nseven";
    let found: Vec<_> = boundaries(text).into_iter().map(|b| (&text[b.at..], b.rank.ending())).collect();
    let starts: Vec<&str> =
        found.iter().map(|(rest, _)| rest.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(starts, ["Two?", "Three", "four!", "\u{201c}Five.\u{201d}", "Six", "seven"]);
    let paragraphs: Vec<usize> =
        (0..found.len()).filter(|&number| found[number].1 == Ending::Paragraph).collect();
    assert_eq!(paragraphs, [2, 5]);
    assert!(
        boundaries("").is_empty() && boundaries(" \n\n ").is_empty() && boundaries("\n\n one").is_empty()
    );
}

#[test]
fn windows_end_with_paragraphs_then_sentences_in_their_last_third() {
    let words = wordpiece();
    // Twelve tokens fit: `aa` is two, `.` one. The last third begins behind the eighth.
    assert_eq!(split(&words, "aa bb cc dd. Ee ff gg hh", 12, 0), ["aa bb cc dd. ", "Ee ff gg hh"]);
    // A sentence that ends before the last third does not count.
    assert_eq!(split(&words, "aa bb. Cc dd ee ff gg", 12, 0), ["aa bb. Cc dd ee ", "ff gg"]);
    // A paragraph is better than the sentence behind it.
    assert_eq!(split(&words, "aa bb cc dd\n\nee. Ff gg hh", 12, 0), ["aa bb cc dd\n\n", "ee. Ff gg hh"]);
    // The overlap reaches back over the boundary.
    assert_eq!(split(&words, "aa bb cc dd. Ee ff gg hh", 12, 3), ["aa bb cc dd. ", "dd. Ee ff gg hh"]);
}

/// splitmix64: the same sequence everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Sentences of 4 to 12 words of 2 tokens.
    fn paragraph(&mut self, sentences: Range<u64>) -> String {
        let sentences = sentences.start + self.below(sentences.end - sentences.start);
        let sentence = |random: &mut Self| {
            let word = |random: &mut Self| {
                let letter = |random: &mut Self| char::from(b'a' + random.below(26) as u8);
                String::from_iter([letter(random), letter(random)])
            };
            let words: Vec<String> = (0..4 + random.below(9)).map(|_| word(random)).collect();
            // A sentence begins with a capital, or it goes on behind a full stop.
            format!("Q{}.", words.join(" "))
        };
        let sentences: Vec<String> = (0..sentences).map(|_| sentence(self)).collect();
        sentences.join(" ")
    }
}

/// Chunks embedded again beyond those that overlap the paragraph that changed: at most, and on average. They stand
/// between the change and the next anchors, which are one to some five windows away.
const BEYOND_MAX: usize = 8;
const BEYOND_MEAN: f64 = 2.0;

#[test]
fn a_change_of_a_paragraph_moves_few_windows() {
    let words = wordpiece();
    for sentences in [1..3, 2..8, 10..30] {
        let mut random = Random(sentences.start);
        let (mut beyond, mut tokens) = (Vec::new(), Vec::new());
        for round in 0..90 {
            let mut paragraphs: Vec<String> = (0..40).map(|_| random.paragraph(sentences.clone())).collect();
            let text = paragraphs.join("\n\n");
            let old: BTreeSet<&str> = split(&words, &text, 100, 20).into_iter().collect();
            tokens.extend(old.iter().map(|chunk| words.encode(*chunk, false).expect("readable").len()));
            let place = 10 + random.below(20) as usize;
            let fresh = random.paragraph(sentences.clone());
            match round % 3 {
                0 => paragraphs[place].clone_from(&fresh),
                1 => paragraphs.insert(place, fresh.clone()),
                _ => drop(paragraphs.remove(place)),
            }
            let at: usize = paragraphs[..place].iter().map(|paragraph| paragraph.len() + 2).sum();
            // What is removed leaves a seam.
            let changed = at..at + if round % 3 == 2 { 0 } else { fresh.len() };
            let text = paragraphs.join("\n\n");
            let chunker = Chunker::new(&words, settings(100, 20)).expect("sound settings");
            let new = chunker.chunks(&text).expect("a readable text");
            let again = new.iter().filter(|range| !old.contains(&text[(*range).clone()]));
            let apart = |range: &&Range<usize>| range.end < changed.start || changed.end < range.start;
            beyond.push(again.filter(apart).count());
        }
        let most = beyond.iter().copied().max().unwrap_or_default();
        let mean = beyond.iter().sum::<usize>() as f64 / beyond.len() as f64;
        assert!(most <= BEYOND_MAX && mean <= BEYOND_MEAN, "{most} at most, {mean} on average: {beyond:?}");
        // Stability is not bought with small chunks.
        let mean = tokens.iter().sum::<usize>() as f64 / tokens.len() as f64;
        assert!(mean >= 70.0, "{mean} tokens on average");
    }
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
        text in "([a-z]{1,12}|[ \\n]{1,3}|[,.!']|\\. Q|\\n\\n|é|中|[0-9]){0,60}", tokens_max in 1_usize..20, overlap in 0_usize..20,
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
}
