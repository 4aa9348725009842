//! Tests of analysis; those of splitting are in `chunks`.

mod chunks;

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{Analyzer, KnownTerms, LANGUAGES, words};

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

proptest! {
    #[test]
    fn terms_ascend_and_count_the_stems(text in "\\PC{0,200}") {
        let analyzer = Analyzer::new("english").expect("a known language");
        let vector = analyzer.document(&text);
        prop_assert!(vector.indices.is_sorted_by(|a, b| a < b));
        prop_assert_eq!(vector.sum() as usize, analyzer.stems(&text).count());
        prop_assert_eq!(&vector, &analyzer.query(&text));
    }

    #[test]
    fn words_are_those_of_the_pattern(text in "(?s)[ab_1A-C\\-. éßΣς\u{300}\u{200d}価Ⅷ]{0,30}|.{0,40}") {
        let pattern = regex::Regex::new(r"\w+").expect("a sound pattern");
        let expected: Vec<&str> = pattern.find_iter(&text).map(|word| word.as_str()).collect();
        prop_assert_eq!(words(&text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn known_words_change_no_document(texts in prop::collection::vec("[aAΣσ thes-]{0,40}|.{0,40}", 1..20)) {
        let analyzer = Analyzer::new("english").expect("a known language");
        let mut known = KnownTerms::default();
        for text in &texts {
            prop_assert_eq!(analyzer.next_document(text, &mut known), analyzer.document(text));
        }
    }
}

#[test]
fn known_words_are_bounded_and_long_ones_are_not_kept() {
    let analyzer = Analyzer::new("english").expect("a known language");
    let mut known = KnownTerms::default();
    for number in 0..200_000 {
        let text = format!("word{number} {}", "long".repeat(100));
        let vector = analyzer.next_document(&text, &mut known);
        if number % 1000 == 0 {
            assert_eq!(vector, analyzer.document(&text));
        }
    }
    assert!(known.len() <= 1 << 16, "{} words are kept", known.len());
}
