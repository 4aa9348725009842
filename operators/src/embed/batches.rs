//! Which texts run together.

/// Padding of a batch may be at most one part in this many of its cells: on a CPU a batch of one is as fast per token
/// as a large one, so that padding costs more than a further run.
const PADDING_SHARE: usize = 20;

/// Splits texts into batches: shortest first, each of at most `tokens_max` cells (texts × longest), padding counted,
/// unless a single text is longer; at most one cell in [`PADDING_SHARE`] is padding. Every text is in one batch.
///
/// `lengths` are in tokens; a batch holds places in it. Equal lengths keep their order.
pub(super) fn batches(lengths: &[usize], tokens_max: usize) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|place| lengths[*place]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0; // of the last batch, without padding
    for place in places {
        let length = lengths[place];
        if let Some(batch) = batches.last_mut() {
            let cells = (batch.len() + 1) * length;
            let padding = cells - (tokens + length);
            if cells <= tokens_max && padding * PADDING_SHARE <= cells {
                batch.push(place);
                tokens += length;
                continue;
            }
        }
        batches.push(vec![place]);
        tokens = length;
    }
    batches
}
