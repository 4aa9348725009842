//! Text → words.

/// The words of a text, in order: longest runs of word characters, `\w+` over Unicode (UTS #18, Annex C).
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

fn is_word(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || c == '_',
        false => regex_syntax::is_word_character(c),
    }
}
